"""The paper's configurations have its sizes to the printed digit, its batches and its schedules.

The numbers are those of Tables 1, 3, 4 and 5 of the MoT paper (arXiv 2411.04996v2).
"""

import time
from functools import cache
from pathlib import Path

import pytest

from mot_lab.cli import main
from mot_lab.config import StudyConfig, load_study
from mot_lab.counting import ArmCost, arm_cost_and_parts, nominal_workload
from mot_lab.data.interface import Codes, Latents
from mot_lab.paper_figures import PAPER_FIGURES
from mot_lab.parameter_parts import ParameterParts

PAPER = Path(__file__).parents[1] / "experiments" / "paper"
FILES = sorted(path.stem for path in PAPER.glob("*.yaml"))

# width, layers, heads, rows per GPU, GPUs, tokens per step, steps, tokens
CHAMELEON = {
    "37m": (256, 4, 8, 12, 32, "1.57M", 160_000, "0.252T"),
    "94m": (512, 8, 8, 8, 32, "1.05M", 160_000, "0.168T"),
    "443m": (1024, 24, 16, 6, 64, "1.57M", 160_000, "0.252T"),
    "880m": (1536, 24, 24, 4, 128, "2.10M", 120_000, "0.252T"),
    "1.5b": (2048, 24, 16, 4, 128, "2.10M", 120_000, "0.252T"),
    "7b": (4096, 32, 32, 2, 384, "3.15M", 120_000, "0.377T"),
}
TRANSFUSION = {
    "163m": (768, 16, 12, 4, 128, "2.10M", 250_000, "0.524T"),
    "760m": (1536, 24, 24, 4, 128, "2.10M", 250_000, "0.524T"),
    "1.4b": (2048, 24, 16, 2, 256, "2.10M", 250_000, "0.524T"),
    "7b": (4096, 32, 32, 2, 256, "2.10M", 250_000, "0.524T"),
}
ROWS = {
    **{f"chameleon_{size}": CHAMELEON[size] for size in ("37m", "94m", "443m", "1.5b", "7b")},
    **{f"chameleon_speech_{size}": CHAMELEON[size] for size in ("443m", "880m", "1.5b", "7b")},
    **{f"transfusion_{size}": row for size, row in TRANSFUSION.items()},
    "ablation_880m": CHAMELEON["880m"],
}
ARMS = ("dense", "mot", "moe_4x", "mot_text_moe_4x")
# Layers, embeddings, then the arms, in millions (M) or billions (B), without norms and codecs; the
# routers are in the totals of moe_4x and in no others.
PARAMETERS: dict[str, tuple[str | None, ...]] = {
    "chameleon_37m": ("3.4M", "33.6M", "37.0M", "40.4M", "44.0M", "47.4M"),
    "chameleon_94m": ("27.3M", "67.1M", "94.4M", "121.6M", "151.0M", "178.3M"),
    "chameleon_443m": ("308.3M", "134.2M", "442.5M", "750.8M", "1065.5M", "1373.6M"),
    "ablation_880m": ("679.5M", "201.3M", "880.8M", "1560M", "2239.9M", "2919M"),
    "chameleon_1.5b": ("1233M", "268.4M", "1501.6M", "2735M", "3993M", "5226M"),
    "chameleon_7b": ("6476M", "536.9M", "7012.9M", "13.49B", "20.00B", "26.5B"),
    "chameleon_speech_443m": ("308.3M", "134.2M", "442.5M", "1059.1M", "1065.5M", None),
    "chameleon_speech_880m": ("679.5M", "201.3M", "880.8M", "2239.8M", "2239.9M", None),
    "chameleon_speech_1.5b": ("1233M", "268.4M", "1501.6M", "3968M", "3993M", None),
    "chameleon_speech_7b": ("6476M", "536.9M", "7012.9M", "19.96B", "20.00B", None),
    "transfusion_163m": ("113.2M", "49.2M", "162.4M", "275.6M", "388.9M", None),
    "transfusion_760m": ("679.5M", "98.3M", "777.8M", "1457M", "2137M", None),
    "transfusion_1.4b": ("1233M", "131.1M", "1364M", "2597M", "3856M", None),
    "transfusion_7b": ("6476M", "262.1M", "6738M", "13.2B", "19.7B", None),
}


