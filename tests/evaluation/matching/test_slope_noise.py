"""Reaching levels for many draws at once, and the noise of a slope."""

import numpy as np
import pytest

from evaluation.curve import Curve, monotone
from evaluation.matching.reaching import falling, first_reached, fit_slopes
from evaluation.matching.slope_noise import BINS, FEWEST, points_interval, slope_noise

STEPS = np.arange(50.0, 1501.0, 50.0)


def law(steps):
    return 1.9 + 6.0 * steps**-0.31


def noisy(speed, deviation, seed, steps=STEPS):
    noise = np.random.default_rng(seed).normal(0, deviation, len(steps))
    return Curve(steps, law(steps / speed) + noise)


def test_many_draws_at_once_equal_one_at_a_time():
    generator = np.random.default_rng(0)
    drawn_B = law(STEPS) + generator.normal(0, 0.05, (20, 30))
    drawn_A = law(STEPS[:24] / 0.9) + generator.normal(0, 0.05, (20, 24))
    drawn_A[3] = drawn_B[3, :24]  # ties, too
    levels_DB, levels_DA = falling(drawn_B), falling(drawn_A)
    together = first_reached(STEPS, levels_DB, STEPS[:24], levels_DA)
    slope_D, _, covered_DB = fit_slopes(STEPS, levels_DB, STEPS[:24], levels_DA, 100)
    for draw in range(20):
        assert levels_DB[draw] == pytest.approx(monotone(Curve(STEPS, drawn_B[draw])), abs=1e-12)
        pair = STEPS, levels_DB[draw : draw + 1], STEPS[:24], levels_DA[draw : draw + 1]
        assert together[draw] == pytest.approx(first_reached(*pair)[0], nan_ok=True, rel=1e-9)
        alone, _, covered = fit_slopes(*pair, 100)
        assert slope_D[draw] == pytest.approx(alone[0]) and (covered_DB[draw] == covered[0]).all()


def test_a_curve_matched_with_itself_has_no_noise():
    curve = noisy(1.0, 0.05, 0)
    assert np.abs(slope_noise(curve, curve, 100).errors).max() < 1e-9


def test_the_noise_of_a_slope_grows_with_that_of_the_curves_and_shrinks_with_their_points():
    spread = {
        deviation: slope_noise(noisy(1, deviation, 0), noisy(0.7, deviation, 1), 100).errors.std()
        for deviation in (0.005, 0.02)
    }
    assert spread[0.02] == pytest.approx(4 * spread[0.005], rel=0.3)
    fine = np.arange(5.0, 1501.0, 5.0)
    dense = slope_noise(noisy(1, 0.02, 0, fine), noisy(0.7, 0.02, 1, fine), 100).errors.std()
    assert dense == pytest.approx(spread[0.02] / np.sqrt(10), rel=0.4)


def test_noise_that_both_runs_share_cancels_where_they_run_side_by_side():
    # The same order of data, and with it the same bumps: the slope of 1 knows them on both sides.
    bumps = np.random.default_rng(0).normal(0, 0.02, 30)
    own = [np.random.default_rng(seed).normal(0, 0.001, 30) for seed in (1, 2)]
    one, other = (Curve(STEPS, law(STEPS) + bumps + each) for each in own)
    elsewhere = Curve(STEPS - 1, other.values)  # other steps: nothing says what is shared
    together, apart = (slope_noise(one, arm, 100).errors.std() for arm in (other, elsewhere))
    assert together < 0.65 * apart


def test_a_pause_of_the_machine_is_no_noise_of_the_loss():
    baseline, arm = noisy(1.0, 0.009, 0), noisy(0.8, 0.009, 1)
    paused = np.where(STEPS > 600, STEPS + 400, STEPS)
    even = slope_noise(baseline, arm, 100).errors.std()
    late = slope_noise(Curve(paused, baseline.values), Curve(paused, arm.values), 100).errors.std()
    assert late < 2 * even


def test_too_few_points_or_no_slope_have_no_interval():
    few = STEPS[: FEWEST - 1]
    assert slope_noise(noisy(1, 0.01, 0, few), noisy(0.8, 0.01, 1, few), 0) is None
    assert slope_noise(noisy(1, 0.01, 0), Curve(STEPS, np.full(30, 10.0)), 100) is None
    assert points_interval(0.5, []) == (None, None)


def test_a_long_curve_is_averaged_first_and_stays_as_noisy():
    steps = np.arange(1.0, 20 * BINS + 1)
    curves = noisy(1.0, 0.1, 0, steps), noisy(0.7, 0.1, 1, steps)
    means = [
        Curve(one.steps.reshape(-1, 20).mean(axis=1), one.values.reshape(-1, 20).mean(axis=1))
        for one in curves
    ]
    assert slope_noise(*curves, 100).errors == pytest.approx(slope_noise(*means, 100).errors)


def test_several_seeds_average_out():
    noise = slope_noise(noisy(1.0, 0.01, 0), noisy(0.8, 0.01, 1), 100)
    low, high = points_interval(0.8, [noise])
    low_4, high_4 = points_interval(0.8, [noise] * 4)
    assert (low + high) / 2 == pytest.approx(0.8) and low < 0.8
    assert (high_4 - low_4) / (high - low) == pytest.approx(0.5, rel=0.05)
    again = slope_noise(noisy(1.0, 0.01, 0), noisy(0.8, 0.01, 1), 100)
    assert (noise.errors == again.errors).all()
