"""Curves from files and runs that others made, and what is said of those that make none."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from evaluation.matching.curve_files import read_curve_file
from evaluation.matching.curve_runs import read_measured, read_run
from evaluation.matching.files import match_measured, uneven_ends

GOOD = "step,loss\n10,3.0\n20,2.0\n30,1.5\n"


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str, name: str = "curve.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_csv_with_costs(file):
    text = "flops, step ,other,loss,seconds\n1e9,10,,3.0,0.5\n2e9,20,7,2.5,1.5\n4e9,30,,2.0,4\n"
    curve = read_curve_file(file("\ufeff" + text), "loss")
    assert curve.on("steps").steps.tolist() == [10, 20, 30]
    assert curve.on("flops").steps.tolist() == [1e9, 2e9, 4e9]
    assert curve.on("seconds").steps.tolist() == [0.5, 1.5, 4]
    assert curve.values.tolist() == [3.0, 2.5, 2.0]
    assert (curve.unlogged, curve.left_out, curve.notes) == (0, 0, ())


def test_rows_of_other_metrics_are_counted(file):
    # as loggers write them that give every metric a column
    curve = read_curve_file(
        file("step,loss,acc\n10,3,\n10,,0.5\n20,2,\n20,,0.6\n\n30,1,\n"), "loss"
    )
    assert curve.values.tolist() == [3, 2, 1]
    assert curve.unlogged == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("  \n\n", "is empty"),
        ("step,loss\n", "0 values of 'loss'; a curve needs at least two"),
        ("step,loss\n1,2\n", "1 values of 'loss'"),
        ("step;loss\n1;2\n", "separated by semicolons; separate them by commas"),
        ("step\tloss\n1\t2\n", "separated by tabs"),
        ("epoch,loss\n1,2\n", "no column 'step'; its columns: epoch, loss"),
        ("step,acc,lr\n1,2,3\n", "no column 'loss'; its columns: step, acc, lr"),
        ("step,loss,loss\n1,2,3\n", "two columns 'loss'"),
        ("step,loss\n1,2\n2,two\n", "line 3: loss is 'two', not a number"),
        ("step,loss\n1,2\n,1\n", "line 3: step is '', not a number"),
        ("step,loss\n1,2\n2\n", "line 3: 1 cells under a header of 2 columns"),
        ('step,loss\n1,"2\n', "not CSV"),
        (GOOD + "40,nan\n", "line 5: loss is nan; if that point was not measured delete it"),
        (GOOD + "40,inf\n", "line 5: loss is inf"),
        (GOOD + "20,1.2\n", "line 5: step 20 follows step 30 of line 4; sort the lines"),
        (GOOD + "30,1.2\n", "line 5: step 30 again, it is also at line 4"),
        ("step,loss\n-1,2\n2,1\n", "step -1 is below zero"),
        ("step,loss,flops\n1,2,10\n2,1,10\n", "line 3: flops 10 is not above the 10 of line 2"),
        ("step,loss\n1,0.1\n2,0.5\n3,0.9\n", "does not fall from its first to its last step"),
        ("step,loss\n1,0.5\n2,0.5\n", "does not fall"),
    ],
)
def test_a_csv_that_makes_no_curve_says_why_and_where(file, text, said):
    with pytest.raises(ValueError, match=said) as error:
        read_curve_file(file(text), "loss")
    assert "curve.csv" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_bytes("step,loss\n".encode("utf-16"))
    with pytest.raises(ValueError, match="not a text file in UTF-8"):
        read_curve_file(path, "loss")


def test_costs_that_not_every_value_has_are_not_used_and_that_is_said(file):
    curve = read_curve_file(file("step,loss,seconds\n1,3,1\n2,2,\n3,1,5\n"), "loss")
    assert "seconds" not in curve.positions
    assert curve.notes == (
        "seconds is not used: 1 of 3 values of 'loss' have none beside them, the first at line 3",
    )


def test_json_lines(file):
    lines = [{"step": 1, "loss": 3, "flops": 5}, {"step": 1, "acc": 0.1}]
    lines += [{"step": 2, "loss": 2.5, "flops": 9, "time": "noon"}]
    curve = read_curve_file(file("\n".join(map(json.dumps, lines)), "log.jsonl"), "loss")
    assert curve.values.tolist() == [3, 2.5]
    assert curve.on("flops").steps.tolist() == [5, 9]
    assert (curve.unlogged, list(curve.positions)) == (1, ["steps", "flops"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"step": 1, "acc": 2}\n', "no 'loss' on any line; it has: step, acc"),
        ('{"step": 1, "loss": "x"}\n', 'line 1: loss is "x", not a number'),
        ('{"loss": 3}\n', "line 1: step is missing"),
        ('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1}\n', "line 1: loss is nan"),
        ('{"step": 1, "loss": 3}\n{"step": \n', "line 2: not JSON"),
        ('{"step": 1, "loss": 3}\n[2, 2]\n', "line 2: '\\[2, 2\\]' is not a JSON object"),
        ('{"step": 1, "loss": "NaN"}\n', "not a number"),
    ],
)
def test_json_lines_that_make_no_curve_say_why_and_where(file, text, said):
    with pytest.raises(ValueError, match=said):
        read_curve_file(file(text, "log.jsonl"), "loss")


def test_a_runs_own_metrics_count_what_was_not_finite(file):
    lines = [
        {"step": 10, "time": 1000.0, "loss": 3.0},
        {"step": 15, "time": 1002.0, "acc": 0.5},
        {"step": 20, "time": 1004.0, "loss": "NaN", "nonfinite": 1},
        {"step": 30, "time": 1009.0, "loss": 2.0},
    ]
    path = file("\n".join(map(json.dumps, lines)) + '\n{"step": 40, "ti', "metrics.jsonl")
    curve = read_measured(str(path.parent), "loss")
    assert curve.values.tolist() == [3.0, 2.0]
    assert curve.on("seconds").steps.tolist() == [0.0, 9.0]
    assert (curve.left_out, curve.unlogged) == (1, 1)
    assert "line 5, the last, is torn and left out" in curve.notes[0]


def test_what_is_neither_file_nor_run(tmp_path):
    with pytest.raises(ValueError, match=r"no file or folder 'nix\.csv'"):
        read_measured("nix.csv", "loss")
    with pytest.raises(ValueError, match=r"folder without a metrics\.jsonl"):
        read_measured(str(tmp_path), "loss")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run as another project might log it, with a step logged twice and one not finite."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    client = MlflowClient(uri)
    start = int(time.time() * 1000)
    run_id = client.create_run("0", start_time=start, run_name="theirs").info.run_id
    logged = [(10, 3.0, 1000), (20, 9.9, 2000), (20, 2.0, 2500), (30, 1.5, 4000)]
    metrics = [Metric("loss", value, start + ms, step) for step, value, ms in logged]
    metrics += [Metric("loss", float("nan"), start + 5000, 40), Metric("acc", 0.5, start, 1)]
    metrics += [Metric("backward", 3.0 - i, start - i, i) for i in range(3)]
    metrics += [Metric("flops", 1e9 * step, start, step) for step in (10, 20, 30)]
    client.log_batch(run_id, metrics=metrics)
    return uri, run_id


def test_a_run_of_another_project(tracked):
    uri, run_id = tracked
    for named in (run_id, f"runs:/{run_id}"):
        curve = read_measured(named, "loss", uri)
        assert curve.values.tolist() == [3.0, 2.0, 1.5]
        assert curve.on("seconds").steps.tolist() == [1.0, 2.5, 4.0]
        assert curve.on("flops").steps.tolist() == [1e10, 2e10, 3e10]
        assert (curve.left_out, curve.source) == (1, "run 'theirs'")
    assert "seconds" not in read_run(run_id, "backward", uri).positions


def test_a_run_that_is_not_there(tracked):
    uri, run_id = tracked
    with pytest.raises(ValueError, match=f"no run '{'0' * 32}' at 'sqlite"):
        read_measured("0" * 32, "loss", uri)
    with pytest.raises(ValueError, match="no metric 'los'; it has: acc, backward, flops, loss"):
        read_run(run_id, "los", uri)
    with pytest.raises(ValueError, match="no tracking store at"):
        read_run(run_id, "loss", "sqlite:////nowhere/mlflow.db")


def test_every_axis_is_matched_as_it_was_measured(file):
    # The arm needs half the steps; its steps cost twice the FLOPs up to step 500 and as much after.
    steps = np.arange(10, 1001, 10)
    cost = np.cumsum(np.where(steps <= 500, 20.0, 10.0))
    rows = [f"{n},{10 - n / 100},{10 * n}" for n in steps]
    arm_rows = [f"{n},{10 - n / 50},{of}" for n, of in zip(steps, cost, strict=True)]
    baseline, arm = (
        read_curve_file(file("step,loss,flops\n" + "\n".join(text), name), "loss")
        for text, name in ((rows, "b.csv"), (arm_rows, "a.csv"))
    )
    found = match_measured([baseline], [arm], warmup=100)
    assert found["seconds"] is None
    assert found["steps"].slope == pytest.approx(0.5)
    assert found["flops"].slope == pytest.approx(0.1, rel=0.01)  # 20 / (2 * 10) ... per 10 FLOPs
    assert found["flops"].per_seed[0].points[0, 0] == 1100  # the warm-up ends at step 100
    assert uneven_ends([baseline], [arm]) == []


def test_runs_of_different_length_are_matched_and_that_is_said(file):
    baseline = read_curve_file(file(GOOD, "b.csv"), "loss")
    arm = read_curve_file(file("step,loss\n5,3.0\n10,2.0\n15,1.5\n20,1.2\n", "a.csv"), "loss")
    assert match_measured([baseline], [arm])["steps"].slope == pytest.approx(0.5)
    (said,) = uneven_ends([baseline], [arm])
    assert "b.csv ends at step 30 and" in said and "a.csv at 20" in said
