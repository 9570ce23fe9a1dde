"""One global self-attention over the interleaved sequence, with projections per tower.

Shapes: B rows, S positions, T tokens in grouped order, N places of attention
(`mot_lab.backbones.attending.Attended`), D width, H query heads, K heads of keys and values (each
serves H / K query heads), G = H + K, A = H + 2 K, E head width, C columns of a cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mot_lab.backbones.attending import Attended, attend, attend_tables
from mot_lab.backbones.fused_attention import AttentionTowers, FusedAttention, NormKind
from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.towers import Towers
from mot_lab.backbones.transformer_config import HeadShape, TransformerConfig
from mot_lab.backbones.wiring import Wiring
from mot_lab.backbones.written_out import is_written_out

if TYPE_CHECKING:
    from mot_lab.backbones.cache import LayerCache


def rotary_angles(position_T: Tensor, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE (arXiv 2104.09864), each [T, 1, E], halves layout as in Llama."""
    exponent = torch.arange(0, head_width, 2, device=position_T.device).double() / head_width
    angle_TE = position_T.double()[:, None] / base**exponent
    angle_T1E = torch.cat([angle_TE, angle_TE], dim=-1)[:, None]
    return angle_T1E.cos(), angle_T1E.sin()


@dataclass(frozen=True)
class AttentionContext:
    """What attention needs of a batch, computed once and used in every layer.

    Attributes:
        at: where attention finds the tokens, and who sees whom; with a cache in rows, over its
            columns.
        cos_T1E, sin_T1E: rotary angles of the tokens in grouped order.
    """

    at: Attended
    cos_T1E: Tensor
    sin_T1E: Tensor


class QKNorm(nn.Module):
    """Norm of queries and keys over the head width, before RoPE (Chameleon, arXiv 2405.09818).

    ``layer`` is Chameleon's LayerNorm with bias, ``rms`` is Qwen3's RMSNorm.
    """

    def __init__(self, shape: HeadShape, kind: str, eps: float) -> None:
        super().__init__()
        make = nn.LayerNorm if kind == "layer" else nn.RMSNorm
        self.shape, self.kind = shape, NormKind(kind == "layer", eps)
        self.query = make(shape.width, eps=eps)
        self.key = make(shape.width, eps=eps)

    def forward(self, qk_TGE: Tensor) -> Tensor:
        """[T, G, E] -> [T, G, E], the query heads first."""
        return self.with_fixed_scales()(qk_TGE)

    def with_fixed_scales(self) -> Callable[[Tensor], Tensor]:
        """What `forward` does, [T, G, E] -> [T, G, E], with the scales (and shifts) of all heads
        side by side as they are now."""
        # One normalisation for both, then the scales: half as many small operations per tower.
        affine = self.affine()
        width, eps = (self.shape.width,), self.kind.eps
        scale_GE = self._of_heads(*affine[:2])
        if not self.kind.centred:
            return lambda qk_TGE: F.rms_norm(qk_TGE, width, eps=eps) * scale_GE
        shift_GE = self._of_heads(*affine[2:])
        return lambda qk_TGE: torch.addcmul(
            shift_GE, F.layer_norm(qk_TGE, width, eps=eps), scale_GE
        )

    def _of_heads(self, query_E: Tensor, key_E: Tensor) -> Tensor:
        """[G, E]"""
        heads, kv_heads, _ = self.shape
        return torch.cat([query_E.expand(heads, -1), key_E.expand(kv_heads, -1)])

    def affine(self) -> list[Tensor]:
        """Scales of query and key, then their shifts where they have some."""
        kinds = ("weight", "bias") if self.kind.centred else ("weight",)
        return [getattr(norm, kind) for kind in kinds for norm in (self.query, self.key)]


