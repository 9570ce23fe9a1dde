"""Each slope under other choices."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import oracles
import pytest
from synthetic_study import SLOPES, WARMUP

from evaluation.curve import Curve
from evaluation.matching.comparison import compare
from evaluation.matching.sensitivity import (
    exponential_average,
    moving_average,
    running_minimum,
    sensitivity,
    smoothings,
    warmup_cuts,
)
from evaluation.matching.steps import step_matching

STEPS = np.cumsum(np.random.default_rng(1).integers(1, 9, 200)).astype(float)
ROUGH = Curve(STEPS, 2 + 5 * STEPS**-0.4 + np.random.default_rng(0).normal(0, 0.05, 200))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_averages_equal_their_slow_twins(share):
    slow = oracles.moving_average(ROUGH.steps, ROUGH.values, share)
    assert moving_average(ROUGH, share) == pytest.approx(np.minimum.accumulate(slow))
    slow = oracles.exponential_average(ROUGH.steps, ROUGH.values, share)
    assert exponential_average(ROUGH, share) == pytest.approx(np.minimum.accumulate(slow))


def test_every_smoothing_falls_and_leaves_a_falling_line_alone():
    line = Curve(np.arange(1.0, 101.0), 9 - np.arange(1.0, 101.0) / 50)
    for name, smooth in smoothings().items():
        assert (np.diff(smooth(ROUGH)) <= 0).all()
        if "exponential" not in name:  # which lags
            assert smooth(line) == pytest.approx(line.values)
    assert running_minimum(Curve([1, 2, 3], [2.0, 3.0, 1.0])).tolist() == [2, 2, 1]


def test_the_variants_of_a_study_whose_slopes_are_known(study):
    variants = sensitivity(study)
    defaults = [one for one in variants if one.is_default]
    by_place = {(one.arm, one.modality, one.curve): one for one in defaults}
    assert len(defaults) == len(by_place) == 2 * 2 * 2
    for one in compare(study):
        if one.axis == "steps":
            default = by_place[one.arm, one.modality, one.curve]
            matching = one.matching
            assert default.value == pytest.approx(matching.slope)
            assert (default.low, default.high) == pytest.approx(
                (matching.slope_low, matching.slope_high)
            )
            assert (default.smoothing, default.warmup_steps) == ("isotonic", WARMUP)
    # the losses have no noise, so no choice moves a slope by much, but for the average that lags
    for one in variants:
        if one.value is not None and "exponential" not in one.smoothing:
            assert one.value == pytest.approx(SLOPES[one.arm][one.modality], rel=0.03)
    assert [one.arm for one in variants[:2]] == ["moe_4x", "moe_4x"]


def test_one_choice_changes_at_a_time(study):
    of_one = [
        one
        for one in sensitivity(study)
        if (one.arm, one.modality, one.curve) == ("mot", "text", "val")
    ]
    tried = {(one.smoothing, one.warmup_steps, one.estimate) for one in of_one}
    assert len(tried) == len(of_one) == 2 * len(smoothings()) + 2
    assert {warmup for _, warmup, _ in tried} == {0.0, 40.0, 80.0}  # 10 and 20% are 40 and 80
    assert all(smoothing == "isotonic" or warmup == WARMUP for smoothing, warmup, _ in tried)
    ends = [one for one in of_one if one.estimate == "end"]
    assert len(ends) == len(smoothings())
    slow = [one for one in sensitivity(study) if one.arm == "moe_4x" and one.modality == "image"]
    assert all(one.value is None for one in slow if one.estimate == "end" and one.curve == "val")


def test_a_cut_that_leaves_no_point_is_not_tried(study):
    late = replace(study, warmup_steps=300)
    assert warmup_cuts(late, "text", "val") == [0.0, 40.0, 80.0, 300.0]


def test_a_variant_is_the_matching_made_that_way():
    generator = np.random.default_rng(3)
    steps = np.arange(10.0, 1001.0, 10.0)
    curves = {
        arm: [
            Curve(steps, 2 + 5 * (steps / speed) ** -0.3 + generator.normal(0, 0.02, 100))
            for _ in range(3)
        ]
        for arm, speed in (("dense", 1.0), ("mot", 0.7))
    }
    study = SimpleNamespace(
        arms=list(curves),
        baseline="dense",
        modalities=("text",),
        warmup_steps=100,
        curves=lambda arm, modality, curve: curves[arm],
    )
    alone = [
        step_matching(baseline, arm, 100, running_minimum).slope
        for baseline, arm in zip(curves["dense"], curves["mot"], strict=True)
    ]
    (found,) = (
        one
        for one in sensitivity(study)
        if one.smoothing == "none + running minimum" and (one.curve, one.estimate) == ("val", "fit")
    )
    assert found.value == pytest.approx(np.mean(alone)) and found.low < found.value < found.high
    one_sided = [  # only the arm: every dip of it counts, and none of the baseline
        step_matching(baseline, Curve(steps, running_minimum(arm)), 100).slope
        for baseline, arm in zip(curves["dense"], curves["mot"], strict=True)
    ]
    assert np.mean(one_sided) < 0.98 * found.value
