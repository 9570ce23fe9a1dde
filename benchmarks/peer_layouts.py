"""How other codes give each token its modality's weights, each in a few lines, over one block.

Every layout computes the function of `mot_lab.backbones.transformer.Block` with its weights, in
sequence order, projection by projection as its source does; ours sorts the tokens once per batch.

* boolean masks: the MoT paper's playbook (facebookresearch/Mixture-of-Transformers), made
  runnable: its ``merge_modalities`` allocates for modality 0 alone.
* gather and scatter: BAGEL (ByteDance-Seed/Bagel, qwen2_navit.py), with indices made once.
* both towers and ``where``: the LMFusion re-implementation (nkkbr/LMFusionQwen3).

Shapes: B rows, S positions, N = B * S places, D width, H heads, E head width.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mot_lab.backbones.attending import attend
from mot_lab.backbones.attention import AttentionContext, QKNorm, rotate
from mot_lab.backbones.transformer import Block

TowerFunction = Callable[[nn.Module, Tensor], Tensor]
Layout = Callable[[Sequence[nn.Module], TowerFunction, Tensor], Tensor]


def boolean_masks(masks_MN: Sequence[Tensor]) -> Layout:
    """Index by mask, compute, merge by mask; one modality after the other."""

    def apply(modules: Sequence[nn.Module], function: TowerFunction, x_N: Tensor) -> Tensor:
        outputs = [function(m, x_N[mask]) for m, mask in zip(modules, masks_MN, strict=True)]
        merged = outputs[0].new_zeros(len(x_N), *outputs[0].shape[1:])
        for mask_N, output in zip(masks_MN, outputs, strict=True):
            merged[mask_N] = output
        return merged

    return apply


def gather_scatter(masks_MN: Sequence[Tensor]) -> Layout:
    """Gather by index, compute, scatter into zeros."""
    places = [mask_N.nonzero()[:, 0] for mask_N in masks_MN]

    def apply(modules: Sequence[nn.Module], function: TowerFunction, x_N: Tensor) -> Tensor:
        outputs = [function(m, x_N[place]) for m, place in zip(modules, places, strict=True)]
        merged = outputs[0].new_zeros(len(x_N), *outputs[0].shape[1:])
        for place, output in zip(places, outputs, strict=True):
            merged[place] = output
        return merged

    return apply


def both_and_where(masks_MN: Sequence[Tensor]) -> Layout:
    """Every tower on every token, then a choice."""

    def apply(modules: Sequence[nn.Module], function: TowerFunction, x_N: Tensor) -> Tensor:
        merged, *others = [function(module, x_N) for module in modules]
        for mask_N, output in zip(masks_MN[1:], others, strict=True):
            merged = torch.where(mask_N.view(-1, *[1] * (output.dim() - 1)), output, merged)
        return merged

    return apply


PEERS: Mapping[str, Callable[[Sequence[Tensor]], Layout]] = {
    "boolean_masks": boolean_masks,
    "gather_scatter": gather_scatter,
    "both_and_where": both_and_where,
}


def peer_block(
    block: Block, apply: Layout, context_N: AttentionContext, shape_BS: tuple[int, int]
) -> Callable[[Tensor], Tensor]:
    """A pre-norm block of separate towers in a peer's layout: [N, D] -> [N, D].

    Args:
        block: whose weights are used.
        apply: the layout.
        context_N: mask of whole rows and rotary angles in sequence order.
        shape_BS: (B, S).
    """
    attention, heads = block.attention, block.attention.shape.heads

    def towers(of: nn.Module) -> list[nn.Module]:
        return list(of.tower.values())  # type: ignore[operator, union-attr]

    def whole(module: nn.Module, x: Tensor) -> Tensor:
        return module(x)

    def projected(i: int, h_ND: Tensor) -> Tensor:
        def one(module: nn.Module, x: Tensor) -> Tensor:
            return F.linear(x, module.weight.chunk(3)[i])  # type: ignore[operator]

        return apply(towers(attention.qkv), one, h_ND).unflatten(-1, (heads, -1))

    def normed(kind: str, x_NHE: Tensor) -> Tensor:
        def one(module: nn.Module, x: Tensor) -> Tensor:
            assert isinstance(module, QKNorm)
            return getattr(module, kind)(x)

        if attention.qk_norm is not None:
            x_NHE = apply(towers(attention.qk_norm), one, x_NHE)
        return rotate(x_NHE, context_N.cos_T1E, context_N.sin_T1E)

    def fed_forward(module: nn.Module, x: Tensor) -> Tensor:
        gate, up = module.gate_up(x).chunk(2, dim=-1)  # type: ignore[operator]
        return module.down(F.silu(gate) * up)  # type: ignore[operator]

    def forward(x_ND: Tensor) -> Tensor:
        h_ND = apply(towers(block.attention_norm), whole, x_ND)
        qkv_NHE = [projected(i, h_ND) for i in range(3)]
        qkv_NHE[:2] = normed("query", qkv_NHE[0]), normed("key", qkv_NHE[1])
        q, k, v = (each.unflatten(0, shape_BS).transpose(1, 2) for each in qkv_NHE)
        y_BHSE = attend(q, k, v, context_N.at.masks[0])
        y_ND = y_BHSE.transpose(1, 2).flatten(2).flatten(0, 1)
        x_ND = x_ND + apply(towers(attention.out), whole, y_ND)
        h_ND = apply(towers(block.feed_forward_norm), whole, x_ND)
        return x_ND + apply(towers(block.feed_forward), fed_forward, h_ND)

    return forward
