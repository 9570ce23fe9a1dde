"""The checks before a study: each passes where arms are on equal terms and fails for its own cause.

Nothing here trains but the last tests, two steps.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_studies import TINY_SCENES

from mot_lab.config import StudyConfig
from mot_lab.counting import ArmCost, arm_cost
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.digests import data_digests, sampled
from mot_lab.data.prose import ProseSource
from mot_lab.fairness import _flops, check_fairness
from mot_lab.fairness_record import Fairness
from mot_lab.parsing import from_dict
from mot_lab.study import Study
from mot_lab.tokens.text import fit_text_tokenizer
from mot_lab.training import Run, runs_of, train

SETTINGS: dict[str, Any] = {
    "name": "fair",
    "arms": ["dense", "moe_4x", "mot"],
    "seeds": [0, 1],
    "data": TINY_SCENES,
    "model": {
        "backbone": {"width": 16, "layers": 2, "heads": 2, "feed_forward_multiple": 16},
        "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 2},
    },
    "training": {"steps": 20, "val_every": 5, "log_every": 2, "checkpoint_every": 5},
    "evaluation": {"images": 4, "sample_steps": 2, "shown": 1, "extractors": []},
}
BATCHES = {"training batches, seed 0", "training batches, seed 1"}
TOKENS = {"text tokens per step", "image tokens per step"}
HELD_OUT = {f"held-out batches, {split}" for split in ("val", "test", "unseen")}
RATES = "learning rate at every step"


def study_config(*arms: Any, **changes: Any) -> StudyConfig:
    return from_dict(StudyConfig, {**SETTINGS, "arms": list(arms) or SETTINGS["arms"], **changes})


def fairness(config: StudyConfig, folder: Path = Path("nowhere")) -> Fairness:
    """All checks, costs on the study's own batches."""
    workload = Study(config, "", folder).workload
    data = config.data.interface()
    costs = {arm.name: arm_cost(arm, data, workload) for arm in config.parsed_arms}
    return check_fairness(runs_of(config, folder), config.baseline, costs, workload)


def unequal(found: Fairness) -> set[str]:
    return {check.what for check in found.checks if not check.equal}


def values(found: Fairness, what: str) -> dict[str, Any]:
    return dict(next(check.values for check in found.checks if check.what == what))


def test_arms_on_equal_terms_pass_every_check() -> None:
    found = fairness(study_config("dense", "moe_4x", "mot", {"again": {"arm": "mot", "model": {}}}))
    assert found.equal and unequal(found) == set()
    found.require_equal()
    assert {check.what for check in found.checks} == {
        *BATCHES,
        *TOKENS,
        *HELD_OUT,
        "data of earlier runs",
        *("steps", RATES, "optimiser", "largest gradient norm", "precision", "averaged weights"),
        *("steps left out", "validation", "training losses", "objective", "layers"),
        "FLOPs per step",
        *("total parameters", "active parameters"),
    }
    orders = [values(found, what) for what in sorted(BATCHES)]
    assert all(len(set(order.values())) == 1 for order in orders)
    assert orders[0]["dense"] != orders[1]["dense"]  # another seed, another order
    assert values(found, "steps") == dict.fromkeys(("dense", "moe_4x", "mot", "again"), 20)
    assert values(found, "validation")["mot"] == "4 times, every 5 steps"
    assert values(found, RATES)["mot"].startswith("at most 0.001, 0.000")
    parameters = values(found, "total parameters")
    assert parameters["dense"] < parameters["mot"] == parameters["again"] < parameters["moe_4x"]