class Attention(nn.Module):
    """Multi-head attention: Q, K, V, O and QK-norms per tower, one softmax for all modalities."""

    def __init__(self, config: TransformerConfig, wiring: Wiring) -> None:
        super().__init__()
        width, shape = config.width, config.head_shape
        self.width, self.shape, self.bias = width, shape, config.qkv_bias
        inner = shape.heads * shape.width
        outer = inner + 2 * shape.kv_heads * shape.width
        self.qkv = Towers(
            wiring, "attention", lambda _: nn.Linear(width, outer, bias=config.qkv_bias)
        )
        self.out = Towers(wiring, "output", lambda _: nn.Linear(inner, width, bias=False))
        self.qk_norm: Towers | None = None
        if config.qk_norm != "none":
            self.qk_norm = Towers(
                wiring, "norms", lambda _: QKNorm(shape, config.qk_norm, config.qk_norm_eps)
            )

    def forward(
        self,
        x_TD: Tensor,
        groups: TokenGroups,
        context: AttentionContext,
        cache: "LayerCache | None" = None,
    ) -> Tensor:
        """[T, D] in grouped order -> [T, D] in grouped order.

        With a cache the tokens see what it holds of their rows, and are written into it.
        """
        heads, kv_heads, head_width = self.shape
        both, at = heads + kv_heads, context.at
        if cache is None and heads == kv_heads and not self.bias and is_written_out(x_TD):
            return self._fused(x_TD, context)
        qkv_TAE = self.qkv(x_TD, groups).view(len(x_TD), both + kv_heads, head_width)
        if cache is None:
            return self.out(self._over_batch(qkv_TAE, context), groups)
        qk_TGE = self._normed_and_turned(qkv_TAE[:, :both], groups, context)
        k_BKCE, v_BKCE = cache.extend(qk_TGE[:, heads:], qkv_TAE[:, both:])
        q_BHSE = groups.restore(qk_TGE[:, :heads]).unflatten(0, groups.shape).transpose(1, 2)
        y_BHSE = attend(q_BHSE, k_BKCE, v_BKCE, at.masks[0])
        y_ND = y_BHSE.transpose(1, 2).reshape(-1, heads * head_width)
        return self.out(groups.group(y_ND), groups)

    def _over_batch(self, qkv_TAE: Tensor, context: AttentionContext) -> Tensor:
        """[T, H + 2 K, E] -> [T, H E], where everything that is seen is in the batch."""
        (heads, kv_heads, _), groups = self.shape, context.at.groups
        qk_TGE = self._normed_and_turned(qkv_TAE[:, : heads + kv_heads], groups, context)
        q_NHE, k_NKE = groups.restore(qk_TGE).split([heads, kv_heads], dim=1)
        v_NKE = groups.restore(qkv_TAE[:, heads + kv_heads :])
        return groups.group(attend_tables(q_NHE, k_NKE, v_NKE, context.at).flatten(1))

    def _fused(self, x_TD: Tensor, context: AttentionContext) -> Tensor:
        """`forward` of a batch as one operation of autograd."""
        groups = context.at.groups
        qkv, qkv_sizes = self.qkv.present(groups)
        out, out_sizes = self.out.present(groups)
        kind, norm_sizes, affine = None, [groups.tokens], []
        if self.qk_norm is not None:
            modules, norm_sizes = self.qk_norm.present(groups)
            norms = cast(list[QKNorm], modules)
            kind = norms[0].kind
            affine = [tensor for each in norms for tensor in each.affine()]
        towers = AttentionTowers(qkv_sizes, out_sizes, norm_sizes, self.shape.heads, kind)
        weights = [cast(Tensor, each.weight) for each in (*qkv, *out)]
        angles = (context.cos_T1E, context.sin_T1E)
        return FusedAttention.apply(x_TD, *angles, context.at, towers, *weights, *affine)

    def _normed_and_turned(
        self, qk_TGE: Tensor, groups: TokenGroups, context: AttentionContext
    ) -> Tensor:
        if self.qk_norm is not None:
            qk_TGE = self.qk_norm(qk_TGE, groups)
        return rotate(qk_TGE, context.cos_T1E, context.sin_T1E)

    def forward_flops(self, tokens: float, pairs: float) -> float:
        """FLOPs of one forward pass: 4 D (H + K) E per token (Q, K, V, O; 8 D^2 where H = K and
        H E = D), 4 H E per query-key pair.
        """
        heads, kv_heads, head_width = self.shape
        per_token = 4 * self.width * (heads + kv_heads) * head_width
        return per_token * tokens + 4 * heads * head_width * pairs


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on the last axis, first half paired with second half."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
