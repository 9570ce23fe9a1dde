"""SwiGLU feed-forwards of all towers as one operation, for eager CPU steps.

Tower by tower, so that what a tower makes is still in the cache when it is read; the plain
operations are those of `mot_lab.backbones.feed_forward.FeedForward`
(`mot_lab.backbones.written_out` says why).

Shapes: T tokens in grouped order, t of one tower, D width, F hidden width.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from mot_lab.backbones.written_out import first_order, swiglu_backward


class FusedFeedForward(torch.autograd.Function):
    """``down(silu(gate(x)) * up(x))``: [T, D] -> [T, D].

    Args:
        x_TD: tokens.
        sizes: of each tower.
        weights: gate and up [2 F, D] of each tower, then down [D, F] of each.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x_TD: Tensor, sizes: Sequence[int], *weights: Tensor
    ) -> Tensor:
        ctx.sizes = list(sizes)
        y_TD = torch.empty_like(x_TD)
        kept: list[Tensor] = []
        parts = (each.split_with_sizes(ctx.sizes) for each in (x_TD, y_TD))
        for x_tD, y_tD, gate_up_FD, down_DF in zip(*parts, *_halves(weights), strict=True):
            gate_up_t2F = torch.mm(x_tD, gate_up_FD.t())
            gate_tF, up_tF = gate_up_t2F.chunk(2, dim=-1)
            opened_tF = F.silu(gate_tF)
            product_tF = opened_tF * up_tF
            torch.mm(product_tF, down_DF.t(), out=y_tD)
            kept += gate_up_t2F, opened_tF, product_tF
        ctx.save_for_backward(x_TD, *weights, *kept)
        return y_TD

    @staticmethod
    @first_order
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Any, ...]:
        towers = len(ctx.sizes)
        x_TD, *saved = ctx.saved_tensors
        weights, kept = saved[: 2 * towers], saved[2 * towers :]
        wanted_x, _, *wanted = ctx.needs_input_grad
        grads = cast(list[Tensor | None], [None] * len(weights))
        dx_TD = torch.empty_like(x_TD) if wanted_x else None
        dx_parts = [None] * towers if dx_TD is None else dx_TD.split_with_sizes(ctx.sizes)
        parts = (each.split_with_sizes(ctx.sizes) for each in (grad_TD, x_TD))
        of_towers = zip(*parts, dx_parts, *_halves(weights), strict=True)
        for i, (grad_tD, x_tD, dx_tD, gate_up_FD, down_DF) in enumerate(of_towers):
            gate_up_t2F, opened_tF, product_tF = kept[3 * i : 3 * i + 3]
            if wanted[towers + i]:
                grads[towers + i] = torch.mm(grad_tD.t(), product_tF)
            if dx_tD is None and not wanted[i]:
                continue
            inner_t2F = swiglu_backward(torch.mm(grad_tD, down_DF), gate_up_t2F, opened_tF)
            if dx_tD is not None:
                torch.mm(inner_t2F, gate_up_FD, out=dx_tD)
            if wanted[i]:
                grads[i] = torch.mm(inner_t2F.t(), x_tD)
        return dx_TD, None, *grads


def _halves(weights: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return weights[: len(weights) // 2], weights[len(weights) // 2 :]
