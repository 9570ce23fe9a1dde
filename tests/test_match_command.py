"""``mot-lab match``: what it prints, as a table and as JSON."""

import json

import numpy as np
import pytest

from mot_lab.cli import main

STEPS = np.arange(50, 1501, 50)


@pytest.fixture
def curves(tmp_path):
    """Files of a baseline and an arm, two seeds: 0.8 of the steps, a step takes 1.25 the time."""

    def write(name, speed, seconds, seed):
        noise = np.random.default_rng(seed).normal(0, 0.005, len(STEPS))
        losses = 1.9 + 6 * (STEPS / speed) ** -0.31 + noise
        lines = [
            f"{n},{loss},{seconds * n}" for n, loss in zip(STEPS, losses.tolist(), strict=True)
        ]
        path = tmp_path / f"{name}.csv"
        path.write_text("step,val/loss,seconds\n" + "\n".join(lines))
        return str(path)

    return {
        "b0": write("b0", 1.0, 0.4, 0),
        "b1": write("b1", 1.0, 0.4, 1),
        "a0": write("a0", 0.8, 0.5, 2),
        "a1": write("a1", 0.8, 0.5, 3),
    }


def run(curves, names, *more):
    roles = [f"--{'baseline' if name[0] == 'b' else 'arm'}={curves[name]}" for name in names]
    main(["match", *roles, "--metric=val/loss", "--warmup=100", *more])


def test_json_of_two_seeds(curves, capsys):
    run(curves, ["b0", "b1", "a0", "a1"], "--json")
    content = json.loads(capsys.readouterr().out)
    steps, seconds = content["steps"], content["seconds"]
    assert {"slope", "slope_low", "slope_high", "end_ratio", "reached"} <= steps.keys()
    assert steps["slope"] == pytest.approx(0.8, rel=0.03)
    assert steps["slope_low"] < steps["slope"] < steps["slope_high"]
    assert (steps["interval_over"], steps["seeds"], steps["reached"]) == ("seeds", 2, True)
    assert steps["points_low"] < 0.8 < steps["points_high"]
    assert seconds["slope"] == pytest.approx(1.25 * steps["slope"])
    assert seconds["end_ratio"] == pytest.approx(1.25 * steps["end_ratio"])
    assert content["flops"] is None
    assert [one["points"] for one in content["curves"]] == [30] * 4


def test_time_at_a_stated_ratio_of_step_times(curves, capsys):
    run(curves, ["b0", "a0"], "--step-time-ratio=1.36", "--json")
    content = json.loads(capsys.readouterr().out)
    stated, steps = content["seconds_at_ratio"], content["steps"]
    assert stated["step_time_ratio"] == 1.36
    for key in ("slope", "slope_low", "slope_high", "end_ratio"):
        assert stated[key] == pytest.approx(1.36 * steps[key])
    run(curves, ["b0", "a0"], "--step-time-ratio=1.36")
    assert f"seconds at 1.36x {1.36 * steps['slope']:8.3f}" in capsys.readouterr().out
    run(curves, ["b0", "a0"], "--json")
    assert json.loads(capsys.readouterr().out)["seconds_at_ratio"] is None
    with pytest.raises(SystemExit):
        run(curves, ["b0", "a0"], "--step-time-ratio=0")
    assert "--step-time-ratio 0.0 must be above 0" in capsys.readouterr().err


def test_one_seed_says_that_its_interval_is_over_points(curves, capsys):
    run(curves, ["b0", "a0"], "--json")
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert steps["interval_over"] == "points"
    assert (steps["slope_low"], steps["slope_high"]) == (steps["points_low"], steps["points_high"])
    run(curves, ["b0", "a0"])
    table = capsys.readouterr().out
    assert "One seed: there is no interval over seeds." in table
    assert f"optimiser steps{steps['slope']:10.3f}" in table
    assert "not matched: no flops in" in table
    assert "over 2 seeds" not in table


def test_the_table_says_over_how_many_seeds(curves, capsys):
    run(curves, ["b0", "b1", "a0", "a1"])
    table = capsys.readouterr().out
    assert "over 2 seeds" in table and "over the points" in table
    assert "56 of 56" in table


def test_what_cannot_be_matched_is_one_line(curves, capsys):
    for names, said in (
        (["b0", "b1", "a0"], "2 baseline curves and 1 arm curves"),
        (["b0", "a9"], "no file or folder"),
    ):
        with pytest.raises(SystemExit) as end:
            run({"a9": "a9.csv", **curves}, names)
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line
    with pytest.raises(SystemExit):
        main(["match", f"--baseline={curves['b0']}", f"--arm={curves['a0']}", "--metric=acc"])
    assert "has no column 'acc'; its columns: step, val/loss, seconds" in capsys.readouterr().err
