"""Size and switches of the backbone."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mot_lab.backbones.feed_forward import swiglu_hidden
from mot_lab.limits import require_between, require_positive

# Upper bounds far above the paper's 7B (width 4,096, 32 layers).
MOST_WIDTH = 65_536
MOST_LAYERS = 512
MOST_ROPE_BASE = 1e12


class HeadShape(NamedTuple):
    """Query heads H, heads of keys and values K, and their width E."""

    heads: int
    kv_heads: int
    width: int


@dataclass
class TransformerConfig:
    """Size and switches of the backbone, the same for every arm of a study.

    Attributes:
        width: D.
        layers: number of blocks.
        heads: attention heads; the width must be a multiple of twice this number (RoPE).
        kv_heads: heads of keys and values, each shared by as many query heads (grouped-query
            attention, arXiv 2305.13245); left out, as many as heads.
        head_width: of each head, an even number; left out, width / heads.
        qkv_bias: biases of the Q, K and V projections (Qwen2).
        feed_forward_multiple: SwiGLU's hidden width is 2/3 * 4 D rounded up to a multiple of this
            (256 gives the paper's sizes).
        feed_forward_width: that hidden width itself; left out, as the multiple says.
        norm: ``pre`` (Llama, Transfusion) or ``post`` (Swin, as printed in Eq. 1-2 of MoT).
        norm_eps: epsilon of the RMS norms.
        qk_norm: ``layer`` (Chameleon), ``rms`` (Qwen3) or ``none``.
        qk_norm_eps: epsilon of the QK-norms.
        rope_base: RoPE's base.
        gate: of expert-choice towers, ``sigmoid`` (MoMa) or ``softmax`` (Expert Choice).
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int | None = None
    head_width: int | None = None
    qkv_bias: bool = False
    feed_forward_multiple: int = 256
    feed_forward_width: int | None = None
    norm: Literal["pre", "post"] = "pre"
    norm_eps: float = 1e-5
    qk_norm: Literal["layer", "rms", "none"] = "layer"
    qk_norm_eps: float = 1e-5
    rope_base: float = 10_000.0
    gate: Literal["sigmoid", "softmax"] = "sigmoid"

    def __post_init__(self) -> None:
        require_between(self, 1, MOST_WIDTH, "width", "heads", "feed_forward_multiple")
        require_between(self, 1, MOST_LAYERS, "layers")
        require_positive(self, 1, "norm_eps", "qk_norm_eps")
        require_between(self, 1, MOST_ROPE_BASE, "rope_base")
        for name in ("kv_heads", "head_width", "feed_forward_width"):
            if getattr(self, name) is not None:
                require_between(self, 1, MOST_WIDTH, name)
        if self.head_width is None and self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 * heads = {2 * self.heads} (RoPE), "
                f"heads {self.heads}"
            )
        if self.head_width is not None and self.head_width % 2:
            raise ValueError(f"head_width {self.head_width} must be even (RoPE)")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")

    @property
    def head_shape(self) -> HeadShape:
        """The heads, with what is left out filled in."""
        kv_heads = self.heads if self.kv_heads is None else self.kv_heads
        head_width = self.width // self.heads if self.head_width is None else self.head_width
        return HeadShape(self.heads, kv_heads, head_width)

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward."""
        if self.feed_forward_width is not None:
            return self.feed_forward_width
        return swiglu_hidden(self.width, self.feed_forward_multiple)
