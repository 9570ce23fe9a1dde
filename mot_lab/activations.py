"""Bytes that autograd keeps of one forward pass until the backward pass, from structure alone.

Operation by operation, as in Korthikanti et al. (arXiv 2205.05198, section 4.1; there for a GPT-3
block in 16 bits with dropout), for the operations of this package: a linear layer keeps its input,
an RMS norm its input and a number per row, SwiGLU the joint projection, the opened gate and their
product, attention its queries, keys, values, result and the log of each softmax's sum
(FlashAttention, arXiv 2205.14135, section 3.1), the logarithm of a softmax its result. Under bf16
autocast the residual stream and everything in norms have 4 bytes a number; inputs of matrix
products are kept as copies of 2, and copies of the weights, which are `mot_lab.memory`'s. Weights
that are frozen are counted as if trained.

Shapes: T tokens, N places (T and padding), S places of a row, L predictions, D width, F hidden
width, H query heads, K heads of keys and values, E head width, V vocabulary, C channels, P latent
places of an image.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mot_lab.backbones.attending import Kernel, chosen_kernel
from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.transformer import Block, Transformer
from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.heads.autoregressive import CHUNK
from mot_lab.heads.patch_codec import LinearCodec, UNetCodec
from mot_lab.model import MultimodalModel

FP32, INT64 = 4, 8


@dataclass(frozen=True)
class Pass:
    """A forward pass of one device.

    Attributes:
        tokens: real tokens T per modality.
        rows, row_length: N = rows x row_length places.
        predictions: L.
        images: denoised.
        mixed: bf16 autocast, else fp32.
        on_gpu: its kernels and its rules of autocast, else the CPU's.
        kernel: of attention.
    """

    tokens: Mapping[str, float]
    rows: float
    row_length: int
    predictions: float
    images: float
    mixed: bool
    on_gpu: bool = True
    kernel: Kernel = "auto"

    @property
    def width(self) -> int:
        """Bytes of a number in matrix products."""
        return 2 if self.mixed else FP32

    @property
    def places(self) -> float:
        """N."""
        return self.rows * self.row_length

    @property
    def dense_mask(self) -> bool:
        """Whether attention reads a mask of S numbers a place. Of documents it is taken to: they
        have fewer, unless they are very short."""
        return chosen_kernel(self.kernel, self.row_length, self.on_gpu) != "flex"


def block_bytes(block: Block, transformer: Transformer, at: Pass) -> float:
    """Of one of the transformer's blocks: both norms, attention, feed-forward."""
    config, tokens = transformer.config, sum(at.tokens.values())
    cells = [sum(at.tokens[name] for name in cell) for cell in transformer.wiring.cells]
    moved = max(cells) < at.places  # into an order of its own (`TokenGroups.build`)
    kept = 2 * tokens * _rms_norm(config.width, at) + _attention(config, moved, at)
    for modality, own_tokens in at.tokens.items():
        feed_forward = block.feed_forward.of(modality)
        hidden = 4 * config.hidden * at.width  # gate and up, opened gate, product
        kept += own_tokens * (hidden + config.width * at.width)
        if isinstance(feed_forward, ExpertChoice):
            experts = feed_forward.router.out_features
            # What the router reads and the experts' weighted answers, in fp32; the answers alone;
            # scores, which tokens are taken, and with what weight.
            kept += own_tokens * config.width * (2 * FP32 + at.width)
            kept += own_tokens * ((FP32 + 1) * experts + INT64 + at.width)
    return kept


def _rms_norm(width: int, at: Pass) -> float:
    """Bytes a row: its input in fp32 and its scale; torch's norm of separate operations, which
    mixed precision has on the CPU, keeps the normalised input too.
    """
    separate = at.mixed and not at.on_gpu
    return FP32 * width * (2 if separate else 1) + FP32