@cache
def study(name: str, arms: tuple[str, ...] = ()) -> StudyConfig:
    return load_study(PAPER / f"{name}.yaml", [f"arms=[{', '.join(arms)}]"] if arms else [])


@cache
def counted(
    name: str, arms: tuple[str, ...] = ()
) -> tuple[dict[str, ArmCost], dict[str, ParameterParts]]:
    """Costs and parameters of a file's arms, or of others."""
    return count(study(name, arms))


def count(config: StudyConfig) -> tuple[dict[str, ArmCost], dict[str, ParameterParts]]:
    data, workload = config.data.interface(), nominal_workload(config.data)
    both = {arm.name: arm_cost_and_parts(arm, data, workload) for arm in config.parsed_arms}
    return {arm: each[0] for arm, each in both.items()}, {
        arm: each[1] for arm, each in both.items()
    }


def as_printed(number: float, like: str) -> str:
    """With the digits and the unit of another number."""
    digits = len(like[:-1].partition(".")[2])
    return f"{number / {'M': 1e6, 'B': 1e9, 'T': 1e12}[like[-1]]:.{digits}f}{like[-1]}"


def test_every_row_of_the_tables_has_its_file() -> None:
    assert sorted(ROWS) == sorted(PARAMETERS) == FILES


@pytest.mark.parametrize("name", FILES)
def test_parameters_are_the_papers_to_the_printed_digit(name: str) -> None:
    layers, embeddings, *totals = PARAMETERS[name]
    _, parts = counted(name, ARMS)
    assert as_printed(parts["dense"].matrices, layers) == layers
    assert as_printed(parts["dense"].embeddings, embeddings) == embeddings
    for arm, total in zip(ARMS, totals, strict=True):
        number = parts[arm].size + (parts[arm].routers if arm == "moe_4x" else 0)
        if total is not None:
            assert as_printed(number, total) == total, arm


def test_the_size_of_transfusion_that_table_4_leaves_out() -> None:
    overrides = ["model.backbone.width=1024", "model.backbone.heads=16", "arms=[dense]"]
    _, parts = count(load_study(PAPER / "transfusion_760m.yaml", overrides))
    assert as_printed(parts["dense"].size, "373.8M") == "373.8M"


@pytest.mark.parametrize("name", [name for name in FILES if "speech" in name])
def test_with_three_modalities_mot_and_moe_4x_have_the_same_size(name: str) -> None:
    costs, _ = counted(name, ARMS)
    assert costs["mot"].parameters == pytest.approx(costs["moe_4x"].parameters, rel=0.01)
    assert costs["mot"].flops_per_step == costs["dense"].flops_per_step
    assert costs["moe_4x"].flops_per_step == pytest.approx(costs["dense"].flops_per_step, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in FILES if "transfusion" in name])
def test_the_codec_has_the_papers_parameters(name: str) -> None:
    for arm, parts in counted(name, ARMS)[1].items():
        assert as_printed(parts.codec, "0.27B") == "0.27B", arm


@pytest.mark.parametrize("name", FILES)
def test_sizes_batches_and_lengths_are_those_of_the_tables(name: str) -> None:
    width, layers, heads, per_gpu, gpus, per_step, steps, tokens = ROWS[name]
    config = study(name)
    backbone, data = config.model.backbone, config.data
    assert (backbone.width, backbone.layers, backbone.heads) == (width, layers, heads)
    assert backbone.feed_forward_multiple == 256
    assert data.row_length == 4096 and data.rows == per_gpu * gpus
    assert as_printed(data.rows * data.row_length, per_step) == per_step
    assert config.training.steps == steps
    assert as_printed(data.rows * data.row_length * steps, tokens) == tokens
    assert config.name == name and config.baseline == "dense"
    text = (PAPER / f"{name}.yaml").read_text()
    assert f"rows: {data.rows}  # {per_gpu} on each of {gpus} GPUs" in text
    assert f"{per_step} tokens a step, {steps // 1000}k steps, {tokens} tokens" in text


