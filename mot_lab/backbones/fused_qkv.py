"""QK-norm, RoPE and the way back to sequence order as one operation, for eager CPU steps.

The plain operations are those of `mot_lab.backbones.attention.Attention`; here one backward pass
writes the gradients of queries, keys and values where they belong in that of their joint
projection (`mot_lab.backbones.written_out` says why).

Shapes: T tokens in grouped order, N flat places, H heads, E head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.written_out import inverse_rms


@dataclass(frozen=True)
class NormKind:
    """Of queries and keys: LayerNorm (``centred``, with a shift) or RMSNorm, and its epsilon."""

    centred: bool
    eps: float


class FusedQKV(torch.autograd.Function):
    """qkv [T, 3, H, E] -> queries, keys, values, each [N, H, E] in sequence order.

    Args:
        qkv_T3HE: joint projection.
        cos_T1E, sin_T1E: rotary angles.
        groups: of the tokens.
        sizes: tokens of each tower of the norms.
        norm: kind of QK-norm, None for none.
        affine: of each tower query scale and key scale, and where the norm is centred their shifts.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        qkv_T3HE: Tensor,
        cos_T1E: Tensor,
        sin_T1E: Tensor,
        groups: TokenGroups,
        sizes: Sequence[int],
        norm: NormKind | None,
        *affine: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.groups, ctx.sizes, ctx.norm = groups, list(sizes), norm
        y_T2HE, v_THE = qkv_T3HE[:, :2], qkv_T3HE[:, 2]
        kept: tuple[Tensor, ...] = ()
        if norm is not None:
            if norm.centred:
                y_T2HE = y_T2HE - y_T2HE.mean(-1, keepdim=True)
            inverse_T2H1 = inverse_rms(y_T2HE, norm.eps)
            normal_T2HE = y_T2HE * inverse_T2H1
            kept = (normal_T2HE, inverse_T2H1)
            y_T2HE = _scaled(normal_T2HE, ctx.sizes, norm, affine)
        ctx.save_for_backward(cos_T1E, sin_T1E, *kept, *affine)
        qk_T2HE = _turned(y_T2HE, cos_T1E[:, None], sin_T1E[:, None], 1)
        q_NHE, k_NHE = (groups.restored(qk_T2HE[:, i]) for i in range(2))
        return q_NHE, k_NHE, groups.restored(v_THE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads_NHE: Tensor) -> tuple[Any, ...]:
        cos_T1E, sin_T1E, *kept = ctx.saved_tensors
        groups: TokenGroups = ctx.groups
        norm: NormKind | None = ctx.norm
        shape = (len(cos_T1E), 3, *grads_NHE[0].shape[1:])
        grad_T3HE = cos_T1E.new_empty(shape)
        for i in range(3):
            groups.regroup(grads_NHE[i], grad_T3HE[:, i])
        grad_T2HE = _turned(grad_T3HE[:, :2], cos_T1E[:, None], sin_T1E[:, None], -1)
        affine_grads: list[Tensor] = []
        if norm is None:
            grad_T3HE[:, :2] = grad_T2HE
        else:
            normal_T2HE, inverse_T2H1, *affine = kept
            affine_grads = _affine_gradients(grad_T2HE, normal_T2HE, ctx.sizes, norm)
            _scale(grad_T2HE, ctx.sizes, norm, affine)
            along_T2H1 = (grad_T2HE * normal_T2HE).mean(-1, keepdim=True)
            if norm.centred:
                grad_T2HE.sub_(grad_T2HE.mean(-1, keepdim=True))
            grad_T2HE.addcmul_(normal_T2HE, along_T2H1, value=-1)
            torch.mul(grad_T2HE, inverse_T2H1, out=grad_T3HE[:, :2])
        return grad_T3HE, None, None, None, None, None, *affine_grads


def _turned(x: Tensor, cos: Tensor, sin: Tensor, turn: int) -> Tensor:
    """`mot_lab.backbones.attention.rotate`, half by half; -1 turns back."""
    first, second = x.chunk(2, dim=-1)
    y = x * cos
    first_out, second_out = y.chunk(2, dim=-1)
    sin = sin[..., : first.shape[-1]]
    first_out.addcmul_(second, sin, value=-turn)
    second_out.addcmul_(first, sin, value=turn)
    return y


def _per_tower(norm: NormKind, affine: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    each = 4 if norm.centred else 2
    return [affine[i : i + each] for i in range(0, len(affine), each)]


def _wide(query_E: Tensor, key_E: Tensor, heads: int) -> Tensor:
    """One row of two heads' vectors for all heads [2 H E]: products run over whole rows."""
    return torch.stack([query_E, key_E])[:, None].expand(-1, heads, -1).reshape(-1)


def _scaled(
    normal_T2HE: Tensor, sizes: Sequence[int], norm: NormKind, affine: Sequence[Tensor]
) -> Tensor:
    y_T2HE = torch.empty_like(normal_T2HE)
    heads = normal_T2HE.shape[2]
    parts = (each.flatten(1).split(list(sizes)) for each in (normal_T2HE, y_T2HE))
    for normal, y, own in zip(*parts, _per_tower(norm, affine), strict=True):
        scale = _wide(own[0], own[1], heads)
        if norm.centred:
            torch.addcmul(_wide(own[2], own[3], heads), normal, scale, out=y)
        else:
            torch.mul(normal, scale, out=y)
    return y_T2HE


def _scale(
    grad_T2HE: Tensor, sizes: Sequence[int], norm: NormKind, affine: Sequence[Tensor]
) -> None:
    parts = grad_T2HE.flatten(1).split(list(sizes))
    for part, own in zip(parts, _per_tower(norm, affine), strict=True):
        part.mul_(_wide(own[0], own[1], grad_T2HE.shape[2]))


def _affine_gradients(
    grad_T2HE: Tensor, normal_T2HE: Tensor, sizes: Sequence[int], norm: NormKind
) -> list[Tensor]:
    """Of the scales, then of the shifts, tower by tower. Rows are summed first: that is a sum over
    contiguous memory."""
    grads = []
    product_T2HE = grad_T2HE * normal_T2HE
    of = (product_T2HE, grad_T2HE) if norm.centred else (product_T2HE,)
    for parts in zip(*(each.split(list(sizes)) for each in of), strict=True):
        for part in parts:
            grads += part.sum(0).sum(1).unbind()
    return grads