# What an arm is given of its own -> the checks that must fail for it.
ODD: list[tuple[dict[str, Any], set[str]]] = [
    ({"model": {"optimizer": {"lr": "2e-3"}}}, {RATES}),
    ({"model": {"optimizer": {"final_lr": 2e-4}}}, {RATES}),
    ({"model": {"optimizer": {"warmup_steps": 3}}}, {RATES}),
    ({"model": {"optimizer": {"schedule": "linear"}}}, {RATES}),
    ({"model": {"optimizer": {"betas": [0.9, 0.99]}}}, {"optimiser"}),
    ({"model": {"optimizer": {"eps": 1e-7}}}, {"optimiser"}),
    ({"model": {"optimizer": {"weight_decay": 0.0}}}, {"optimiser"}),
    ({"model": {"z_loss": 1e-4}}, {"objective"}),
    ({"model": {"diffusion": {"loss_weight": 1.0}}}, {"objective"}),
    ({"model": {"diffusion": {"objective": "flow"}}}, {"objective"}),
    ({"model": {"backbone": {"norm": "post"}}}, {"layers"}),
    ({"model": {"backbone": {"qk_norm": "rms"}}}, {"layers"}),
    ({"model": {"backbone": {"layers": 3}}}, {"FLOPs per step"}),
    ({"model": {"backbone": {"width": 32}}}, {"FLOPs per step"}),
    ({"training": {"precision": "bf16-mixed"}}, {"precision"}),
    ({"training": {"steps": 25}}, {"steps", RATES, "validation"}),
    ({"training": {"val_every": 4}}, {"validation"}),
    ({"training": {"log_every": 1}}, {"training losses"}),
    ({"training": {"gradient_clip": 2.0}}, {"largest gradient norm"}),
    ({"training": {"average_decay": 0.9}}, {"averaged weights"}),
    ({"training": {"bad_steps": "skip"}}, {"steps left out"}),
    ({"training": {"spike_sigmas": 6.0}}, {"steps left out"}),
    # What changes no result, or is the arm's own:
    ({"training": {"num_workers": 2, "checkpoint_every": 9}}, set()),
    ({"model": {"backbone": {"gate": "softmax"}}}, set()),
]


@pytest.fixture(scope="module")
def odd_arms() -> Fairness:
    """One study of the baseline and all odd arms."""
    arms = [{f"odd{i}": {"arm": "mot", **changes}} for i, (changes, _) in enumerate(ODD)]
    return fairness(study_config("dense", *arms, seeds=[0]))


@pytest.mark.parametrize("number", range(len(ODD)), ids=[str(changes) for changes, _ in ODD])
def test_what_an_arm_does_otherwise_is_named(number: int, odd_arms: Fairness) -> None:
    arm, (_, differs) = f"odd{number}", ODD[number]
    faults = {
        check.what: fault
        for check in odd_arms.checks
        for fault in check.faults
        if re.match(rf"{arm}\b", fault)
    }
    assert faults.keys() == differs
    with pytest.raises(ValueError, match="--allow-unequal") as caught:
        odd_arms.require_equal()
    assert "\n" not in str(caught.value)
    for what, fault in faults.items():
        both = values(odd_arms, what)
        if what != "FLOPs per step":
            assert fault == f"{arm} has {both[arm]}, dense has {both['dense']}"
        assert f"{what}: " in str(caught.value) and fault in str(caught.value)


def test_flops_are_compared_within_one_percent_and_routers_are_left_aside() -> None:
    found = fairness(study_config("dense", "moe_16x", seeds=[0]))
    flops, routers = values(found, "FLOPs per step"), found.router_flops_per_step
    assert found.equal
    assert flops["moe_16x"] == pytest.approx(flops["dense"], rel=1e-12)
    assert routers["dense"] == 0
    assert routers["moe_16x"] > 0.01 * flops["dense"]  # or leaving it aside would show nothing
    tokens = sum(Study(study_config(), "", Path("nowhere")).workload.tokens.values())
    layers, width, experts, passes = 2, 16, 16, 3
    assert routers["moe_16x"] == pytest.approx(passes * layers * 2 * tokens * width * experts)

    wide = {"wide": {"arm": "dense", "model": {"backbone": {"width": 20}}}}
    found = fairness(study_config("dense", wide, seeds=[0]))
    flops = values(found, "FLOPs per step")
    share = f"{flops['wide'] / flops['dense']:.3f} of the {flops['dense']:.5g} of dense"
    with pytest.raises(ValueError, match=re.escape(share)):
        found.require_equal()