@pytest.mark.parametrize("name", FILES)
def test_the_optimiser_is_the_settings(name: str) -> None:
    config = study(name)
    optimizer = config.model.optimizer
    rates = (optimizer.schedule, optimizer.lr, optimizer.final_lr, optimizer.eps)
    transfusion = config.setting == "transfusion"
    assert rates == (
        ("cosine", 3e-4, 1.5e-5, 1e-8) if transfusion else ("linear", 1e-4, 1e-6, 1e-5)
    )
    assert (optimizer.warmup_steps, optimizer.betas) == (4000, (0.9, 0.95))
    assert (optimizer.weight_decay, config.training.gradient_clip) == (0.1, 1.0)
    assert config.model.z_loss == (0.0 if transfusion else 1e-5)
    backbone = config.model.backbone
    assert (backbone.norm, backbone.qk_norm) == (
        ("pre", "none") if transfusion else ("post", "layer")
    )


@pytest.mark.parametrize("name", FILES)
def test_tokens_are_the_settings(name: str) -> None:
    config = study(name)
    interface = config.data.interface()
    image = interface.others["image"]
    if config.setting == "transfusion":
        diffusion = config.model.diffusion
        assert interface.modalities == ("text", "image") and interface.vocab_size == 32_000
        assert image == Latents((8, 32, 32), 2) and image.length == 256
        assert (diffusion.codec, diffusion.objective) == ("unet", "epsilon")
        assert (diffusion.loss_weight, diffusion.sample_steps) == (5.0, 250)
        assert config.evaluation.sample_steps == 250 and config.data.caption_first == 0.8
        return
    assert interface.vocab_size == 65_536 and image == Codes(8192, 1024)
    assert config.data.scenes.canvas == 512 and config.data.caption_first == 0.5
    assert ("speech" in interface.others) == (config.setting == "chameleon_speech")
    if config.data.speech is not None:
        assert interface.others["speech"] == Codes(500)
        assert config.data.speech.share == pytest.approx(1 / 7, abs=1e-6)


def test_arms_are_those_of_the_figures() -> None:
    arms = {name: [arm.name for arm in study(name).parsed_arms] for name in FILES}
    for name in ("chameleon_37m", "chameleon_94m", "chameleon_443m", "chameleon_1.5b"):
        assert arms[name][:5] == ["dense", "moe_2x", "moe_3x", "moe_4x", "mot"]
    for name, listed in arms.items():
        if name != "ablation_880m":
            assert {"dense", "moe_4x", "mot"} <= set(listed), name
        hybrid = name in ("chameleon_443m", "transfusion_760m")
        assert ("mot_text_moe_4x" in listed) == hybrid, name
    assert arms["chameleon_speech_443m"][3:] == ["loo_text", "loo_image", "loo_speech"]
    assert arms["ablation_880m"] == ["dense", "untie_ffn", "untie_ffn_qkv", "mot"]
    named = {figure.partition("/")[0] for name in FILES for figure in study(name).paper}
    # figure 18 is chameleon_443m with other numbers of rows
    assert named == set(PAPER_FIGURES) - {"figure_18"}


@pytest.mark.parametrize("name", ["chameleon_7b", "chameleon_speech_7b", "transfusion_7b"])
def test_count_of_seven_billion_takes_seconds(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.process_time()
    main(["count", str(PAPER / f"{name}.yaml")])
    assert time.process_time() - start < 10
    out = capsys.readouterr().out
    dense = next(line for line in out.splitlines() if line.startswith("dense"))
    assert dense.split()[1] == ("6,738.1M" if "transfusion" in name else "7,012.9M")
    ratio = float(out.partition("mot has ")[2].split()[0])
    assert (abs(ratio - 1) < 0.01) == ("speech" in name)
