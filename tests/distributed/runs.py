"""Short runs, and whether two of them are the same."""

import math

import torch
from reliability.processes import curve

from mot_lab.runtime.averaging import averages_in
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.training import Run

TOLERANCE = 1e-5
SHORT = {"steps": 4, "val_every": 2, "log_every": 1, "checkpoint_every": 2, "precision": "32-true"}


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    """Of the last checkpoint, and their averages."""
    checkpoint = load_checkpoint(run.checkpoint)
    averages = {f"average of {k}": each for k, each in averages_in(checkpoint).items()}
    return {**checkpoint["state_dict"], **averages}


def assert_same_run(run: Run, other: Run) -> None:
    """Weights, averages and curves are the same but for rounding, of which AdamW makes a step as
    long as any where a gradient is nearly zero: few weights differ by as much as the tolerance.
    """
    mine, theirs = weights_of(run), weights_of(other)
    assert mine.keys() == theirs.keys()
    for name, weight in theirs.items():
        difference = (mine[name] - weight).abs()
        assert difference.max() <= TOLERANCE, name
        assert difference.mean() <= TOLERANCE / 10, name
    own, expected = curve(run.folder.path), curve(other.folder.path)
    assert [each.keys() for each in own] == [each.keys() for each in expected]
    for line, wanted in zip(own, expected, strict=True):
        for name, value in wanted.items():
            if name != "time":
                assert math.isclose(line[name], value, rel_tol=1e-4, abs_tol=1e-6), (name, line)
