"""The transformer as tokens of one cell pass through it: a plain stack of weights.

Writing goes token by token, and a token is a row of small products: to find its tower, to call
modules and to lay out scales costs as much as they do. Here that is done once per cell. What is
computed is what `Transformer.forward` computes with a cache; tests hold the two against each other.

Shapes: R rows of S places, T = R * S tokens, D width, H query heads, K heads of keys and values,
G = H + K, A = H + 2 K, E head width.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mot_lab.backbones.attending import attend
from mot_lab.backbones.attention import AttentionContext, QKNorm, rotate
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.towers import Towers
from mot_lab.backbones.transformer import Block, Transformer
from mot_lab.backbones.written_out import swiglu

if TYPE_CHECKING:
    from mot_lab.backbones.cache import LayerCache

Step = Callable[[Tensor], Tensor]


class CellStack:
    """Blocks and final norm for the tokens of one cell, without gradients.

    Args:
        transformer: whose weights must not change while this is in use.
        cell: number of the cell.
    """

    def __init__(self, transformer: Transformer, cell: int) -> None:
        self._layers = [_CellLayer(block, cell) for block in transformer.layers]
        self._final_norm = _norm(transformer.final_norm, cell)

    def __call__(
        self,
        x_TD: Tensor,
        shape: tuple[int, int],
        context: AttentionContext,
        cache: Sequence["LayerCache"],
    ) -> Tensor:
        """[T, D] -> [T, D], final norm included.

        Args:
            x_TD: row by row, no padding.
            shape: (R, S).
            context, cache: as of `Transformer.forward`.
        """
        for layer, kept in zip(self._layers, cache, strict=True):
            x_TD = layer(x_TD, shape, context, kept)
        return self._final_norm(x_TD)


class _CellLayer:
    def __init__(self, block: Block, cell: int) -> None:
        attention = block.attention
        self._heads, kv_heads, self._head_width = attention.shape
        self._both, self._all = self._heads + kv_heads, self._heads + 2 * kv_heads
        self._pre_norm = block.pre_norm
        self._attention_norm = _norm(block.attention_norm, cell)
        self._qkv = cast(nn.Linear, attention.qkv.of_cell(cell))
        self._qk_norm: Step | None = None
        if attention.qk_norm is not None:
            self._qk_norm = cast(QKNorm, attention.qk_norm.of_cell(cell)).with_fixed_scales()
        self._out = cast(nn.Linear, attention.out.of_cell(cell)).weight
        self._feed_forward_norm = _norm(block.feed_forward_norm, cell)
        self._feed_forward = _feed_forward(block.feed_forward, cell)

    def __call__(
        self, x_TD: Tensor, shape: tuple[int, int], context: AttentionContext, cache: "LayerCache"
    ) -> Tensor:
        if self._pre_norm:
            x_TD = x_TD + self._attention(self._attention_norm(x_TD), shape, context, cache)
            return x_TD + self._feed_forward(self._feed_forward_norm(x_TD))
        x_TD = x_TD + self._attention_norm(self._attention(x_TD, shape, context, cache))
        return x_TD + self._feed_forward_norm(self._feed_forward(x_TD))

    def _attention(
        self, x_TD: Tensor, shape: tuple[int, int], context: AttentionContext, cache: "LayerCache"
    ) -> Tensor:
        tokens, heads, both = len(x_TD), self._heads, self._both
        qkv_TAE = F.linear(x_TD, self._qkv.weight, self._qkv.bias)
        qkv_TAE = qkv_TAE.view(tokens, self._all, self._head_width)
        qk_TGE = qkv_TAE[:, :both]
        if self._qk_norm is not None:
            qk_TGE = self._qk_norm(qk_TGE)
        qk_TGE = rotate(qk_TGE, context.cos_T1E, context.sin_T1E)
        k_RKCE, v_RKCE = cache.extend(qk_TGE[:, heads:], qkv_TAE[:, both:])
        q_RHSE = qk_TGE[:, :heads].unflatten(0, shape).transpose(1, 2)
        y_RHSE = attend(q_RHSE, k_RKCE, v_RKCE, context.at.masks[0])
        return F.linear(y_RHSE.transpose(1, 2).reshape(tokens, -1), self._out)


def _norm(towers: Towers, cell: int) -> Step:
    norm = cast(nn.RMSNorm, towers.of_cell(cell))
    shape, weight, eps = norm.normalized_shape, norm.weight, norm.eps
    if weight.device.type != "cpu" or weight.dtype.itemsize < 4 or eps is None:
        return lambda x_TD: F.rms_norm(x_TD, shape, weight, eps)
    # On the CPU torch's norm is six operations. With s = sqrt(D), x w / sqrt(|x|^2 / D + eps) is
    # x (w s) / hypot(|x|, s sqrt(eps)), four; in bf16 the length would be rounded on the way.
    root = shape[0] ** 0.5
    scaled_D, floor = weight * root, weight.new_tensor(root * eps**0.5)

    def norm_of(x_TD: Tensor) -> Tensor:
        length_T1 = torch.linalg.vector_norm(x_TD, dim=-1, keepdim=True)
        return (x_TD * scaled_D).div_(torch.hypot(length_T1, floor))

    return norm_of


def _feed_forward(towers: Towers, cell: int) -> Step:
    module = towers.of_cell(cell)
    if not isinstance(module, FeedForward):  # experts choose token by token
        return module
    gate_up, down = module.gate_up.weight, module.down.weight
    return lambda x_TD: F.linear(swiglu(F.linear(x_TD, gate_up)), down)