@pytest.mark.parametrize(
    ("share", "passes"), [(1.0099, True), (1.0101, False), (0.9901, True), (0.9899, False)]
)
def test_one_percent_of_flops_is_the_limit(share: float, passes: bool) -> None:
    def cost(flops: float) -> ArmCost:
        return ArmCost("", 1, 1, flops, flops, {})

    costs = {"dense": cost(1000.0), "odd": cost(1000 * share + 50)}
    check = _flops(costs, {"dense": 0.0, "odd": 50.0}, "dense")
    assert check.equal == passes
    assert check.values == {"dense": 1000, "odd": pytest.approx(1000 * share)}


def patch_mot(monkeypatch: pytest.MonkeyPatch, make: Callable[[Run], MultimodalDataModule]) -> None:
    """Give MoT's runs another data module."""
    honest = Run.data_module
    monkeypatch.setattr(
        Run, "data_module", lambda run: make(run) if run.arm == "mot" else honest(run)
    )


class LateSwap(MultimodalDataModule):
    """The batch of the last step is another one."""

    def train_loader(self, steps: int, start: int = 0) -> Any:
        seed = self.seed + (1 if start == 19 else 0)
        return MultimodalDataModule(self.config, seed)._loader("train", (seed, 0), steps, start)


class OtherNoise(MultimodalDataModule):
    """Held-out batches are drawn from another seed."""

    def held_out_loader(self, split: str) -> Any:
        return self._loader(split, (99,), 2, 0)


def test_another_order_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_mot(monkeypatch, lambda run: MultimodalDataModule(run.config.data, run.seed + 7))
    found = fairness(study_config("dense", "mot"))
    assert unequal(found) - TOKENS == BATCHES
    with pytest.raises(ValueError, match=r"training batches, seed 0: mot has \w{16}, dense has"):
        found.require_equal()


def test_another_batch_late_in_the_run_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_mot(monkeypatch, lambda run: LateSwap(run.config.data, run.seed))
    assert unequal(fairness(study_config("dense", "mot"))) - TOKENS == BATCHES


def test_other_tokens_per_modality_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_mot(
        monkeypatch,
        lambda run: MultimodalDataModule(replace(run.config.data, prose_share=1.0), run.seed),
    )
    found = fairness(study_config("dense", "mot"))
    assert unequal(found) >= BATCHES | TOKENS
    assert values(found, "image tokens per step")["mot"] == 0
    assert values(found, "image tokens per step")["dense"] > 10


def test_other_held_out_batches_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_mot(monkeypatch, lambda run: OtherNoise(run.config.data, run.seed))
    assert unequal(fairness(study_config("dense", "mot"))) == HELD_OUT


def test_digests_look_at_the_start_and_over_the_whole_run() -> None:
    assert sampled(1) == [0]
    assert sampled(2) == [0, 1]
    assert sampled(20) == [0, 1, 2, 4, 8, 12, 16, 19]
    assert sampled(1501) == [0, 1, 2, 300, 600, 900, 1200, 1500]


