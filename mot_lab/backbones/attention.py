"""One global self-attention over the interleaved sequence, with projections per tower.

Shapes: B rows, S positions, T tokens in grouped order, D width, H heads, E = D / H head width,
C columns of a cache.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.towers import Towers
from mot_lab.backbones.wiring import Wiring

if TYPE_CHECKING:
    from mot_lab.backbones.cache import LayerCache
    from mot_lab.backbones.transformer import TransformerConfig


def attention_mask(document_BS: Tensor, image_BS: Tensor) -> Tensor:
    """Who sees whom: causal, bidirectional inside one image, never across documents.

    Args:
        document_BS: document ids [B, S], unique within a row; padding is a document of its own.
        image_BS: image ids [B, S], unique within a row, -1 outside images that are denoised
            jointly (Transfusion, arXiv 2408.11039, section 3.2).

    Returns:
        bool [B, 1, S, S], True where the query (third axis) may attend to the key (last axis).
    """
    length = document_BS.shape[1]
    causal_SS = torch.ones(length, length, dtype=torch.bool, device=document_BS.device).tril()
    same_image_BSS = (image_BS[:, :, None] == image_BS[:, None, :]) & (image_BS[:, :, None] >= 0)
    same_document_BSS = document_BS[:, :, None] == document_BS[:, None, :]
    return ((causal_SS | same_image_BSS) & same_document_BSS)[:, None]


def rotary_angles(position_N: Tensor, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE (arXiv 2104.09864), each [N, 1, E], halves layout as in Llama."""
    exponent = torch.arange(0, head_width, 2, device=position_N.device).double() / head_width
    angle_NE = position_N.double()[:, None] / base**exponent
    angle_NE = torch.cat([angle_NE, angle_NE], dim=-1)[:, None]
    return angle_NE.cos(), angle_NE.sin()


@dataclass(frozen=True)
class AttentionContext:
    """What attention needs of a batch, computed once and used in every layer.

    Attributes:
        mask: bool [B, 1, S, S] (`attention_mask`), or [B, 1, S, C] over the columns of a cache;
            None where all see everything.
        cos_T1E, sin_T1E: rotary angles of the tokens in grouped order.
    """

    mask: Tensor | None
    cos_T1E: Tensor
    sin_T1E: Tensor


class QKNorm(nn.Module):
    """Norm of queries and keys over the head width, before RoPE (Chameleon, arXiv 2405.09818).

    ``layer`` is Chameleon's LayerNorm with bias, ``rms`` is Qwen3's RMSNorm.
    """

    def __init__(self, head_width: int, kind: str, eps: float) -> None:
        super().__init__()
        make = nn.LayerNorm if kind == "layer" else nn.RMSNorm
        self.eps = eps
        self.query = make(head_width, eps=eps)
        self.key = make(head_width, eps=eps)

    def forward(self, qk_T2HE: Tensor) -> Tensor:
        """[T, 2, H, E] -> [T, 2, H, E]."""
        # One normalisation for both, then the scales: half as many small operations per tower.
        query, key = self.query, self.key
        scale_21E = torch.stack([query.weight, key.weight])[:, None]
        if isinstance(query, nn.RMSNorm) or isinstance(key, nn.RMSNorm):
            return F.rms_norm(qk_T2HE, qk_T2HE.shape[-1:], eps=self.eps) * scale_21E
        shift_21E = torch.stack([query.bias, key.bias])[:, None]
        normal_T2HE = F.layer_norm(qk_T2HE, qk_T2HE.shape[-1:], eps=self.eps)
        return torch.addcmul(shift_21E, normal_T2HE, scale_21E)


class Attention(nn.Module):
    """Multi-head attention: Q, K, V, O and QK-norms per tower, one softmax for all modalities."""

    def __init__(self, config: "TransformerConfig", wiring: Wiring) -> None:
        super().__init__()
        width = config.width
        self.width, self.heads = width, config.heads
        self.qkv = Towers(wiring, "attention", lambda _: nn.Linear(width, 3 * width, bias=False))
        self.out = Towers(wiring, "output", lambda _: nn.Linear(width, width, bias=False))
        self.qk_norm: Towers | None = None
        if config.qk_norm != "none":
            self.qk_norm = Towers(
                wiring,
                "norms",
                lambda _: QKNorm(width // config.heads, config.qk_norm, config.qk_norm_eps),
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
        tokens, width = x_TD.shape
        (rows, length), heads = groups.shape, self.heads
        qkv_T3HE = self.qkv(x_TD, groups).view(tokens, 3, heads, width // heads)
        qk_T2HE, v_THE = qkv_T3HE[:, :2], qkv_T3HE[:, 2]
        if self.qk_norm is not None:
            qk_T2HE = self.qk_norm(qk_T2HE, groups)
        qk_T2HE = rotate(qk_T2HE, context.cos_T1E[:, None], context.sin_T1E[:, None])
        if cache is None:
            qk_N2HE = groups.restore(qk_T2HE)
            v_NHE = groups.restore(v_THE)
            q_NHE, k_NHE = qk_N2HE.unbind(1)
            k_BHSE, v_BHSE = (
                x.unflatten(0, (rows, length)).transpose(1, 2) for x in (k_NHE, v_NHE)
            )
        else:
            q_NHE = groups.restore(qk_T2HE[:, 0])
            k_BHSE, v_BHSE = cache.extend(qk_T2HE[:, 1], v_THE)  # [B, H, C, E]
        q_BHSE = q_NHE.unflatten(0, (rows, length)).transpose(1, 2)
        y_BHSE = F.scaled_dot_product_attention(q_BHSE, k_BHSE, v_BHSE, attn_mask=context.mask)
        y_ND = y_BHSE.transpose(1, 2).reshape(rows * length, width)
        return self.out(groups.group(y_ND), groups)

    def forward_flops(self, tokens: float, pairs: float) -> float:
        """FLOPs of one forward pass: 8 D^2 per token (Q, K, V, O), 4 D per query-key pair."""
        return 8 * self.width**2 * tokens + 4 * self.width * pairs


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on the last axis, first half paired with second half."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
