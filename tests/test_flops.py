"""Parameters against the paper's sizes, FLOPs against PyTorch's counter.

Shapes: B rows, S positions.
"""

import math
from collections.abc import Callable

import oracles
import pytest
import torch
from factories import THREE, TWO, RandomLayout, full_batch, tiny_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mot_lab.backbones.transformer import Transformer
from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import parse_arm
from mot_lab.data.interface import Codes, DataInterface, Latents
from mot_lab.flops import (
    Workload,
    count_active_parameters,
    count_parameters,
    forward_flops,
    training_flops,
)
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.losses import multimodal_losses
from mot_lab.model import MultimodalModel

# name: width, layers, heads, vocabulary
SIZES = {
    "37M": (256, 4, 8, 65_536),
    "94M": (512, 8, 8, 65_536),
    "443M": (1024, 24, 16, 65_536),
    "880M": (1536, 24, 24, 65_536),
    "1.5B": (2048, 24, 16, 65_536),
    "7B": (4096, 32, 32, 65_536),
    "Transfusion 163M": (768, 16, 12, 32_000),
    "Transfusion 373M": (1024, 24, 16, 32_000),
    "Transfusion 760M": (1536, 24, 24, 32_000),
    "Transfusion 1.4B": (2048, 24, 16, 32_000),
    "Transfusion 7B": (4096, 32, 32, 32_000),
}
# In millions (M) or billions (B): non-embedding, embeddings, then totals of the arms. These are
# matrices: norms are left out of all, routers of the hybrid (last) only.
PRINTED = {
    "37M": ("3.4M", "33.6M", "37.0M", "40.4M", None, "44.0M", "47.4M"),
    "94M": ("27.3M", "67.1M", "94.4M", "121.6M", None, "151.0M", "178.3M"),
    "443M": ("308.3M", "134.2M", "442.5M", "750.8M", "1059.1M", "1065.5M", "1373.6M"),
    "880M": ("679.5M", "201.3M", "880.8M", "1560M", "2239.8M", "2239.9M", "2919M"),
    "1.5B": ("1233M", "268.4M", "1501.6M", "2735M", "3968M", "3993M", "5226M"),
    "7B": ("6476M", "536.9M", "7012.9M", "13.49B", "19.96B", "20.00B", "26.5B"),
    "Transfusion 163M": ("113.2M", "49.2M", "162.4M", "275.6M", None, "388.9M", None),
    "Transfusion 373M": ("308.3M", "65.5M", "373.8M", None, None, None, None),
    "Transfusion 760M": ("679.5M", "98.3M", "777.8M", "1457M", None, "2137M", None),
    "Transfusion 1.4B": ("1233M", "131.1M", "1364M", "2597M", None, "3856M", None),
    "Transfusion 7B": ("6476M", "262.1M", "6738M", "13.2B", None, "19.7B", None),
}
ARMS = [("dense", TWO), ("mot", TWO), ("mot", THREE), ("moe_4x", TWO), ("mot_text_moe_4x", TWO)]


def paper_model(size: str, arm: str, modalities: tuple[str, ...]) -> MultimodalModel:
    """On the meta device: nothing is allocated."""
    width, layers, heads, vocab_size = SIZES[size]
    config = TransformerConfig(width, layers, heads, qk_norm="none")
    others = {"image": Latents((8, 32, 32), 2), **{name: Codes(0) for name in modalities[2:]}}
    interface = DataInterface(vocab_size, others)
    with torch.device("meta"):
        return MultimodalModel(
            config, parse_arm(arm, modalities).wiring, DiffusionConfig(), interface
        )


def as_printed(parameters: int, like: str) -> str:
    """With the digits and the unit of another number."""
    unit = {"M": 1e6, "B": 1e9}[like[-1]]
    digits = len(like[:-1].partition(".")[2])
    return f"{parameters / unit:.{digits}f}{like[-1]}"


def numel(model: torch.nn.Module, dims: int) -> int:
    """Numbers in the parameters with one dimension (norms) or, for 2, with more (matrices)."""
    return sum(p.numel() for p in model.parameters() if min(p.dim(), 2) == dims)


@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_the_papers(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Drawing no weights takes most of the time on the meta device.
    monkeypatch.setattr(Transformer, "reset_parameters", lambda self: None)
    width, layers, _, _ = SIZES[size]
    non_embedding, embeddings, *totals = PRINTED[size]
    dense = paper_model(size, "dense", TWO)
    assert as_printed(numel(dense.transformer, 2), non_embedding) == non_embedding
    assert as_printed(count_parameters(dense.autoregressive), embeddings) == embeddings
    active = count_active_parameters(dense)
    assert active == count_parameters(dense)
    for (arm, modalities), printed in zip(ARMS, totals, strict=True):
        model = paper_model(size, arm, modalities)
        experts = len(model.transformer.expert_choice())
        assert experts == (layers if "moe" in arm else 0)
        routers = 4 * width * experts
        assert count_active_parameters(model) == active + routers, arm
        towers = len(modalities) if arm.startswith("mot") else 1
        norms = towers * width * (2 * layers + 1)
        matrices = count_parameters(model) - count_parameters(model.diffusion) - norms
        if arm == "mot_text_moe_4x":
            matrices -= routers
        if printed:
            assert as_printed(matrices, printed) == printed, arm


def workload(batch: object) -> Workload:
    return Workload.of_batches([batch], TWO)


def attention_flops(q_BHSE: torch.Size, k_BHCE: torch.Size, *_: object, **__: object) -> int:
    """Two products."""
    return 4 * math.prod(q_BHSE) * k_BHCE[2]


def attention_backward_flops(
    _: torch.Size, q_BHSE: torch.Size, k_BHCE: torch.Size, *__: object, **___: object
) -> int:
    """Four products; that the kernel computes scores a second time counts for nothing."""
    return 8 * math.prod(q_BHSE) * k_BHCE[2]


# PyTorch counts no attention by the CPU's kernel; by that of its math backend, its products.
OF_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
}


