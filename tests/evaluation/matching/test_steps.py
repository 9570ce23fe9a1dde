"""Step matching on curves whose answer is known."""

import numpy as np
import pytest
from oracles import first_reached, slope_covered
from sklearn.isotonic import IsotonicRegression

from evaluation.curve import Curve, monotone
from evaluation.matching.seeds import match_over_seeds
from evaluation.matching.steps import step_matching

STEPS = np.linspace(0, 2000, 51)[1:]


def power_law(steps):
    return 1.2 + 3.0 * steps**-0.3


def noisy(speed, deviation, generator):
    """The loss of an arm that needs ``speed`` of the baseline's steps."""
    return Curve(STEPS, power_law(STEPS / speed) + generator.normal(0, deviation, len(STEPS)))


def test_identical_curves_match_at_exactly_one():
    curve = Curve(STEPS, power_law(STEPS))
    matching = step_matching(curve, curve)
    assert (matching.slope, matching.end_ratio, matching.reached) == (1.0, 1.0, True)
    assert matching.points_reached == matching.points_total == 50


@pytest.mark.parametrize("deviation", [0.005, 0.05, 0.5])
def test_a_noisy_curve_matched_with_itself_gives_exactly_one(deviation):
    # Isotonic regression makes long flat stretches here: the ties that must not count as savings.
    for seed in range(20):
        curve = noisy(1.0, deviation, np.random.default_rng(seed))
        matching = step_matching(curve, curve, warmup=200)
        assert matching.slope == pytest.approx(1.0, abs=1e-12)
        assert matching.end_ratio == pytest.approx(1.0, abs=1e-12)
        assert np.allclose(matching.points[:, 0], matching.points[:, 1], rtol=1e-12)


def test_an_arm_twice_as_fast_gives_a_half():
    straight = step_matching(Curve(STEPS, 9 - STEPS / 1e3), Curve(STEPS, 9 - STEPS / 5e2))
    assert (straight.slope, straight.end_ratio) == pytest.approx((0.5, 0.5), abs=1e-12)
    curved = step_matching(
        Curve(STEPS, power_law(STEPS)), Curve(STEPS, power_law(2 * STEPS)), warmup=100
    )
    assert curved.slope == pytest.approx(0.5, rel=1e-3)
    assert curved.end_ratio == pytest.approx(0.5, abs=1e-12)
    same_noise = power_law(STEPS) + np.random.default_rng(0).normal(0, 0.02, 50)
    assert step_matching(
        Curve(STEPS, same_noise), Curve(STEPS / 2, same_noise)
    ).slope == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("speed", [0.4, 0.8, 1.25, 2.0])
def test_swapping_the_curves_inverts_the_slope(speed):
    one, other = Curve(STEPS, 9 - STEPS / 1e3), Curve(STEPS, 9 - STEPS / speed / 1e3)
    forward, backward = step_matching(one, other), step_matching(other, one)
    assert forward.slope == pytest.approx(speed, rel=1e-2)
    assert forward.slope * backward.slope == pytest.approx(1.0, rel=1e-2)
    assert forward.reached == (speed <= 1) and backward.reached == (speed >= 1)


def test_an_arm_that_never_reaches_the_end_says_so_and_keeps_what_it_reached():
    baseline = Curve(STEPS, 9 - STEPS / 1e3)
    slower = step_matching(baseline, Curve(STEPS, 9 - STEPS / 2e3))
    assert (slower.reached, slower.end_ratio) == (False, None)
    assert slower.slope == pytest.approx(2.0, rel=1e-2)
    assert (slower.points_reached, slower.points_total) == (25, 50)
    assert np.isnan(slower.points[25:, 1]).all()

    nothing = step_matching(baseline, Curve(STEPS, np.full(50, 10.0)))
    assert (nothing.slope, nothing.end_ratio, nothing.reached) == (None, None, False)
    assert (nothing.points_reached, nothing.points_total) == (0, 50)


def test_a_level_passed_before_the_first_point_is_not_extrapolated():
    baseline = Curve([100, 200, 300], [3.0, 2.0, 1.0])
    matching = step_matching(baseline, Curve([100, 200, 300], [1.5, 0.9, 0.5]))
    assert np.isnan(matching.points[:2, 1]).all()
    assert matching.points[2, 1] == pytest.approx(100 + 100 * 0.5 / 0.6)
    assert (matching.points_reached, matching.points_total) == (1, 3)
    below = step_matching(baseline, Curve([100, 200, 300], [0.9, 0.8, 0.7]))
    assert (below.slope, below.reached) == (None, True)
    assert below.end_ratio == pytest.approx(100 / 300)  # at most this
    touching = step_matching(baseline, Curve([100, 200, 300], [1.0, 0.8, 0.7]))
    assert touching.slope == touching.end_ratio == pytest.approx(1 / 3)