def test_digests_are_those_of_the_loader_and_draw_nothing() -> None:
    config = study_config()
    data = MultimodalDataModule(config.data)
    before = torch.get_rng_state()
    digests = data_digests(data, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert digests == data_digests(MultimodalDataModule(config.data, num_workers=2), 3)
    assert digests["training"] != data_digests(data, 4)["training"]
    assert len(set(digests.values())) == 4


def prepare_nothing(*_: Any) -> dict[str, Any]:
    return {}


def evaluate_nothing(run: Run) -> None:
    raise AssertionError("nothing may be evaluated")


def test_an_unequal_study_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = study_config("dense", {"slow": {"arm": "mot", "model": {"optimizer": {"lr": 2e-3}}}})
    study = Study(config, "", tmp_path / "fair")
    study.console = Console(width=200)
    with pytest.raises(ValueError, match=f"{RATES}: slow has at most 0.002.*--allow-unequal"):
        study.run(prepare_nothing, evaluate_nothing)
    assert not list(study.folder.iterdir())
    printed = capsys.readouterr().out
    assert re.search(rf"differs.*{RATES}.*dense: at most 0.001", printed)
    assert re.search(r"=.*image tokens per step", printed)


def test_the_record_says_what_was_found_and_allowed() -> None:
    config = study_config("dense", {"fast": {"arm": "moe_4x", "training": {"steps": 10}}})
    record = fairness(config).record(allowed_unequal=True)
    assert (record["equal"], record["allowed_unequal"]) == (False, True)
    by_name = {check["what"]: check for check in record["checks"]}
    assert by_name["steps"] == {
        "what": "steps",
        "values": {"dense": 20, "fast": 10},
        "equal": False,
        "rule": "equal",
    }
    # Two lengths share their first steps, and there the data is the same.
    assert all(by_name[what]["equal"] for what in BATCHES | TOKENS)
    assert record["router_flops_per_step"].keys() == {"dense", "fast"}
    assert record["router_flops_per_step"]["fast"] > 0


def test_a_study_is_not_extended_with_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer's file is another one under the same name: the settings say nothing of it."""
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))
    passages = ["in the beginning was the word", "and the word was written down"] * 20
    monkeypatch.setattr(ProseSource, "passages", lambda self, split: passages)
    file = tmp_path / "tokenizer.json"
    fit_text_tokenizer(["a red heart", "a cat on a mat"], 300, ["image"]).save(file)
    text = {"path": str(file)}
    training = {**SETTINGS["training"], "steps": 2, "val_every": 1, "log_every": 1}
    config = study_config(
        "dense",
        data={**SETTINGS["data"], "text": text, "row_length": 128},
        training=training,
        seeds=[0],
    )
    folder = tmp_path / "fair"
    train(runs_of(config, folder)[0], None)
    recorded = runs_of(config, folder)[0].folder.config()["digests"]
    assert recorded == data_digests(MultimodalDataModule(config.data), 2)

    config = replace(config, seeds=[0, 1], arms=["dense", "mot"])
    found = fairness(config, folder)
    assert found.equal
    assert values(found, "data of earlier runs") == {"dense": "the same", "mot": "the same"}

    fit_text_tokenizer(["of two blue fishes", "the king of Israel"], 300, ["image"]).save(file)
    study = Study(config, "", folder)
    with pytest.raises(ValueError, match="data of earlier runs: dense, seed 0: training batches"):
        study.run(prepare_nothing, evaluate_nothing)
    assert [path.name for path in folder.iterdir()] == ["dense-seed0"]
    assert unequal(fairness(config, folder)) == {"data of earlier runs"}

    runs_of(config, folder)[0].folder.record_path.unlink()  # as if it had never ended
    with pytest.raises(ValueError, match=rf"digests\.training was {recorded['training']}, is"):
        train(runs_of(config, folder)[0], None)


def test_a_study_is_not_extended_with_other_settings(tmp_path: Path) -> None:
    training = {**SETTINGS["training"], "steps": 2, "val_every": 1, "log_every": 1}
    config = study_config("dense", training=training, seeds=[0])
    train(runs_of(config, tmp_path)[0], None)
    changed = study_config("dense", training={**training, "gradient_clip": 0.5}, seeds=[0, 1])
    with pytest.raises(ValueError, match=r"training\.gradient_clip was 1\.0, is 0\.5"):
        Study(changed, "", tmp_path).run(prepare_nothing, evaluate_nothing)
