"""Dense against second implementations that no one here wrote: models of `transformers`.

Built from configurations with random weights, which are copied over. Shapes: B rows, S positions,
V vocabulary, D width, H heads, E head width.
"""

from collections.abc import Callable

import pytest
import torch
from factories import FIRST_WORD, INTERFACE, assert_close, randomize, text_batch, tiny_model
from torch import Tensor, nn
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mot_lab.model import MultimodalModel

WIDTH, HEADS, HIDDEN = 32, 4, 96
COMMON = {
    "vocab_size": INTERFACE.vocab_size,
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}
SMALL_VQ = {
    "embed_dim": 8,
    "num_embeddings": 8,
    "latent_channels": 8,
    "base_channels": 32,
    "channel_multiplier": [1],
    "num_res_blocks": 1,
}


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**COMMON))


def qwen3() -> nn.Module:
    return Qwen3ForCausalLM(Qwen3Config(**COMMON, head_dim=WIDTH // HEADS))


def chameleon(swin_norm: bool) -> nn.Module:
    # The image tokens that its logits mask out come behind the ordinary vocabulary.
    vocab_size = INTERFACE.vocab_size
    vocabulary = {f"IMGIMG{letter}Z": vocab_size + i for i, letter in enumerate("ABCDEFGH")}
    vocabulary["<image>"] = vocab_size + 8
    config = ChameleonConfig(
        **{**COMMON, "vocab_size": vocab_size + 9},
        swin_norm=swin_norm,
        vq_config=SMALL_VQ,
        vocabulary_map=vocabulary,
    )
    return ChameleonForConditionalGeneration(config)


CASES = {
    "llama": (llama, {"norm": "pre", "qk_norm": "none"}),
    "qwen3": (qwen3, {"norm": "pre", "qk_norm": "rms", "qk_norm_eps": 1e-5}),
    "chameleon": (lambda: chameleon(False), {"norm": "pre", "qk_norm": "layer"}),
    "chameleon swin": (lambda: chameleon(True), {"norm": "post", "qk_norm": "layer"}),
}


def copy_weights(theirs: nn.Module, ours: MultimodalModel) -> None:
    """Q, K, V stacked into one matrix, gate and up into another; all else one to one."""
    vocab_size = INTERFACE.vocab_size
    ours.autoregressive.embedding.weight.data.copy_(theirs.model.embed_tokens.weight[:vocab_size])
    ours.autoregressive.output.weight.data.copy_(theirs.lm_head.weight[:vocab_size])
    ours.transformer.final_norm.of("text").weight.data.copy_(theirs.model.norm.weight)
    for block, layer in zip(ours.transformer.blocks, theirs.model.layers, strict=True):
        attention, mlp = layer.self_attn, layer.mlp
        qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
        pairs = [
            (block.attention.qkv.of("text").weight, torch.cat([each.weight for each in qkv])),
            (block.attention.out.of("text").weight, attention.o_proj.weight),
            (
                block.feed_forward.of("text").gate_up.weight,
                torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
            ),
            (block.feed_forward.of("text").down.weight, mlp.down_proj.weight),
            (block.attention_norm.of("text").weight, layer.input_layernorm.weight),
            (block.feed_forward_norm.of("text").weight, layer.post_attention_layernorm.weight),
        ]
        if block.attention.qk_norm is not None:
            norms = block.attention.qk_norm.of("text")
            for own, other in ((norms.query, attention.q_norm), (norms.key, attention.k_norm)):
                pairs.append((own.weight, one_head(other.weight)))
                if getattr(other, "bias", None) is not None:
                    pairs.append((own.bias, one_head(other.bias)))
        for own, other in pairs:
            assert own.shape == other.shape
            own.data.copy_(other)


def one_head(weight: Tensor) -> Tensor:
    """[H, E] or [E] -> [E]; ours has one QK-norm for all heads."""
    if weight.dim() == 1:
        return weight
    assert (weight == weight[0]).all()
    return weight[0]


def share_over_heads(theirs: nn.Module) -> None:
    """Chameleon's QK-norms have weights per head: give all heads those of the first."""
    for name, parameter in theirs.named_parameters():
        if ("q_norm" in name or "k_norm" in name) and parameter.dim() == 2:
            parameter.data.copy_(parameter.data[:1].expand_as(parameter))


def their_logits(theirs: nn.Module, tokens_BS: Tensor) -> Tensor:
    """[B, S, V]"""
    with torch.no_grad():
        hidden_BSD = theirs.model(input_ids=tokens_BS, use_cache=False).last_hidden_state
        return theirs.lm_head(hidden_BSD)[..., : INTERFACE.vocab_size]


@pytest.mark.parametrize(("make", "switches"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("arm", ["dense", "mot"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_logits_are_those_of_transformers(
    make: Callable[[], nn.Module], switches: dict, arm: str, dtype: torch.dtype
) -> None:
    theirs = make().eval().to(dtype)
    for name in ("embed_tokens", "layers", "norm"):
        randomize(getattr(theirs.model, name), seed=1)
    randomize(theirs.lm_head, seed=2)
    share_over_heads(theirs)
    ours = tiny_model(
        arm, width=WIDTH, heads=HEADS, feed_forward_multiple=HIDDEN, dtype=dtype, **switches
    )
    copy_weights(theirs, ours)
    generator = torch.Generator().manual_seed(0)
    tokens_BS = torch.randint(FIRST_WORD, INTERFACE.vocab_size, (3, 20), generator=generator)
    with torch.no_grad():
        batch = text_batch(tokens_BS)
        hidden_TD, groups, _ = ours.hidden(batch, batch.latents_NCHW)
        logits_NV = ours.autoregressive.logits(groups.restore(hidden_TD))
    expected_BSV = their_logits(theirs, tokens_BS)
    assert expected_BSV.std() > 0.3
    # `transformers` computes its norms and rotary angles in fp32 whatever the weights are.
    assert_close(logits_NV.view(3, 20, -1), expected_BSV, 1e-5)
