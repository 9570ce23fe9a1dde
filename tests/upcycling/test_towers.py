"""Dense copied into towers and experts: what is equal to it, and how far.

Shapes: B rows, S positions, T tokens, D width, E experts.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import (
    CHAMELEON_SPEECH,
    INTERFACE,
    assert_close,
    random_batch,
    randomize,
    tiny_model,
    tiny_transformer,
)
from torch import Tensor
from upcycling.language_models import language_model, our_logits, random_tokens, save, their_logits

from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.wiring import parse_arm
from mot_lab.data.interface import Codes, DataInterface
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.model import MultimodalModel
from mot_lab.upcycling.language_model import load_language_model
from mot_lab.upcycling.start import start_network
from mot_lab.upcycling.towers import copy_into_towers, gate_of_zeros

PLAIN_ARMS = [
    "dense",
    "mot",
    "untie_ffn",
    "untie_ffn_qkv",
    "untie_ffn_qkv_shared_o",
    [["text", "speech"], ["image"]],
    {"own": {"attention": [["text"], ["image", "speech"]]}},
]
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]
precisions = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["fp64", "fp32"])


class OneExpertEach:
    """An auxiliary router that sends every token to one expert, drawn at random."""

    def takes(self, x_TD: Tensor) -> Tensor:
        expert_T = torch.randint(4, (len(x_TD),), generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.one_hot(expert_T, 4).bool()


def upcycled(dense: MultimodalModel, arm: object, interface: DataInterface, **changes: object):
    """Another arm with large random weights, then with those of Dense."""
    dtype = dense.autoregressive.output.weight.dtype
    other = tiny_model(arm, interface, dtype=dtype, seed=1, **changes)
    copy_into_towers(dense.transformer, other.transformer)
    other.autoregressive.load_state_dict(dense.autoregressive.state_dict())
    if dense.diffusion is not None:
        other.diffusion.load_state_dict(dense.diffusion.state_dict())
    return other


@precisions
@pytest.mark.parametrize("arm", PLAIN_ARMS, ids=str)
def test_without_experts_every_arm_starts_as_dense(
    arm: object, dtype: torch.dtype, tolerance: float
) -> None:
    """Logits of batches with text, pictures and speech."""
    dense = tiny_model("dense", CHAMELEON_SPEECH, dtype=dtype, kv_heads=1, qkv_bias=True)
    other = upcycled(dense, arm, CHAMELEON_SPEECH, kv_heads=1, qkv_bias=True)
    batch = random_batch(interface=CHAMELEON_SPEECH)
    with torch.no_grad():
        expected_LV, logits_LV = dense(batch).logits_LV, other(batch).logits_LV
    assert expected_LV.std() > 0.3
    assert (logits_LV - expected_LV).abs().max() <= tolerance


@precisions
def test_mot_starts_as_dense_where_images_are_denoised(
    dtype: torch.dtype, tolerance: float
) -> None:
    dense = tiny_model("dense", INTERFACE, dtype=dtype)
    mot = upcycled(dense, "mot", INTERFACE)
    batch = random_batch()
    names = ("latents_NCHW", "noise_NCHW", "time_N")
    batch = replace(batch, **{name: getattr(batch, name).to(dtype) for name in names})
    with torch.no_grad():
        expected, actual = dense(batch), mot(batch)
    assert_close(actual.logits_LV, expected.logits_LV, tolerance)
    assert_close(actual.prediction_NCHW, expected.prediction_NCHW, tolerance)


@precisions
@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
@pytest.mark.parametrize("arm", ["moe_4x", "mot_text_moe_4x"])
def test_experts_that_take_each_token_once_with_a_router_of_zeros_are_dense(
    arm: str, gate: str, dtype: torch.dtype, tolerance: float
) -> None:
    dense = tiny_model("dense", CHAMELEON_SPEECH, dtype=dtype)
    other = upcycled(dense, arm, CHAMELEON_SPEECH, gate=gate)
    for _, _, experts in other.transformer.expert_choice():
        experts.router.weight.data.zero_()
        experts.auxiliary = OneExpertEach()  # type: ignore[assignment]
    batch = random_batch(interface=CHAMELEON_SPEECH)
    with torch.no_grad(), other.transformer.routing("causal"):
        expected_LV, logits_LV = dense(batch).logits_LV, other(batch).logits_LV
    assert (logits_LV - expected_LV).abs().max() <= tolerance


@precisions
@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
def test_under_expert_choice_a_tokens_output_is_denses_times_its_gates(
    gate: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Of a feed-forward with 4 experts and a random router: a token that k experts took gets the
    sum of their k gates, over the gate of a router of zeros; one that none took gets zeros.
    """
    dense = tiny_transformer("dense", dtype=dtype)
    moe = tiny_transformer("moe_4x", dtype=dtype, seed=1, gate=gate)
    copy_into_towers(dense, moe)
    x_TD = torch.randn(40, 16, generator=torch.Generator().manual_seed(2), dtype=dtype)
    for block, theirs in zip(moe.layers, dense.layers, strict=True):
        experts = block.feed_forward.of("text")
        assert isinstance(experts, ExpertChoice)
        with torch.no_grad():
            y_TD = experts(x_TD)
            dense_TD = theirs.feed_forward.of("text")(x_TD)
        taken_TE = experts.taken_TE
        assert set(taken_TE.sum(dim=1).tolist()) >= {0, 1, 2}
        share_T = (experts.scores(x_TD) * taken_TE).sum(dim=1) / gate_of_zeros(experts)
        assert_close(y_TD, dense_TD * share_T[:, None].to(dtype), tolerance)


