"""A finished study gets more seeds and another arm: what is there is kept, the rest is added."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_studies import TINY_SCENES

from evaluation.numbers.study import report_numbers
from evaluation.store.read import read_study
from mot_lab.cli import main
from mot_lab.runtime.mlflow_store import default_tracking_uri

SETTINGS: dict[str, Any] = {
    "name": "growing",
    "arms": ["dense", "mot"],
    "seeds": [0],
    "parallel_runs": 2,
    "data": TINY_SCENES,
    "model": {
        "backbone": {"width": 16, "layers": 1, "heads": 2, "feed_forward_multiple": 16},
        "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 1},
    },
    "training": {"steps": 4, "val_every": 2, "log_every": 1, "checkpoint_every": 4},
    "evaluation": {"images": 2, "sample_steps": 1, "shown": 1, "extractors": []},
}
FAST = {"mot_fast": {"arm": "mot", "model": {"optimizer": {"lr": 2e-3}}}}
KEPT = ("checkpoint.ckpt", "metrics.jsonl", "config.yaml", "artifacts/evaluation.json")


class _Here:
    """A pool that does everything at once, in this process."""

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, do: Callable[..., None], *arguments: object) -> "Future[None]":
        future: Future[None] = Future()
        do(*arguments)
        future.set_result(None)
        return future


class Growing:
    """The study's folder, and what `mot-lab study` says of it."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.folder = folder, folder / "growing"
        self.yaml = folder / "growing.yaml"

    def study(self, *options: str, **changes: Any) -> None:
        self.yaml.write_text(yaml.safe_dump({**SETTINGS, **changes}))
        main(["study", str(self.yaml), "--runs", str(self.runs), *options])

    def kept(self) -> dict[str, tuple[int, bytes]]:
        """Time and content of every file that a run is made of."""
        paths = [path for name in KEPT for path in self.folder.glob(f"*/{name}")]
        return {
            str(path.relative_to(self.folder)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in paths
        }

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


def _numbers_alone(tracking_uri: str, study: str, folder: Path) -> Path:
    """A report without its figures, which take most of the time."""
    path = folder / "report.json"
    path.write_text(json.dumps(report_numbers(read_study(tracking_uri, study))))
    return path


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """No worker processes and no figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mot_lab.study.worker_pool", lambda *_: _Here())
        patch.setattr("evaluation.report.build.build_report", _numbers_alone)
        yield


@pytest.fixture(scope="module")
def growing(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Growing:
    """Finished, with one seed."""
    growing = Growing(tmp_path_factory.mktemp("runs"))
    growing.study()
    return growing


def test_seeds_are_added_and_nothing_is_repeated(
    growing: Growing, capsys: pytest.CaptureFixture[str]
) -> None:
    before, times = growing.kept(), growing.json("step_times.json")
    assert len(before) == 2 * len(KEPT)
    assert growing.json("report.json")["seeds"] == [0]
    growing.study("--seeds", "5")
    after = growing.kept()
    assert {name: after[name] for name in before} == before
    assert len(after) == 10 * len(KEPT)
    printed = capsys.readouterr().out
    assert "2 of 10 runs are trained already and kept" in printed
    assert "Training 8 runs" in printed
    assert growing.json("report.json")["seeds"] == [0, 1, 2, 3, 4]
    assert growing.json("step_times.json") == times  # the same arms: as timed before
    record = read_study(default_tracking_uri(growing.folder), "growing")
    assert sorted((run.arm, run.seed) for run in record.runs) == [
        (arm, seed) for arm in ("dense", "mot") for seed in range(5)
    ]
    fairness = growing.json("study.json")["fairness"]
    assert (fairness["equal"], fairness["allowed_unequal"]) == (True, False)
    earlier = next(each for each in fairness["checks"] if each["what"] == "data of earlier runs")
    assert earlier["values"] == {"dense": "the same", "mot": "the same"}
    digests = {
        name: yaml.safe_load(content)["digests"]
        for name, (_, content) in after.items()
        if name.endswith("config.yaml")
    }
    for seed in range(5):
        assert digests[f"dense-seed{seed}/config.yaml"] == digests[f"mot-seed{seed}/config.yaml"]
    assert len({each["training"] for each in digests.values()}) == 5
    assert len({each["val"] for each in digests.values()}) == 1


def test_fewer_seeds_leave_the_others_out_and_say_so(
    growing: Growing, capsys: pytest.CaptureFixture[str]
) -> None:
    before = growing.kept()
    growing.study("--seeds", "1")
    assert growing.kept() == before
    printed = " ".join(capsys.readouterr().out.split())
    assert "8 earlier runs are of other arms or seeds than the study has now" in printed
    assert "dense-seed1, dense-seed2" in printed
    assert growing.json("report.json")["seeds"] == [0]


def test_an_unequal_arm_is_refused_and_added_when_allowed(
    growing: Growing, capsys: pytest.CaptureFixture[str]
) -> None:
    before = growing.kept()
    arms = [*SETTINGS["arms"], FAST]
    with pytest.raises(SystemExit) as end:
        growing.study(arms=arms)
    assert end.value.code == 2
    refused = capsys.readouterr().err.strip().splitlines()[-1]
    assert "learning rate at every step: mot_fast has at most 0.002" in refused
    assert "--allow-unequal" in refused
    assert growing.kept() == before

    growing.study("--allow-unequal", arms=arms)
    after = growing.kept()
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {f"mot_fast-seed0/{name}" for name in KEPT}
    times = growing.json("step_times.json")
    assert times.keys() == {"dense", "mot", "mot_fast"}
    assert len({each["steps"] for each in times.values()}) == 1  # all anew, in the same rounds
    fairness = growing.json("study.json")["fairness"]
    assert (fairness["equal"], fairness["allowed_unequal"]) == (False, True)
    unequal = {each["what"]: each["values"] for each in fairness["checks"] if not each["equal"]}
    assert unequal.keys() == {"learning rate at every step"}
    assert unequal["learning rate at every step"]["mot_fast"].startswith("at most 0.002")
    settings = yaml.safe_load((growing.folder / "mot_fast-seed0" / "config.yaml").read_text())
    assert settings["model"]["optimizer"]["lr"] == 0.002
    assert settings["arm"] == "mot"
    losses = {arm: _losses(growing.folder / f"{arm}-seed0") for arm in ("mot", "mot_fast")}
    assert losses["mot"][0] == losses["mot_fast"][0]  # the same weights and batch
    assert losses["mot"][-1] != losses["mot_fast"][-1]  # another learning rate


def _losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["train/total/loss"] for line in lines if "train/total/loss" in line]


def test_other_scoring_is_refused(growing: Growing, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        growing.study(evaluation={**SETTINGS["evaluation"], "images": 3})
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "were scored with images 2, now it would be 3" in said


def test_no_seeds_are_refused(growing: Growing, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        growing.study("--seeds", "0")
    assert "--seeds 0 must be at least 1" in capsys.readouterr().err
