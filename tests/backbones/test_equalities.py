"""Dense, MoT and MoE are one computation where their weights are: forward and gradients.

Shapes: B rows, S positions, D width.
"""

from dataclasses import replace

import oracles
import pytest
import torch
from factories import (
    THREE,
    TWO,
    RandomLayout,
    assert_close,
    assert_same_gradients,
    copy_into_towers,
    gradients_by_shared_name,
    random_batch,
    random_layout,
    run_backbone,
    tiny_model,
    tiny_transformer,
)
from torch import Tensor

from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.transformer import Transformer
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.model import MultimodalModel

PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]
precisions = pytest.mark.parametrize(("dtype", "relative"), PRECISIONS, ids=["fp64", "fp32"])
LAYOUTS = {
    "mixed": random_layout(0, rows=3, length=11),
    "no padding": random_layout(1, rows=2, length=9, padding=0),
    "text only": random_layout(2, rows=2, length=8, ids=[0]),
    "image only": random_layout(3, rows=2, length=8, ids=[1]),
    "one token": RandomLayout(
        *(torch.tensor([[value, -1, -1]]) for value in (1, 0, -1)), torch.zeros(1, 3).long()
    ),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def inputs(transformer: Transformer, layout: RandomLayout) -> tuple[Tensor, Tensor]:
    """Hidden states that want gradients, and a random weight of every output."""
    generator = torch.Generator().manual_seed(7)
    shape = (2, *layout.modality_BS.shape, transformer.config.width)
    x_BSD, weight_BSD = torch.randn(shape, generator=generator, dtype=torch.float64)
    dtype = transformer.final_norm.tower[next(iter(transformer.final_norm.tower))].weight.dtype
    return x_BSD.to(dtype).requires_grad_(), weight_BSD.to(dtype)


@precisions
@layouts
@pytest.mark.parametrize("arm", ["mot", "untie_ffn", "untie_ffn_qkv", "mot_text_moe_1x"])
def test_equal_towers_are_dense(
    arm: str, layout: RandomLayout, dtype: torch.dtype, relative: float
) -> None:
    dense = tiny_transformer("dense", dtype=dtype, gate="softmax", qk_norm="layer")
    other = tiny_transformer(arm, dtype=dtype, gate="softmax", qk_norm="layer", seed=1)
    if arm == "mot_text_moe_1x":
        copy_into_hybrid(dense, other)
    else:
        copy_into_towers(dense, other)
    outputs, input_gradients = [], []
    for transformer in (dense, other):
        x_BSD, weight_BSD = inputs(transformer, layout)
        y_BSD = run_backbone(transformer, layout, x_BSD)
        (y_BSD * weight_BSD).sum().backward()
        outputs.append(y_BSD * (layout.modality_BS >= 0)[..., None])
        input_gradients.append(x_BSD.grad * (layout.modality_BS >= 0)[..., None])
    assert outputs[0].abs().max() > 0.1
    assert_close(outputs[1], outputs[0], relative)
    assert_close(input_gradients[1], input_gradients[0], relative)
    if arm != "mot_text_moe_1x":
        actual, expected = gradients_by_shared_name(other), gradients_by_shared_name(dense)
        assert_same_gradients(actual, expected, relative)


def copy_into_hybrid(dense: Transformer, hybrid: Transformer) -> None:
    """Dense weights into every tower, the text tower's only expert included."""
    mot = tiny_transformer("mot", dtype=torch.float64, qk_norm="layer")
    copy_into_towers(dense, mot)
    hybrid.load_state_dict(mot.state_dict(), strict=False)
    for block, theirs in zip(hybrid.blocks, dense.blocks, strict=True):
        fill_expert(block.feed_forward.tower["text"], theirs.feed_forward.of("text"))


def fill_expert(expert: ExpertChoice, feed_forward: torch.nn.Module) -> None:
    """Make the only expert the given feed-forward."""
    expert.gate_up_EDF.data[0] = feed_forward.gate_up.weight.data.T
    expert.down_EFD.data[0] = feed_forward.down.weight.data.T


@precisions
@layouts
def test_one_expert_with_softmax_gate_is_dense(
    layout: RandomLayout, dtype: torch.dtype, relative: float
) -> None:
    dense = tiny_transformer("dense", dtype=dtype)
    moe = tiny_transformer("moe_1x", dtype=dtype, gate="softmax", seed=1)
    moe.load_state_dict(dense.state_dict(), strict=False)
    for block, theirs in zip(moe.blocks, dense.blocks, strict=True):
        fill_expert(block.feed_forward.of("text"), theirs.feed_forward.of("text"))
    outputs = []
    for transformer in (dense, moe):
        x_BSD, weight_BSD = inputs(transformer, layout)
        y_BSD = run_backbone(transformer, layout, x_BSD)
        (y_BSD * weight_BSD * (layout.modality_BS >= 0)[..., None]).sum().backward()
        outputs.append(y_BSD * (layout.modality_BS >= 0)[..., None])
    assert_close(outputs[1], outputs[0], relative)
    actual = {}
    for name, gradient in gradients_by_shared_name(moe).items():
        if name.endswith("EDF") or name.endswith("EFD"):
            actual[f"{name[: -len('_EDF')]}.weight"] = gradient[0].T
        elif "router" in name:
            assert gradient.abs().max() < relative
        else:
            actual[name] = gradient
    assert_same_gradients(actual, gradients_by_shared_name(dense), relative)


GROUPED = {"heads": 4, "kv_heads": 2, "head_width": 6, "qkv_bias": True, "feed_forward_width": 20}
ORACLE_CASES = {
    "dense pre": ("dense", TWO, {}),
    "dense post": ("dense", TWO, {"norm": "post"}),
    "mot pre": ("mot", TWO, {}),
    "mot post": ("mot", TWO, {"norm": "post"}),
    "mot grouped queries": ("mot", TWO, GROUPED),
    "dense grouped queries": ("dense", TWO, {**GROUPED, "qk_norm": "rms"}),
    "mot no qk-norm": ("mot", TWO, {"qk_norm": "none"}),
    "mot rms qk-norm": ("mot", TWO, {"qk_norm": "rms"}),
    "untie_ffn": ("untie_ffn", TWO, {}),
    "untie_ffn_qkv post": ("untie_ffn_qkv", TWO, {"norm": "post"}),
    "untie_ffn_qkv_shared_o": ("untie_ffn_qkv_shared_o", TWO, {}),
    "output of its own": ({"o": {"output": [["text"], ["image"]]}}, TWO, {}),
    "moe_4x": ("moe_4x", TWO, {}),
    "moe_2x softmax": ("moe_2x", TWO, {"gate": "softmax"}),
    "hybrid": ("mot_text_moe_4x", TWO, {}),
    "mot of three": ("mot", THREE, {}),
    "loo_text": ("loo_text", THREE, {}),
    "loo_image": ("loo_image", THREE, {"norm": "post"}),
    "loo_speech": ("loo_speech", THREE, {"qk_norm": "rms"}),
    "refined": (
        {
            "refined": {
                "attention": [["text", "speech"], ["image"]],
                "feed_forward": [["speech"], ["text"], ["image"]],
                "experts": {"text": 2},
            }
        },
        THREE,
        {},
    ),
}


@precisions
@pytest.mark.parametrize(
    ("arm", "modalities", "changes"), ORACLE_CASES.values(), ids=ORACLE_CASES.keys()
)
def test_grouped_computation_is_the_masked_one(
    arm: object, modalities: tuple[str, ...], changes: dict, dtype: torch.dtype, relative: float
) -> None:
    transformer = tiny_transformer(arm, modalities, dtype, **changes)
    layout = random_layout(5, rows=2, length=9, ids=range(len(modalities)))
    assert_is_oracle(transformer, layout, relative)


@layouts
@pytest.mark.parametrize("arm", ["dense", "mot", "moe_4x", "mot_text_moe_4x"])
def test_oracle_on_every_layout(arm: str, layout: RandomLayout) -> None:
    assert_is_oracle(tiny_transformer(arm), layout, 1e-12)


def assert_is_oracle(transformer: Transformer, layout: RandomLayout, relative: float) -> None:
    outputs, gradients = [], []
    for compute in (
        lambda x: run_backbone(transformer, layout, x),
        oracles.BackboneOracle(transformer, layout),
    ):
        transformer.zero_grad()
        x_BSD, weight_BSD = inputs(transformer, layout)
        y_BSD = compute(x_BSD) * (layout.modality_BS >= 0)[..., None]
        (y_BSD * weight_BSD).sum().backward()
        outputs.append(y_BSD)
        found = {n: p.grad for n, p in transformer.named_parameters() if p.grad is not None}
        gradients.append({"input": x_BSD.grad, **found})
    assert_close(outputs[0], outputs[1], relative)
    # The oracle never touches the weights of an absent modality, the fast path gives zeros.
    untouched = gradients[0].keys() - gradients[1].keys()
    for name in untouched:
        assert not gradients[0].pop(name).any(), name
    assert_same_gradients(gradients[0], gradients[1], relative)


def test_absent_modality_gets_zero_gradients_not_none() -> None:
    transformer = tiny_transformer("mot_text_moe_4x")
    for ids, absent in (([0], "image"), ([1], "text")):
        transformer.zero_grad(set_to_none=True)
        layout = random_layout(0, rows=2, length=8, ids=ids)
        x_BSD, weight_BSD = inputs(transformer, layout)
        (run_backbone(transformer, layout, x_BSD) * weight_BSD).sum().backward()
        for name, parameter in transformer.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any() == (f".{absent}." not in name), name


@precisions
@pytest.mark.parametrize("codec", ["linear", "unet"])
def test_whole_network_with_equal_towers_is_dense(
    codec: str, dtype: torch.dtype, relative: float
) -> None:
    diffusion = DiffusionConfig(codec=codec, unet_channels=8)
    dense = tiny_model("dense", dtype=dtype, diffusion=diffusion)
    mot = tiny_model("mot", dtype=dtype, diffusion=diffusion, seed=1)
    copy_into_towers(dense, mot)
    results = [network_result(model, dtype) for model in (dense, mot)]
    for actual, expected in zip(results[1][:2], results[0][:2], strict=True):
        assert_close(actual, expected, relative)
    assert_same_gradients(results[1][2], results[0][2], relative)


def network_result(
    model: MultimodalModel, dtype: torch.dtype
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, prediction, and gradients of a random function of both."""
    batch = random_batch(rows=3)
    batch = replace(
        batch, latents_NCHW=batch.latents_NCHW.to(dtype), noise_NCHW=batch.noise_NCHW.to(dtype)
    )
    output = model(batch)
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros((), dtype=dtype)
    for values in (output.logits_LV, output.prediction_NCHW):
        weights = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        total = total + (values * weights.to(dtype)).sum()
    total.backward()
    return output.logits_LV, output.prediction_NCHW, gradients_by_shared_name(model)
