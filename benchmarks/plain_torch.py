"""The Dense model and its training step in plain torch, as one would write them for Dense alone:
no towers, no grouping, padding computed along; ``nn.Linear``, SDPA, the same optimiser. What the
platform costs is measured against it, less what it saves: the platform's attention skips other
documents of a row, and its losses hold no logits. The image codec is the platform's, which is plain
torch. The mask is bool, as torch's documentation has it: torch makes what is added to scores of it
anew in every block, which the platform does once (about 1% of a step).

Shapes: B rows, S positions, D width, H heads, E head width, L targets, N images.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mot_lab.backbones.attending import attention_mask
from mot_lab.backbones.attention import rotary_angles
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.batch import MultimodalBatch
from mot_lab.model import MultimodalModel
from mot_lab.module import MultimodalModule
from mot_lab.optim import make_optimizer
from mot_lab.study_arm import TrainingConfig


class PlainBlock(nn.Module):
    """Pre-norm attention and SwiGLU with Chameleon's QK-norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, head_width = config.width, config.width // config.heads
        self.heads = config.heads
        self.attention_norm = nn.RMSNorm(width, eps=config.norm_eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.LayerNorm(head_width, eps=config.qk_norm_eps)
        self.key_norm = nn.LayerNorm(head_width, eps=config.qk_norm_eps)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = nn.RMSNorm(width, eps=config.norm_eps)
        self.gate_up = nn.Linear(width, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, width, bias=False)

    def forward(self, x_BSD: Tensor, mask: Tensor, cos_BS1E: Tensor, sin_BS1E: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, D]."""
        qkv_BSHE = self.qkv(self.attention_norm(x_BSD)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q_BSHE = _rotated(self.query_norm(qkv_BSHE[0]), cos_BS1E, sin_BS1E)
        k_BSHE = _rotated(self.key_norm(qkv_BSHE[1]), cos_BS1E, sin_BS1E)
        q, k, v = (each.transpose(1, 2) for each in (q_BSHE, k_BSHE, qkv_BSHE[2]))
        y_BHSE = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x_BSD = x_BSD + self.out(y_BHSE.transpose(1, 2).flatten(2))
        gate_BSF, up_BSF = self.gate_up(self.feed_forward_norm(x_BSD)).chunk(2, dim=-1)
        return x_BSD + self.down(F.silu(gate_BSF) * up_BSF)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class PlainDense(nn.Module):
    """Dense of the Transfusion setting with the weights of the platform's own.

    Args:
        model: the platform's Dense, whose weights are copied.

    Raises:
        ValueError: a model of another kind than that of the demo.
    """

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        config = model.transformer.config
        if (config.norm, config.qk_norm) != ("pre", "layer") or model.diffusion is None:
            raise ValueError("the plain twin has pre-norm, layer QK-norm and denoised images")
        self.config = config
        self.head = model.diffusion  # noise, codec, loss: no towers in it
        self.embedding = nn.Embedding.from_pretrained(
            model.autoregressive.embedding.weight.detach().clone(), freeze=False
        )
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.layers))
        self.final_norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.output = nn.Linear(config.width, self.embedding.num_embeddings, bias=False)
        with torch.no_grad():
            for own, theirs in self.pairs(model):
                own.copy_(theirs)

    def pairs(self, model: MultimodalModel) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Every parameter with that of the platform's Dense; those of the codec are the same."""
        name = model.transformer.wiring.modalities[0]
        found = [
            (self.embedding.weight, model.autoregressive.embedding.weight),
            (self.output.weight, model.autoregressive.output.weight),
            (self.final_norm.weight, _weight(model.transformer.final_norm.of(name))),
        ]
        for each, theirs in zip(self.blocks, model.transformer.layers, strict=True):
            own = cast(PlainBlock, each)
            attention = theirs.attention
            assert attention.qk_norm is not None
            norm = attention.qk_norm.of(name)
            feed_forward = cast(FeedForward, theirs.feed_forward.of(name))
            found += [
                (own.attention_norm.weight, _weight(theirs.attention_norm.of(name))),
                (own.qkv.weight, _weight(attention.qkv.of(name))),
                (own.out.weight, _weight(attention.out.of(name))),
                (own.feed_forward_norm.weight, _weight(theirs.feed_forward_norm.of(name))),
                (own.gate_up.weight, feed_forward.gate_up.weight),
                (own.down.weight, feed_forward.down.weight),
            ]
            for mine, kind in ((own.query_norm, "query"), (own.key_norm, "key")):
                other = cast(nn.LayerNorm, getattr(norm, kind))
                found += [(mine.weight, other.weight), (mine.bias, other.bias)]
        return found

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """The objective of a batch, of nats per token and squared error per image."""
        head, codec = self.head, self.head.codec
        x_BSD = self.embedding(batch.token_BS)
        noised = head.add_noise(batch.latents_NCHW, batch.noise_NCHW, batch.time_N)
        patches_NPD, kept = codec.encode(noised, batch.time_N)
        x_ND = x_BSD.flatten(0, 1).index_copy(0, batch.patch_place_M, patches_NPD.flatten(0, 1))
        x_BSD = x_ND.view_as(x_BSD)
        mask = attention_mask(batch.document_BS, batch.image_BS)
        head_width = self.config.width // self.config.heads
        angles = rotary_angles(batch.position_BS.flatten(), head_width, self.config.rope_base)
        cos, sin = (each.to(x_BSD.dtype).unflatten(0, x_BSD.shape[:2]) for each in angles)
        for block in self.blocks:
            x_BSD = block(x_BSD, mask, cos, sin)
        x_ND = self.final_norm(x_BSD).flatten(0, 1)
        logits_LV = self.output(x_ND[batch.target_place_L])
        hidden_NPD = x_ND[batch.patch_place_M].view_as(patches_NPD)
        prediction = codec.decode(hidden_NPD, batch.time_N, kept)
        wanted = head.target(batch.latents_NCHW, batch.noise_NCHW)
        return F.cross_entropy(logits_LV, batch.target_L) + head.config.loss_weight * F.mse_loss(
            prediction, wanted
        )


def _weight(module: nn.Module) -> nn.Parameter:
    return cast(nn.Parameter, module.weight)


class PlainStep:
    """Its whole training step: forward, backward, clipping, optimiser."""

    def __init__(self, dense: MultimodalModule, training: TrainingConfig, steps: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = PlainDense(dense.net).to(self.device).train()
        self.optimizer = make_optimizer(self.net, dense.config.optimizer, steps)[0]
        self.clip = training.gradient_clip

    def __call__(
        self, batch: MultimodalBatch, done: Callable[[str], None] = lambda part: None
    ) -> None:
        """Train on a batch that is on the device."""
        loss = self.net(batch)
        done("forward")
        loss.backward()
        done("backward")
        nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        done("rest")
        self.optimizer.step()
        self.optimizer.zero_grad()
        done("optimiser")