def test_one_expert_with_a_router_of_zeros_is_dense_in_training() -> None:
    """Its capacity is all tokens."""
    dense = tiny_model("dense", CHAMELEON_SPEECH, dtype=torch.float64)
    moe = upcycled(dense, "moe_1x", CHAMELEON_SPEECH)
    for _, _, experts in moe.transformer.expert_choice():
        experts.router.weight.data.zero_()
    batch = random_batch(interface=CHAMELEON_SPEECH)
    with torch.no_grad():
        assert (moe(batch).logits_LV - dense(batch).logits_LV).abs().max() <= 1e-12


@pytest.mark.parametrize(("kind", "kv_heads"), [("llama", 2), ("qwen3", 4)])
@pytest.mark.parametrize("arm", ["dense", "mot"])
def test_a_language_model_in_every_tower_writes_as_before(
    arm: str, kind: str, kv_heads: int, tmp_path: Path
) -> None:
    """Its own entries of a larger vocabulary have the logits that `transformers` gives them."""
    theirs = language_model(kind, num_key_value_heads=kv_heads)
    path = str(save(theirs, tmp_path))
    interface = DataInterface(66, {"image": Codes(12, 4)})
    backbone = load_language_model(tmp_path).transformer.config
    wiring = parse_arm(arm, interface.modalities).wiring
    net = MultimodalModel(backbone, wiring, DiffusionConfig(), interface)
    randomize(net, seed=3)
    started = start_network(net, interface, path)
    assert (started.copied, started.new, started.by_id, started.codec) == (60, 18, True, None)
    tokens_BS = random_tokens(60)
    logits_BSV = our_logits(net, tokens_BS)
    assert (logits_BSV[..., :60] - their_logits(theirs, tokens_BS)).abs().max() <= 1e-5


def test_only_dense_of_the_same_backbone_can_be_copied() -> None:
    with pytest.raises(ValueError, match="only Dense can be copied"):
        copy_into_towers(tiny_transformer("mot"), tiny_transformer("mot"))
    with pytest.raises(ValueError, match="only Dense can be copied"):
        copy_into_towers(tiny_transformer("moe_4x"), tiny_transformer("moe_4x"))
    other = tiny_transformer("mot", heads=1, rope_base=5e5, qk_norm="rms")
    said = (
        "model.backbone has other heads, kv_heads, head_width, qk_norm, rope_base than the model, "
        "which it starts from: give backbone {width: 16, layers: 2, heads: 2, kv_heads: 2, "
        "head_width: 8, qkv_bias: false, feed_forward_width: 48, norm: pre, norm_eps: 1e-05, "
        "qk_norm: layer, rope_base: 10000.0, qk_norm_eps: 1e-05}"
    )
    with pytest.raises(ValueError) as refused:
        copy_into_towers(tiny_transformer("dense"), other)
    assert str(refused.value) == said
