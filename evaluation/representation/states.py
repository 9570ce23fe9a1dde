"""The residual stream at every depth, read by hooks beside the unchanged forward pass.

Shapes: K depths, N sampled tokens, C of them in one batch, T tokens in grouped order, D width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.representation.sample import TokenSample
from mot_lab.backbones.transformer import Transformer
from mot_lab.batch import MultimodalBatch
from mot_lab.model import MultimodalModel


def depth_names(layers: int) -> tuple[str, ...]:
    """What the depths are called: the input of the first block, the output of each, the final norm.

    Example:
        >>> depth_names(2)
        ('embedding', 'block 1', 'block 2', 'final norm')
    """
    return ("embedding", *(f"block {i}" for i in range(1, layers + 1)), "final norm")


@torch.no_grad()
def hidden_states(
    net: MultimodalModel,
    batches: Sequence[MultimodalBatch],
    sample: TokenSample,
    noised: bool = False,
) -> np.ndarray:
    """Hidden states of the sampled tokens, float32 [K, N, D], in the order of the sample.

    Whole batches go through the network, under the routing that is switched on; only the sampled
    tokens are kept.

    Args:
        net: of any arm.
        batches: that the sample was drawn from.
        sample: the tokens.
        noised: denoised pictures as validation feeds them, with the batch's noise and noise levels.
            Else clean, at noise level 0, as they are read in a prompt: the noise level differs
            from picture to picture and would be one more difference between the tokens.

    Raises:
        ValueError: states that are not finite.
    """
    device = next(net.parameters()).device
    parts = []
    for number, batch in enumerate(batches):
        place_C = torch.from_numpy(sample.place_N[sample.batch_N == number]).to(device)
        if not place_C.numel():
            continue
        batch = batch.to(device) if noised else _clean(batch.to(device))
        with _picking(net.transformer, place_C) as picked:
            net.hidden(batch, _fed(net, batch) if noised else batch.latents_NCHW)
        parts.append(torch.stack(picked).float().cpu())
    states_KND = torch.cat(parts, dim=1).numpy()
    for name, states_ND in zip(depth_names(len(net.transformer.blocks)), states_KND, strict=True):
        if not np.isfinite(states_ND).all():
            raise ValueError(f"hidden states of {name} are not finite: the model has diverged")
    return states_KND


def _clean(batch: MultimodalBatch) -> MultimodalBatch:
    return replace(batch, time_N=torch.zeros_like(batch.time_N))


def _fed(net: MultimodalModel, batch: MultimodalBatch) -> Tensor:
    if net.diffusion is None:
        return batch.latents_NCHW
    return net.diffusion.add_noise(batch.latents_NCHW, batch.noise_NCHW, batch.time_N)


@contextmanager
def _picking(transformer: Transformer, place_C: Tensor) -> Iterator[list[Tensor]]:
    """Inside, one forward pass leaves the states [C, D] of every depth at flat places."""
    picked: list[Tensor] = []

    def pick(x_TD: Tensor, arguments: tuple[Any, ...]) -> None:
        groups = arguments[1]  # every hooked module is called as (x_TD, groups, ..)
        picked.append(x_TD[groups.places(place_C)])

    first, final_norm = transformer.blocks[0], transformer.final_norm
    hooks = [
        first.register_forward_pre_hook(lambda _, arguments: pick(arguments[0], arguments)),
        *(
            module.register_forward_hook(lambda _, arguments, output: pick(output, arguments))
            for module in [*transformer.blocks, final_norm]
        ),
    ]
    try:
        yield picked
    finally:
        for hook in hooks:
            hook.remove()
