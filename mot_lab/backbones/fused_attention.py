"""Attention with its projections, QK-norm and RoPE as one operation, for eager CPU steps.

The plain operations are those of `mot_lab.backbones.attention.Attention`; here one backward pass
writes the gradients of queries, keys and values where they belong in that of their joint
projection (`mot_lab.backbones.written_out` says why). The softmax is torch's own kernel.

Shapes: T tokens in grouped order, D width, N places of attention, H heads, E head width, I = H E;
of one table (`mot_lab.backbones.attending.Attended`) B rows, S places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mot_lab.backbones.attending import Attended
from mot_lab.backbones.written_out import (
    first_order,
    inverse_rms,
    linear_backward,
    linear_forward,
)

aten = torch.ops.aten


@dataclass(frozen=True)
class NormKind:
    """Of queries and keys: LayerNorm (``centred``, with a shift) or RMSNorm, and its epsilon."""

    centred: bool
    eps: float


@dataclass(frozen=True)
class AttentionTowers:
    """What `FusedAttention` needs to know of an arm's towers and a batch: how many tokens pass
    through each tower of a projection or of the QK-norms, and the shape of these.

    Attributes:
        qkv, out: tokens of each projection.
        norms: of each QK-norm; one number where there are none.
        heads: H, of keys and values too.
        norm: kind of QK-norm, None for none.
    """

    qkv: list[int]
    out: list[int]
    norms: list[int]
    heads: int
    norm: NormKind | None


class FusedAttention(torch.autograd.Function):
    """[T, D] -> [T, D], both in grouped order.

    Args:
        x_TD: tokens.
        cos_T1E, sin_T1E: rotary angles.
        at: where tokens find each other; its masks are what is added to scores.
        towers: of these tokens.
        weights: Q, K and V of each tower [3 I, D], then O of each [D, I], then of each tower of the
            QK-norms query scale and key scale, and where the norm is centred their shifts.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x_TD: Tensor,
        cos_T1E: Tensor,
        sin_T1E: Tensor,
        at: Attended,
        towers: AttentionTowers,
        *weights: Tensor,
    ) -> Tensor:
        ctx.at, ctx.towers = at, towers
        qkv_weights, out_weights, affine = _by_kind(weights, towers)
        qkv_T3HE = linear_forward(x_TD, towers.qkv, qkv_weights).view(
            len(x_TD), 3, towers.heads, -1
        )
        y_T2HE, v_THE = qkv_T3HE[:, :2], qkv_T3HE[:, 2]
        kept: tuple[Tensor, ...] = ()
        if towers.norm is not None:
            if towers.norm.centred:
                y_T2HE = y_T2HE - y_T2HE.mean(-1, keepdim=True)
            inverse_T2H1 = inverse_rms(y_T2HE, towers.norm.eps)
            normal_T2HE = y_T2HE * inverse_T2H1
            wide = _wide(affine, len(towers.norms), towers.heads)
            y_T2HE = _scaled(normal_T2HE, towers.norms, wide)
            kept = (normal_T2HE, inverse_T2H1, wide)
        qk_T2HE = _turned(y_T2HE, cos_T1E[:, None], sin_T1E[:, None], 1)
        places = (
            at.tables_of(at.groups.restored(x, any_padding=True))
            for x in (qk_T2HE[:, 0], qk_T2HE[:, 1], v_THE)
        )
        attended = [  # of each table: queries, keys, values, results, logs of the softmax's sums
            (*qkv, *aten._scaled_dot_product_flash_attention_for_cpu(*qkv, attn_mask=mask))
            for *qkv, mask in zip(*places, at.masks, strict=True)
        ]
        y_NHE = at.joined([y_BHSE for *_, y_BHSE, _ in attended])
        y_TI = at.groups.regroup(y_NHE.flatten(1))
        of_tables = (x for each in attended for x in each)
        ctx.save_for_backward(x_TD, y_TI, cos_T1E, sin_T1E, *weights, *of_tables, *kept)
        return linear_forward(y_TI, towers.out, out_weights)

    @staticmethod
    @first_order
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Any, ...]:
        at: Attended = ctx.at
        towers: AttentionTowers = ctx.towers
        x_TD, y_TI, cos_T1E, sin_T1E, *saved = ctx.saved_tensors
        wanted = ctx.needs_input_grad[5:]
        weights, saved = saved[: len(wanted)], saved[len(wanted) :]
        qkv_weights, out_weights, _ = _by_kind(weights, towers)
        wanted_qkv, wanted_out, wanted_affine = _by_kind(wanted, towers)
        grad_TI, out_grads = linear_backward(
            grad_TD, y_TI, towers.out, out_weights, True, wanted_out
        )
        assert grad_TI is not None
        tables = len(at.tables)
        # Padding sees padding alone: whatever its gradient is, tokens have none of it.
        grad_NI = at.groups.restored(grad_TI, any_padding=True)
        grads = [
            aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad, *saved[5 * i : 5 * i + 5], 0.0, False, attn_mask=mask
            )
            for i, (grad, mask) in enumerate(
                zip(at.tables_of(grad_NI.unflatten(1, (towers.heads, -1))), at.masks, strict=True)
            )
        ]
        grad_T3HE = x_TD.new_empty(len(x_TD), 3, towers.heads, cos_T1E.shape[-1])
        for i, of_tables in enumerate(zip(*grads, strict=True)):
            at.groups.regroup(at.joined(of_tables), grad_T3HE[:, i])
        grad_T2HE = _turned(grad_T3HE[:, :2], cos_T1E[:, None], sin_T1E[:, None], -1)
        affine_grads: Sequence[Tensor | None] = [None] * len(wanted_affine)
        if towers.norm is None:
            grad_T3HE[:, :2] = grad_T2HE
        else:
            normal_T2HE, inverse_T2H1, wide = saved[5 * tables :]
            if any(wanted_affine):
                affine_grads = _affine_gradients(grad_T2HE, normal_T2HE, towers.norms, towers.norm)
            scales = wide[:, 0].unbind()
            for part, scale in zip(
                grad_T2HE.flatten(1).split_with_sizes(towers.norms), scales, strict=True
            ):
                part.mul_(scale)
            if towers.norm.centred:
                grad_T2HE = _through_layer_norm(grad_T2HE, normal_T2HE)
            else:
                along_T2H1 = (grad_T2HE * normal_T2HE).mean(-1, keepdim=True)
                grad_T2HE.addcmul_(normal_T2HE, along_T2H1, value=-1)
            torch.mul(grad_T2HE, inverse_T2H1, out=grad_T3HE[:, :2])
        dx_TD, qkv_grads = linear_backward(
            grad_T3HE.flatten(1),
            x_TD,
            towers.qkv,
            qkv_weights,
            ctx.needs_input_grad[0],
            wanted_qkv,
        )
        return dx_TD, None, None, None, None, *qkv_grads, *out_grads, *affine_grads


