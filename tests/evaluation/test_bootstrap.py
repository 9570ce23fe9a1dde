"""Bootstrap draws over samples, and intervals over seeds."""

import numpy as np
import pytest
from oracles import resampled_ratios

from evaluation.bootstrap import (
    AT_ONCE,
    bootstrap_draws,
    mean_draws,
    paired_difference,
    percentile_interval,
    ratio_draws,
    seed_interval,
)

TRIALS = 2000


@pytest.mark.parametrize("count", [2, 7, 300, AT_ONCE // 3])
def test_the_draws_of_a_mean_equal_one_resample_at_a_time(count):
    values = np.random.default_rng(0).normal(size=count)
    slow = bootstrap_draws(count, lambda chosen: float(values[chosen].mean()), draws=7, seed=3)
    assert mean_draws(values, draws=7, seed=3) == pytest.approx(slow, rel=1e-12)


def test_the_draws_of_a_ratio_equal_the_walk_over_items():
    above, below = [3.0, 0.0, 9.0, 1.0], [4.0, 1.0, 9.0, 0.0]
    slow, _ = resampled_ratios(above, below, draws=200, seed=5)
    assert ratio_draws(above, below, draws=200, seed=5) == pytest.approx(slow, rel=1e-12)


def test_a_resample_without_denominator_is_drawn_again():
    above, below = [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]
    slow, again = resampled_ratios(above, below, draws=100, seed=1)
    assert again > 10
    assert ratio_draws(above, below, draws=100, seed=1).tolist() == slow == [0.5] * 100


def test_a_ratio_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="2 numerators and 3 denominators"):
        ratio_draws([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="not all 0"):
        ratio_draws([1, 2], [0, 0])
    with pytest.raises(ValueError, match="0 or more"):
        ratio_draws([1, 2], [-1, 2])


def test_a_single_value_cannot_be_resampled():
    assert mean_draws([1.0]).shape == ratio_draws([1.0], [2.0]).shape == (0,)
    assert seed_interval([1.0]) == (None, None)


def test_two_arms_are_resampled_at_the_same_positions():
    scenes = np.random.default_rng(0).normal(size=100)  # how hard each is, for both arms alike
    one, other = mean_draws(scenes, seed=2), mean_draws(scenes + 0.5, seed=2)
    assert other - one == pytest.approx(np.full(1000, 0.5))
    assert np.std(mean_draws(scenes, seed=3) - one) > 0.05


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    low, high = percentile_interval(mean_draws(values, draws=2000))
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_over_samples_covers_the_truth_nineteen_times_in_twenty():
    samples = np.random.default_rng(0).normal(size=(300, 60))
    intervals = [
        percentile_interval(mean_draws(one, 300, seed)) for seed, one in enumerate(samples)
    ]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert 0.91 <= covered <= 0.98


def test_ten_thousand_samples_are_resampled_in_bounded_memory():
    draws = mean_draws(np.arange(10_000.0), draws=250)
    assert draws.shape == (250,)
    assert draws.std() == pytest.approx(10_000 / np.sqrt(12 * 10_000), rel=0.15)


def test_the_interval_over_seeds_is_students():
    # scipy.stats.t.interval(0.95, 2, loc=2, scale=1 / sqrt(3)), from a table: t = 4.303
    assert seed_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert seed_interval([4.0, 4.0]) == (4.0, 4.0)


@pytest.mark.parametrize(("seeds", "percentiles"), [(2, 0.50), (3, 0.75), (5, 0.82)])
def test_over_few_seeds_students_interval_covers_what_percentiles_do_not(seeds, percentiles):
    values = np.random.default_rng(seeds).normal(size=(TRIALS, seeds))
    intervals = np.array([seed_interval(one) for one in values])
    covered = (intervals[:, 0] <= 0) & (intervals[:, 1] >= 0)
    assert covered.mean() == pytest.approx(0.95, abs=0.015)
    by_percentiles = [
        percentile_interval(mean_draws(one, 200, seed=i)) for i, one in enumerate(values)
    ]
    of_those = np.mean([low <= 0 <= high for low, high in by_percentiles])
    assert of_those == pytest.approx(percentiles, abs=0.04)


def test_a_difference_is_paired_by_seed():
    baseline = np.array([2.0, 3.5, 5.1])
    mean, (low, high) = paired_difference(baseline - [0.10, 0.12, 0.11], baseline)
    assert mean == pytest.approx(-0.11)
    assert -0.14 < low < -0.11 < high < -0.08  # the seeds themselves are 1.5 apart
    assert paired_difference([1.0], [3.0]) == (-2.0, (None, None))
    with pytest.raises(ValueError, match="2 values of the arm and 3 of the baseline"):
        paired_difference([1.0, 2.0], baseline)
