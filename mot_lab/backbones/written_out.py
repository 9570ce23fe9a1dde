"""Operations of all towers at once, with their backward passes written out, for eager CPU steps.

A step of a small model on the CPU is made of hundreds of short operations: splitting rows between
towers, joining results, and autograd's zeros and additions for every slice cost as much as the
norms themselves. Here each tower writes into its rows of one result, and a backward pass makes what
it must and no more. Compiled, on a GPU, in mixed precision and without gradients the same functions
are the plain operations of torch, which Inductor fuses; tests hold the two against each other.

Shapes: T tokens in grouped order, D width, O output width, F hidden width, E experts, P pairs of an
expert and a token that it takes, expert after expert.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def is_written_out(x: Tensor) -> bool:
    """Whether operations on a tensor are those written out here: on the CPU, eager, in one
    precision, and for training; without gradients nothing is gained."""
    # Asked forty times a step, right after products have emptied the cache: `device.type` is slow.
    return (
        x.is_cpu
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass that has none of its own: torch's `once_differentiable`, which enters and
    leaves a context thirty times a step, without it.

    Raises:
        RuntimeError: from what it makes, where a second derivative is wanted.
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("operations written out for the CPU have no second derivatives")
        return backward(ctx, *grads)

    return checked


def grouped_linear(x_TD: Tensor, sizes: Sequence[int], weights: Sequence[Tensor]) -> Tensor:
    """[T, D] -> [T, O]: the rows of each tower times its weight [O, D]."""
    if len(weights) == 1:
        return F.linear(x_TD, weights[0])
    if is_written_out(x_TD):
        return _GroupedLinear.apply(x_TD, sizes, *weights)
    parts = zip(x_TD.split(list(sizes)), weights, strict=True)
    return torch.cat([F.linear(part, weight) for part, weight in parts])


def grouped_matmul(x_PD: Tensor, sizes: Sequence[int], weight_EDO: Tensor) -> Tensor:
    """[P, D] -> [P, O]: the rows of each expert times its part of one weight."""
    if is_written_out(x_PD):
        return _GroupedMatmul.apply(x_PD, sizes, weight_EDO)
    # A slice's gradient is as large as the whole; those of unbound parts are put together.
    parts = zip(x_PD.split(list(sizes)), weight_EDO.to(x_PD.dtype).unbind(), strict=True)
    return torch.cat([part @ weight for part, weight in parts])


def grouped_rms_norm(
    x_TD: Tensor, sizes: Sequence[int], weights: Sequence[Tensor], eps: float
) -> Tensor:
    """[T, D] -> [T, D]: RMS norm with the scale [D] of each tower."""
    if is_written_out(x_TD):
        return _GroupedRMSNorm.apply(x_TD, sizes, eps, *weights)
    if len(weights) == 1:
        return F.rms_norm(x_TD, x_TD.shape[-1:], weights[0], eps)
    parts = zip(x_TD.split(list(sizes)), weights, strict=True)
    return torch.cat([F.rms_norm(part, part.shape[-1:], weight, eps) for part, weight in parts])


def swiglu(gate_up: Tensor) -> Tensor:
    """[.., 2 F] -> [.., F]: ``silu(gate) * up`` of the two halves."""
    if is_written_out(gate_up):
        return _SwiGLU.apply(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x_TD: Tensor, sizes: Sequence[int], *weights: Tensor
    ) -> Tensor:
        ctx.sizes = list(sizes)
        ctx.save_for_backward(x_TD, *weights)
        return linear_forward(x_TD, ctx.sizes, weights)

    @staticmethod
    @first_order
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Any, ...]:
        x_TD, *weights = ctx.saved_tensors
        wanted_x, _, *wanted = ctx.needs_input_grad
        grad_TD, grads = linear_backward(grad_TO, x_TD, ctx.sizes, weights, wanted_x, wanted)
        return grad_TD, None, *grads


def linear_forward(x_TD: Tensor, sizes: list[int], weights: Sequence[Tensor]) -> Tensor:
    """`grouped_linear` outside of autograd."""
    y_TO = x_TD.new_empty(len(x_TD), len(weights[0]))
    parts = (each.split_with_sizes(sizes) for each in (x_TD, y_TO))
    for x, y, weight in zip(*parts, weights, strict=True):
        torch.mm(x, weight.t(), out=y)
    return y_TO


def linear_backward(
    grad_TO: Tensor,
    x_TD: Tensor,
    sizes: list[int],
    weights: Sequence[Tensor],
    wanted_x: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradients of `linear_forward`'s tokens and weights, where they are wanted."""
    grad_parts = grad_TO.split_with_sizes(sizes)
    grad_TD = torch.empty_like(x_TD) if wanted_x else None
    if grad_TD is not None:
        parts = grad_TD.split_with_sizes(sizes)
        for grad, out, weight in zip(grad_parts, parts, weights, strict=True):
            torch.mm(grad, weight, out=out)
    of_weights = zip(grad_parts, x_TD.split_with_sizes(sizes), wanted, strict=True)
    return grad_TD, [torch.mm(grad.t(), x) if want else None for grad, x, want in of_weights]