def _by_kind(
    of_weights: Sequence[Any], towers: AttentionTowers
) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """Of Q, K and V, of O, and of the QK-norms."""
    qkv = len(towers.qkv)
    out = qkv + len(towers.out)
    return of_weights[:qkv], of_weights[qkv:out], of_weights[out:]


def _turned(x: Tensor, cos: Tensor, sin: Tensor, turn: int) -> Tensor:
    """`mot_lab.backbones.attention.rotate`, half by half; -1 turns back."""
    first, second = x.chunk(2, dim=-1)
    y = x * cos
    first_out, second_out = y.chunk(2, dim=-1)
    sin = sin[..., : first.shape[-1]]
    first_out.addcmul_(second, sin, value=-turn)
    second_out.addcmul_(first, sin, value=turn)
    return y


def _wide(affine: Sequence[Tensor], towers: int, heads: int) -> Tensor:
    """Scales, and shifts where there are some, of every tower [towers, 1 or 2, 2 H E]: a query's
    vector for all heads, then a key's, so that products run over whole rows."""
    each = torch.stack(list(affine)).view(towers, -1, 2, 1, affine[0].shape[0])
    return each.expand(-1, -1, -1, heads, -1).flatten(2)


def _scaled(normal_T2HE: Tensor, sizes: Sequence[int], wide: Tensor) -> Tensor:
    y_T2HE = torch.empty_like(normal_T2HE)
    parts = (each.flatten(1).split_with_sizes(sizes) for each in (normal_T2HE, y_T2HE))
    for normal, y, (scale, *shift) in zip(*parts, (w.unbind() for w in wide), strict=True):
        if shift:
            torch.addcmul(shift[0], normal, scale, out=y)
        else:
            torch.mul(normal, scale, out=y)
    return y_T2HE


def _through_layer_norm(grad: Tensor, normal: Tensor) -> Tensor:
    """``grad - mean(grad) - normal mean(grad normal)`` over the last axis: torch's own of an input
    that is normal already."""
    mean, inverse = grad.new_zeros(grad.shape[:-1]), grad.new_ones(grad.shape[:-1])
    through, _, _ = torch.ops.aten.native_layer_norm_backward(
        grad, normal, grad.shape[-1:], mean, inverse, None, None, [True, False, False]
    )
    return through


def _affine_gradients(
    grad_T2HE: Tensor, normal_T2HE: Tensor, sizes: Sequence[int], norm: NormKind
) -> Sequence[Tensor]:
    """Of the scales, then of the shifts, tower by tower. Rows are summed first: that is a sum over
    contiguous memory."""
    product_T2HE = grad_T2HE * normal_T2HE
    of = (product_T2HE, grad_T2HE) if norm.centred else (product_T2HE,)
    towers = zip(*(each.split_with_sizes(sizes) for each in of), strict=True)
    sums = torch.stack([part.sum(0) for parts in towers for part in parts])
    return sums.sum(2).flatten(0, 1).unbind()