def test_warmup_points_are_left_out_and_step_zero_always_is():
    baseline = Curve([0, 1, 2, 3, 4], [9.0, 4.0, 3.0, 2.0, 1.0])
    arm = Curve([0, 1, 2, 3, 4], [9.0, 4.5, 1.0, 0.5, 0.2])
    assert step_matching(baseline, arm).points[:, 0].tolist() == [1, 2, 3, 4]
    late = step_matching(baseline, arm, warmup=2)
    assert late.points.tolist() == pytest.approx(np.array([[3, 1 + 2.5 / 3.5], [4, 2]]))
    assert late.slope == pytest.approx((3 * (1 + 2.5 / 3.5) + 4 * 2) / (9 + 16))
    assert (late.points_reached, late.points_total) == (2, 2)
    with pytest.raises(ValueError, match="nothing is left to match"):
        step_matching(baseline, arm, warmup=4)


@pytest.mark.parametrize("seed", range(10))
def test_the_fast_search_equals_the_walk_along_the_curve(seed):
    generator = np.random.default_rng(seed)
    baseline, arm = noisy(1.0, 0.03, generator), noisy(0.8 + 0.1 * seed, 0.03, generator)
    of_both = STEPS, monotone(baseline), STEPS, monotone(arm)
    assert step_matching(baseline, arm, 200).slope == pytest.approx(slope_covered(*of_both, 200))
    assert step_matching(baseline, arm).points[:, 1] == pytest.approx(
        first_reached(*of_both), nan_ok=True
    )


@pytest.mark.parametrize("deviation", [0.005, 0.01])
@pytest.mark.parametrize("speed", [0.4, 0.75, 1.0, 1.3])
def test_noise_does_not_bias_the_slope(speed, deviation):
    # The whole drop past warm-up is 0.31, so 0.01 is the noise of a hundred steps or more.
    generator = np.random.default_rng(11)
    slopes = [
        step_matching(
            noisy(1.0, deviation, generator), noisy(speed, deviation, generator), warmup=200
        ).slope
        for _ in range(150)
    ]
    assert np.mean(slopes) == pytest.approx(speed, rel=0.02)


@pytest.mark.parametrize("speed", [1.3, 2.0])
def test_noise_does_not_let_an_arm_that_falls_short_look_faster(speed):
    # Over every level that a dip of the arm happens to reach, the slope of 2.0 comes out as 1.6.
    steps = np.arange(1.0, 2001.0)
    generator = np.random.default_rng(4)
    found, over_all = [], []
    for _ in range(60):
        baseline, arm = (
            Curve(steps, power_law(steps / each) + generator.normal(0, 0.05, 2000))
            for each in (1.0, speed)
        )
        matching = step_matching(baseline, arm, warmup=200)
        found.append(matching.slope)
        n, n_a = matching.points[~np.isnan(matching.points[:, 1])].T
        over_all.append(n @ n_a / (n @ n))
        assert matching.points_reached < len(n) or matching.points_reached < 2000 / speed + 200
    assert np.mean(found) == pytest.approx(speed, rel=0.03)
    assert np.mean(over_all) < 0.95 * speed


def test_both_curves_are_made_monotone_alike():
    curve = noisy(1.0, 0.1, np.random.default_rng(5))
    expected = IsotonicRegression(increasing=False).fit(curve.steps, curve.values)
    assert monotone(curve) == pytest.approx(expected.predict(curve.steps), abs=1e-12)
    assert (np.diff(monotone(curve)) <= 0).all()
    rough, smooth = noisy(1.0, 0.05, np.random.default_rng(1)), Curve(STEPS, power_law(STEPS))
    for baseline, arm in ((rough, smooth), (smooth, rough)):
        reference = step_matching(
            Curve(STEPS, monotone(baseline)), Curve(STEPS, monotone(arm)), warmup=200
        )
        assert step_matching(baseline, arm, warmup=200).slope == pytest.approx(reference.slope)


def test_other_axes_multiply_by_what_a_step_costs():
    baseline = Curve(STEPS, 9 - STEPS / 1e3, "dense")
    matching = step_matching(baseline, Curve(STEPS, 9 - STEPS / 5e2)).on_axis(0.4, 0.5)
    assert (matching.slope, matching.end_ratio) == pytest.approx((0.625, 0.625))
    assert matching.points[-1].tolist() == pytest.approx([800.0, 500.0])
    with pytest.raises(ValueError, match="above 0"):
        matching.on_axis(1.0, 0.0)