def _attention(config: TransformerConfig, moved: bool, at: Pass) -> float:
    heads, kv_heads, head_width = config.head_shape
    inner, outer = heads * head_width, (heads + kv_heads) * head_width
    joint = outer + kv_heads * head_width  # Q, K and V in one
    tokens = sum(at.tokens.values())
    written_out = not (at.on_gpu or at.mixed) and heads == kv_heads
    kept = tokens * config.width * at.width  # input of the joint projection
    joint_kept = not moved  # its values are a view of it
    if config.qk_norm != "none":
        layer = config.qk_norm == "layer"
        scales = (heads + kv_heads) * (2 if layer and not written_out else 1)
        whole = FP32 if not at.mixed or at.on_gpu else at.width
        if written_out:
            kept += tokens * (FP32 * outer + FP32 * scales)
        elif at.mixed and (at.on_gpu or not layer):  # of a copy in fp32
            kept += tokens * (FP32 * outer + whole * outer + FP32 * scales)
        else:
            kept += tokens * (whole * outer + whole * scales)
            joint_kept = True
    kept += tokens * joint * at.width if joint_kept else 0
    kept += at.places * outer * at.width  # queries and keys, turned
    kept += at.places * kv_heads * head_width * at.width if moved else 0
    kept += at.places * (inner * at.width + FP32 * heads)  # the result, the softmax's sum
    kept += tokens * inner * at.width if moved else 0  # the result in grouped order
    return kept


def ends_bytes(model: MultimodalModel, at: Pass) -> float:
    """Of everything around the blocks but the logits: final norm, rotary angles, mask, codec."""
    config, tokens = model.transformer.config, sum(at.tokens.values())
    kept = tokens * _rms_norm(config.width, at) + at.places * INT64
    kept += 2 * tokens * config.head_shape.width * FP32
    kept += at.places * at.row_length * at.width if at.dense_mask else 0
    kept += at.predictions * INT64
    if model.diffusion is None:
        return kept
    codec = model.diffusion.codec
    hidden = at.images * codec.tokens * config.width * at.width
    if isinstance(codec, LinearCodec):
        patches = at.images * codec.tokens * codec.encoder.in_features * at.width
        return kept + hidden + patches
    return kept + hidden + at.images * _unet_bytes(codec, at)


def _unet_bytes(codec: UNetCodec, at: Pass) -> float:
    """Of one image. A convolution keeps its input, as do group norm and SiLU."""
    channels, places = codec.conv_in.out_channels, math.prod(codec.latent_shape[1:])
    kept: float = 2 * channels * places * at.width  # into the first halving, out of the last block
    for halving in range(1, len(codec.down)):
        kept += channels * places / 4**halving * at.width
    for doubling in range(len(codec.up)):
        kept += channels * places / 4**doubling * at.width
    kept += channels * codec.tokens * at.width
    kept += _resnet_bytes(channels, channels, places, at)
    return kept + _resnet_bytes(2 * channels, channels, places, at)


def _resnet_bytes(channels_in: int, channels_out: int, places: int, at: Pass) -> float:
    """Two of norm, SiLU, convolution; a 1 x 1 convolution past them where channels change."""
    copied = at.mixed and at.on_gpu  # autocast has group norms in fp32 there
    kept: float = (channels_in + channels_out) * (2 * (FP32 if copied else at.width) + at.width)
    if channels_in != channels_out and copied:
        kept += channels_in * at.width
    return places * kept


def logits_bytes(model: MultimodalModel, at: Pass, z_loss: bool) -> tuple[float, float]:
    """What losses keep of the predictions, and what is held of logits besides at the worst moment.

    Mixed precision and the z-loss hold them whole: kept are what they are made of, the logarithms
    of the softmax, and the logits in fp32 where the z-loss reads them; as the backward pass begins
    there are the gradients of both the logarithms and the logits. Else there are those of a chunk
    of tokens and their gradients, and kept are the gradients of hidden states and weight.
    """
    weight = model.autoregressive.output.weight
    vocabulary, width = weight.shape
    if at.mixed or z_loss:
        whole = at.predictions * vocabulary * FP32
        kept = at.predictions * (width * at.width + 2 * INT64)
        return kept + whole * (2 if z_loss else 1), 2 * whole
    held = 2 * min(CHUNK, at.predictions) * vocabulary * FP32
    return (at.predictions + vocabulary) * width * FP32, held
