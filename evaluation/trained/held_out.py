"""Losses on held-out batches, by modality, with noise fixed per picture.

Shapes: R rows, L targets, N denoised pictures.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from evaluation.bootstrap import mean_draws
from evaluation.metric import Metric
from evaluation.metrics.perplexity import perplexity, unigram_perplexity
from mot_lab.batch import MultimodalBatch
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.interface import TEXT, Codes
from mot_lab.expert_load import ExpertTally
from mot_lab.losses import token_losses
from mot_lab.model import MultimodalModel

SCENE_SPLITS = {"val": "validation", "test": "unseen combinations", "unseen": "unseen emojis"}
OWN_SPLITS = {"val": "validation", "test": "test split"}
FLOOR_BATCHES = 20


@dataclass(frozen=True)
class TokenNats:
    """Of the predicted tokens of one modality, row by row.

    Attributes:
        nats_R: summed over each row's predicted tokens.
        counts_R: how many these are.
    """

    nats_R: np.ndarray
    counts_R: np.ndarray


@dataclass(frozen=True)
class HeldOutLosses:
    """Of one split under one routing.

    Attributes:
        tokens: by discrete modality.
        errors: denoising errors of each picture [N], by denoised modality.
    """

    tokens: Mapping[str, TokenNats]
    errors: Mapping[str, np.ndarray]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that occur."""
        counted = [name for name, each in self.tokens.items() if each.counts_R.any()]
        return (*counted, *(name for name, errors_N in self.errors.items() if len(errors_N)))

    def mean(self, modality: str) -> float:
        """Nats per token, or denoising error per picture."""
        if modality in self.errors:
            return float(self.errors[modality].mean())
        nats = self.tokens[modality]
        return float(nats.nats_R.sum() / nats.counts_R.sum())

    def count(self, modality: str) -> int:
        """Predicted tokens, or pictures."""
        if modality in self.errors:
            return len(self.errors[modality])
        return int(self.tokens[modality].counts_R.sum())


@torch.no_grad()
def held_out_losses(
    net: MultimodalModel, batches: Iterable[MultimodalBatch], tally: ExpertTally | None = None
) -> HeldOutLosses:
    """Losses under the routing that is switched on; ``tally`` counts what the experts took."""
    device = next(net.parameters()).device
    names = net.transformer.wiring.modalities
    discrete = [name for name in names if name != net.diffused]
    nats: dict[str, list[float]] = {name: [] for name in discrete}
    counts: dict[str, list[int]] = {name: [] for name in discrete}
    errors: list[float] = []
    for batch in batches:
        batch = batch.to(device)
        output = net(batch)
        assert output.logits_LV is not None
        nats_L = token_losses(output.logits_LV, batch.target_L).double()
        rows, length = batch.token_BS.shape
        row_L = batch.target_place_L // length
        for i, name in enumerate(names):
            if name in nats:
                own = batch.target_modality_L == i
                nats[name] += torch.bincount(row_L[own], nats_L[own], minlength=rows).tolist()
                counts[name] += torch.bincount(row_L[own], minlength=rows).tolist()
        if net.diffusion is not None:
            assert output.prediction_NCHW is not None
            errors_N = net.diffusion.image_losses(
                output.prediction_NCHW, batch.latents_NCHW, batch.noise_NCHW
            )
            errors += errors_N.double().tolist()
        if tally is not None:
            tally.add(net, batch)
    return HeldOutLosses(
        {name: TokenNats(np.array(nats[name]), np.array(counts[name])) for name in discrete},
        {net.diffused: np.array(errors)} if net.diffused is not None else {},
    )


def loss_metrics(
    losses: HeldOutLosses, split: str, routing: str, data: MultimodalDataModule, objective: str
) -> list[Metric]:
    """Perplexity or diffusion loss of each modality; their names end in the routing where it leaks.

    Args:
        losses: of the split.
        split: a held-out one.
        routing: ``none``, ``causal`` or ``training``, as in `evaluation.trained.routing.routings`.
        data: gives the vocabularies, and the perplexity of knowing a modality's tokens alone.
        objective: of the diffusion head.
    """
    leaks = routing == "training"
    named = OWN_SPLITS if data.config.own else SCENE_SPLITS
    where = f"({named[split]})" + (", training routing" if leaks else "")
    seen = "; training routing, which sees later tokens" if leaks else ""
    metrics = []
    for name in losses.modalities:
        if name in losses.errors:
            errors_N = losses.errors[name]
            metric = Metric.sampled(
                f"diffusion loss {where}",
                losses.mean(name),
                mean_draws(errors_N),
                len(errors_N),
                f"error of the {objective} target, noise fixed{seen}",
                None,
                None,
                "n counts pictures; lower is better",
            )
        else:
            metric = perplexity(
                losses.tokens[name].nats_R,
                losses.tokens[name].counts_R,
                vocabulary(data, name) + seen,
                f"{'' if name == TEXT else name + ' '}perplexity {where}",
                floor=_unigram_floor(data, split, name),
            )
        metrics.append(metric)
    return metrics


def vocabulary(data: MultimodalDataModule, modality: str) -> str:
    """What the tokens of a discrete modality are, in words."""
    if modality == TEXT:
        texts = data.prepared.texts
        of = "all texts" if data.config.own else "captions and prose"
        return f"{texts.kind} of {texts.vocab_size} tokens, {of}"
    part = data.interface.others[modality]
    assert isinstance(part, Codes)
    return f"{part.size} codes of the {modality} tokenizer"


def _unigram_floor(data: MultimodalDataModule, split: str, modality: str) -> float:
    interface = data.interface
    number = interface.modalities.index(modality)
    first, size = 0, interface.text_vocabulary
    if modality != TEXT:
        part = interface.others[modality]
        assert isinstance(part, Codes)
        first, size = interface.first_code(modality), part.size

    def targets(batches: Iterable[MultimodalBatch]) -> np.ndarray:
        own = [batch.target_L[batch.target_modality_L == number] for batch in batches]
        return torch.cat(own).numpy() - first

    training = targets(data.train_loader(FLOOR_BATCHES))
    return unigram_perplexity(training, targets(data.held_out_loader(split)), size)