def test_over_seeds_the_mean_and_an_interval_around_it():
    generator = np.random.default_rng(2)
    baselines = [noisy(1.0, 0.005, generator) for _ in range(5)]
    arms = [noisy(0.6, 0.005, generator) for _ in range(5)]
    matched = match_over_seeds(baselines, arms, warmup=200)
    alone = [step_matching(b, a, 200).slope for b, a in zip(baselines, arms, strict=True)]
    assert matched.slope == pytest.approx(np.mean(alone))
    half = 2.776 * np.std(alone, ddof=1) / np.sqrt(5)  # Student's t of 4 degrees of freedom
    assert matched.slope_high - matched.slope == pytest.approx(half, rel=1e-3)
    assert matched.slope - matched.slope_low == pytest.approx(half, rel=1e-3)
    assert matched.end_ratio_low <= matched.end_ratio <= matched.end_ratio_high
    assert (matched.reached, matched.seeds_reached, matched.seeds) == (True, 5, 5)
    assert matched.points_low < matched.slope < matched.points_high
    again = match_over_seeds(baselines, arms, warmup=200)
    assert (matched.slope_low, matched.points_low) == (again.slope_low, again.points_low)
    flops = matched.on_axis(baseline_per_step=1e9, arm_per_step=1.1e9)
    assert flops.slope == pytest.approx(1.1 * matched.slope)
    assert flops.slope_high == pytest.approx(1.1 * matched.slope_high)
    assert flops.points_low == pytest.approx(1.1 * matched.points_low)
    assert flops.per_seed[2].slope == pytest.approx(1.1 * alone[2])


def test_seeds_are_paired():
    # Each seed's run is the same but for its own difficulty: paired, every slope is one half.
    offsets = [0.0, 0.7, 1.9]
    baselines = [Curve(STEPS, 9 + offset - STEPS / 1e3) for offset in offsets]
    arms = [Curve(STEPS, 9 + offset - STEPS / 5e2) for offset in offsets]
    matched = match_over_seeds(baselines, arms)
    assert (matched.slope_low, matched.slope_high) == pytest.approx((0.5, 0.5))
    assert match_over_seeds(baselines, arms[1:] + arms[:1]).slope != pytest.approx(0.5, rel=0.1)


def test_one_seed_has_an_interval_over_points_and_none_over_seeds():
    matched = match_over_seeds([Curve(STEPS, 9 - STEPS / 1e3)], [Curve(STEPS, 9 - STEPS / 5e2)])
    assert (matched.slope_low, matched.slope_high, matched.end_ratio_low) == (None, None, None)
    assert matched.slope == pytest.approx(0.5)
    assert (matched.points_low, matched.points_high) == pytest.approx((0.5, 0.5), abs=0.05)


def test_one_seed_of_two_that_never_arrives_makes_the_answer_never():
    baselines = [Curve(STEPS, 9 - STEPS / 1e3)] * 2
    arms = [Curve(STEPS, 9 - STEPS / 5e2), Curve(STEPS, 9 - STEPS / 2e3)]
    matched = match_over_seeds(baselines, arms)
    assert (matched.reached, matched.end_ratio, matched.end_ratio_low) == (False, None, None)
    assert (matched.seeds_reached, matched.seeds) == (1, 2)
    assert matched.slope == pytest.approx((0.5 + 2.0) / 2, rel=1e-2)


def test_unpaired_curves_are_refused():
    curve = Curve(STEPS, power_law(STEPS))
    with pytest.raises(ValueError, match="1 baseline curves and 2 arm curves"):
        match_over_seeds([curve], [curve, curve])
    with pytest.raises(ValueError, match="0 baseline"):
        match_over_seeds([], [])


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        ([1, 2, 3], [1.0, float("nan"), 0.5], r"mot: the value at position 1 \(step 2\) is nan"),
        ([1, 2, 3], [1.0, 2.0, float("inf")], "position 2"),
        ([1, 3, 2], [1.0, 0.9, 0.8], "step 2 at position 2 follows step 3"),
        ([1, 1, 2], [1.0, 0.9, 0.8], "step 1 at position 1 follows step 1"),
        ([1, 2, 3], [1.0, 0.9], r"\(3,\) steps and \(2,\) values"),
        ([1], [1.0], "at least two"),
        ([-1, 2], [1.0, 0.5], "below zero"),
    ],
)
def test_a_curve_names_the_place_of_what_is_wrong(steps, values, message):
    with pytest.raises(ValueError, match=message):
        Curve(steps, values, name="mot")


def test_twenty_thousand_noisy_points_take_milliseconds():
    steps = np.arange(1.0, 20001.0)
    generator = np.random.default_rng(0)
    curves = [
        Curve(steps, power_law(steps / speed) + generator.normal(0, 0.05, 20000))
        for speed in (1.0, 0.5)
    ]
    assert step_matching(*curves, warmup=1000).slope == pytest.approx(0.5, rel=0.05)