def counted(compute: Callable[[], object]) -> int:
    """FLOPs that PyTorch counts."""
    counter = FlopCounterMode(display=False, custom_mapping=OF_CPU)
    with sdpa_kernel(SDPBackend.MATH), counter:
        compute()
    return counter.get_total_flops()


@pytest.mark.parametrize("codec", ["linear", "unet"])
@pytest.mark.parametrize(
    "arm",
    ["dense", "mot", "moe_2x", "moe_4x", "mot_text_moe_4x", "untie_ffn", "untie_ffn_qkv"],
)
def test_flops_are_those_that_pytorch_counts(arm: str, codec: str) -> None:
    diffusion = DiffusionConfig(codec=codec, unet_channels=32)
    model = tiny_model(arm, diffusion=diffusion, width=64, heads=4)
    model.transformer.kernel = "sdpa"  # attention that computes what the mask hides, too
    batch = full_batch(rows=4, length=32)
    work = workload(batch)
    forward = sum(forward_flops(model, work, full_attention=True).values())
    training = sum(training_flops(model, work, full_attention=True).values())

    def step() -> None:
        multimodal_losses(model, model(batch), batch, 0.0).total.backward()

    assert training == 3 * forward
    assert counted(lambda: model(batch)) == forward
    assert counted(step) == pytest.approx(training, rel=5e-3)


@pytest.mark.parametrize("arm", ["dense", "mot_text_moe_4x"])
def test_flops_of_grouped_queries_and_heads_of_another_width(arm: str) -> None:
    shape = {"heads": 4, "kv_heads": 2, "head_width": 24, "feed_forward_width": 100}
    model = tiny_model(arm, width=64, **shape)
    model.transformer.kernel = "sdpa"
    batch = full_batch(rows=4, length=32)
    expected = sum(forward_flops(model, workload(batch), full_attention=True).values())
    assert counted(lambda: model(batch)) == expected


def test_arms_are_iso_flop_and_modalities_add_up() -> None:
    work = workload(full_batch(rows=4, length=32))
    flops = {
        arm: forward_flops(tiny_model(arm, width=64), work)
        for arm in ("dense", "mot", "untie_ffn", "untie_ffn_qkv", "moe_4x")
    }
    for arm in ("mot", "untie_ffn", "untie_ffn_qkv"):
        assert flops[arm] == flops["dense"]
    tokens = work.tokens["text"] + work.tokens["image"]
    router = 2 * 64 * 4 * tokens * 2  # 2 D E per token and layer
    assert sum(flops["moe_4x"].values()) == sum(flops["dense"].values()) + router


def test_masked_attention_counts_the_pairs_that_are_seen() -> None:
    batch = full_batch(rows=2, length=24)
    work = workload(batch)
    layout = RandomLayout(batch.modality_BS, batch.document_BS, batch.image_BS, batch.position_BS)
    pairs = dict.fromkeys(TWO, 0)
    for row in range(2):
        for query in range(24):
            name = TWO[int(batch.modality_BS[row, query])]
            pairs[name] += sum(oracles.may_attend(layout, row, query, key) for key in range(24))
    assert work.pairs == pairs
    assert sum(work.full_pairs.values()) == 2 * 24 * 24
    model = tiny_model("mot")
    saved = sum(work.full_pairs.values()) - sum(work.pairs.values())
    difference = sum(forward_flops(model, work, True).values()) - sum(
        forward_flops(model, work).values()
    )
    assert difference == 2 * 4 * 16 * saved  # layers x 4 D per pair


def test_workload_is_the_mean_of_batches() -> None:
    batches = [full_batch(seed=seed, rows=2) for seed in range(3)]
    mean = Workload.of_batches(batches, TWO)
    each = [workload(batch) for batch in batches]
    assert mean.images == pytest.approx(sum(w.images for w in each) / 3)
    predicted = [w.predictions["text"] for w in each]
    assert mean.predictions == pytest.approx({"text": sum(predicted) / 3, "image": 0})
    for name in TWO:
        assert mean.tokens[name] == pytest.approx(sum(w.tokens[name] for w in each) / 3)
        assert mean.pairs[name] == pytest.approx(sum(w.pairs[name] for w in each) / 3)