class _GroupedMatmul(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x_PD: Tensor, sizes: Sequence[int], weight_EDO: Tensor
    ) -> Tensor:
        ctx.sizes = list(sizes)
        ctx.save_for_backward(x_PD, weight_EDO)
        y_PO = x_PD.new_empty(len(x_PD), weight_EDO.shape[-1])
        parts = (each.split_with_sizes(ctx.sizes) for each in (x_PD, y_PO))
        for x, y, weight in zip(*parts, weight_EDO.unbind(), strict=True):
            torch.mm(x, weight, out=y)
        return y_PO

    @staticmethod
    @first_order
    def backward(ctx: Any, grad_PO: Tensor) -> tuple[Any, ...]:
        x_PD, weight_EDO = ctx.saved_tensors
        wanted_x, _, wanted_weight = ctx.needs_input_grad
        grad_PD = torch.empty_like(x_PD) if wanted_x else None
        grad_EDO = torch.empty_like(weight_EDO) if wanted_weight else None
        grad_parts = grad_PO.split_with_sizes(ctx.sizes)
        if grad_PD is not None:
            own = zip(grad_parts, grad_PD.split_with_sizes(ctx.sizes), weight_EDO, strict=True)
            for grad, out, weight in own:
                torch.mm(grad, weight.t(), out=out)
        if grad_EDO is not None:
            own = zip(grad_parts, x_PD.split_with_sizes(ctx.sizes), grad_EDO, strict=True)
            for grad, x, out in own:
                torch.mm(x.t(), grad, out=out)
        return grad_PD, None, grad_EDO


class _GroupedRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x_TD: Tensor, sizes: Sequence[int], eps: float, *weights: Tensor
    ) -> Tensor:
        ctx.sizes = list(sizes)
        inverse_T1 = inverse_rms(x_TD, eps)
        ctx.save_for_backward(x_TD, inverse_T1, *weights)
        y_TD = x_TD * inverse_T1
        for y, weight in zip(y_TD.split_with_sizes(ctx.sizes), weights, strict=True):
            y.mul_(weight)
        return y_TD

    @staticmethod
    @first_order
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Any, ...]:
        x_TD, inverse_T1, *weights = ctx.saved_tensors
        product_TD = grad_TD * x_TD
        dot_T = x_TD.new_empty(len(x_TD))
        dx_TD = torch.empty_like(x_TD)
        grads = []
        parts = (
            each.split_with_sizes(ctx.sizes)
            for each in (grad_TD, product_TD, dot_T, dx_TD, inverse_T1)
        )
        for grad, product, dot, dx, inverse, weight in zip(*parts, weights, strict=True):
            torch.mv(product, weight, out=dot)
            torch.mul(grad, weight, out=dx)
            grads.append(torch.mv(product.t(), inverse[:, 0]))
        along_T1 = inverse_T1.pow(3).mul_(dot_T[:, None]).div_(-x_TD.shape[-1])
        return dx_TD.mul_(inverse_T1).addcmul_(x_TD, along_T1), None, None, *grads


def inverse_rms(x: Tensor, eps: float) -> Tensor:
    """``1 / sqrt(mean(x^2) + eps)`` over the last axis, which stays with length 1."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:  # type: ignore[override]
        gate, up = gate_up.chunk(2, dim=-1)
        opened = F.silu(gate)
        ctx.save_for_backward(gate_up, opened)
        return opened * up

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        gate_up, opened = ctx.saved_tensors
        return swiglu_backward(grad, gate_up, opened)


def swiglu_backward(grad: Tensor, gate_up: Tensor, opened: Tensor) -> Tensor:
    """The gradient [.., 2 F] of `swiglu`'s input.

    Args:
        grad: of its result [.., F].
        gate_up: its input [.., 2 F].
        opened: ``silu(gate)`` [.., F].
    """
    gate, up = gate_up.chunk(2, dim=-1)
    grad_gate_up = torch.empty_like(gate_up)
    grad_gate, grad_up = grad_gate_up.chunk(2, dim=-1)
    torch.mul(grad, opened, out=grad_up)
    torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
    return grad_gate_up
