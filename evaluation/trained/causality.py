"""A black-box probe: does what comes later, or stands in another row, change what came before?

Batches are changed behind random cuts and the network's answers before the cuts are compared. It
knows nothing of the network but that it answers a batch, so it holds for any arm and any routing.

Shapes: B rows, S positions, K compared places, N images, V vocabulary, C x H x W latents.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from evaluation.trained.routing import routings
from mot_lab.backbones.transformer import Routing
from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import TEXT
from mot_lab.model import MultimodalModel

TOLERANCE = 1e-4
TRIALS = 4  # per batch


@dataclass(frozen=True)
class Causality:
    """What the probe found under one routing.

    Attributes:
        routing: ``training`` or ``causal``, ``none`` without experts.
        positions: places whose next-token logits, and images whose denoising prediction, were
            compared; each once per trial in which it lay before the cut.
        changed: of these, by more than 1e-4 in any logit or latent value.
        largest: largest change of any of them.
        leaks: whether ``largest`` is above 1e-4. The probe computes in float64, where rounding is
            some 1e-14, so that what is found is not noise.
    """

    routing: str
    positions: int
    changed: int
    largest: float
    leaks: bool


def probe_causality(
    net: MultimodalModel, batches: Iterable[MultimodalBatch], seed: int = 0
) -> list[Causality]:
    """Probe a network under every routing it can be evaluated under.

    Args:
        net: of any arm.
        batches: held-out ones.
        seed: of the cuts and of what stands behind them.

    Raises:
        ValueError: no batch has a place to cut at, or an answer is not finite.
    """
    exact = deepcopy(net).double()
    device = next(net.parameters()).device
    batches = [_double(batch.to(device)) for batch in batches]
    found = []
    for name in routings(net):
        rng = np.random.default_rng(seed)
        routing = "training" if name == "none" else name
        with torch.no_grad(), exact.transformer.routing(cast(Routing, routing)):
            trials = [_trial(exact, batch, rng) for batch in batches for _ in range(TRIALS)]
        changes = torch.cat(trials)
        if not len(changes):
            raise ValueError("no batch has a place to cut at: nothing can be probed")
        if not changes.isfinite().all():
            raise ValueError(f"answers of the network are not finite (routing: {name})")
        largest = float(changes.max())
        changed = int((changes > TOLERANCE).sum())
        found.append(Causality(name, len(changes), changed, largest, largest > TOLERANCE))
    return found


def causality_record(found: list[Causality]) -> list[dict[str, Any]]:
    """What ``evaluation.json`` says under ``causality``."""
    return [asdict(each) for each in found]


def _trial(net: MultimodalModel, batch: MultimodalBatch, rng: np.random.Generator) -> Tensor:
    """Changes of the answers before one random cut, one number per place or image."""
    past_BS = _past(batch, rng)
    other = _replaced(batch, ~past_BS, rng)
    return _compared(net, batch, other, past_BS)


def _past(batch: MultimodalBatch, rng: np.random.Generator) -> Tensor:
    """bool [B, S]: what stays. Up to and with a random cut in half of the rows, which are drawn
    anew each time, and nothing in the others: they are the other rows of the first.

    A cut lies behind a place that holds no image patch, or behind the last patch of an image:
    patches of one image see each other by right.
    """
    rows, length = batch.token_BS.shape
    past_BS = torch.zeros(rows, length, dtype=torch.bool, device=batch.token_BS.device)
    image_BS = batch.image_BS.cpu()
    real_BS = batch.modality_BS.cpu() >= 0
    inside_BS = (image_BS[:, :-1] >= 0) & (image_BS[:, :-1] == image_BS[:, 1:])
    for row in rng.permutation(rows)[: (rows + 1) // 2]:
        # not behind the last token of a row: nothing of it would be left to replace
        allowed = (~inside_BS[row] & real_BS[row, 1:]).nonzero()[:, 0]
        if len(allowed):
            past_BS[row, : int(rng.choice(allowed.numpy())) + 1] = True
    return past_BS


def _replaced(
    batch: MultimodalBatch, future_BS: Tensor, rng: np.random.Generator
) -> MultimodalBatch:
    """Other tokens, pictures, noise and noise levels wherever ``future_BS`` is true. Lengths and
    modalities stay, so that every place keeps its tower and its neighbours.
    """
    device = batch.token_BS.device
    vocabulary = int(batch.token_BS.max()) + 1
    step_BS = rng.integers(1, max(vocabulary, 2), tuple(batch.token_BS.shape))
    other_BS = (batch.token_BS + torch.from_numpy(step_BS).to(device)) % max(vocabulary, 2)
    token_BS = torch.where(future_BS & ~_patches(batch), other_BS, batch.token_BS)
    later_N = future_BS.flatten()[_first_patch(batch)]
    latents, noise = (
        torch.from_numpy(rng.standard_normal(tuple(batch.latents_NCHW.shape))).to(device)
        for _ in range(2)
    )
    time_N = torch.from_numpy(rng.integers(1000, size=batch.num_images) / 1000).to(device)
    later_N111 = later_N[:, None, None, None]
    return replace(
        batch,
        token_BS=token_BS,
        latents_NCHW=torch.where(later_N111, latents, batch.latents_NCHW),
        noise_NCHW=torch.where(later_N111, noise, batch.noise_NCHW),
        time_N=torch.where(later_N, time_N, batch.time_N),
    )


def _compared(
    net: MultimodalModel, batch: MultimodalBatch, other: MultimodalBatch, past_BS: Tensor
) -> Tensor:
    """Largest change of the next-token logits at each past place that holds a token, then of the
    prediction of each past image.
    """
    place_K = (past_BS & ~_patches(batch)).flatten().nonzero()[:, 0]
    one, two = (net(_asked_at(each, place_K)) for each in (batch, other))
    assert one.logits_LV is not None and two.logits_LV is not None
    changes = [one.logits_LV - two.logits_LV]
    if one.prediction_NCHW is not None and two.prediction_NCHW is not None:
        past_N = past_BS.flatten()[_first_patch(batch)]
        changes.append((one.prediction_NCHW - two.prediction_NCHW)[past_N])
    return torch.cat([each.flatten(1).abs().amax(dim=1).cpu() for each in changes])


def _asked_at(batch: MultimodalBatch, place_K: Tensor) -> MultimodalBatch:
    """The batch with a prediction at these places and nowhere else; targets are of no matter."""
    return replace(
        batch,
        target_place_L=place_K,
        target_L=torch.zeros_like(place_K),
        target_modality_L=torch.zeros_like(place_K),
        target_counts={name: len(place_K) * (name == TEXT) for name in batch.target_counts},
    )


def _patches(batch: MultimodalBatch) -> Tensor:
    """bool [B, S]: places that hold an image patch."""
    flat_N = torch.zeros(batch.token_BS.numel(), dtype=torch.bool, device=batch.token_BS.device)
    flat_N[batch.patch_place_M] = True
    return flat_N.view(batch.token_BS.shape)


def _first_patch(batch: MultimodalBatch) -> Tensor:
    """Flat place of the first patch of each image [N]."""
    if not batch.num_images:
        return batch.patch_place_M
    return batch.patch_place_M.view(batch.num_images, -1)[:, 0]


def _double(batch: MultimodalBatch) -> MultimodalBatch:
    return replace(
        batch,
        latents_NCHW=batch.latents_NCHW.double(),
        noise_NCHW=batch.noise_NCHW.double(),
        time_N=batch.time_N.double(),
    )
