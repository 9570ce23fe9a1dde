"""Metric, shuffles and bootstrap intervals."""

import numpy as np
import pytest

from evaluation.bootstrap import bootstrap_draws, mean_interval, percentile_interval, ratio_interval
from evaluation.metric import Metric, not_available
from evaluation.shuffle import derangement


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"value": float("nan")}, "value of the metric 'CIDEr' is nan"),
        ({"ceiling": float("inf")}, "ceiling"),
        ({"low": None}, "half an interval"),
        ({"low": 2.0, "high": 1.0}, "reversed"),
        ({"value": None, "note": ""}, "must say why"),
    ],
)
def test_a_metric_refuses_what_would_mislead(changed, message):
    figures = {"value": 1.0, "low": 0.5, "high": 1.5, "ceiling": 2.0, "floor": 0.0, "note": ""}
    with pytest.raises(ValueError, match=message):
        Metric(name="CIDEr", n=3, extractor="x", **{**figures, **changed})


def test_what_could_not_be_measured_says_why():
    metric = not_available("CIDEr", "pycocoevalcap", "needs causal routing")
    assert (metric.value, metric.n, metric.note) == (None, 0, "needs causal routing")


@pytest.mark.parametrize("count", [2, 3, 10, 257])
def test_a_derangement_is_a_permutation_that_leaves_nothing_in_place(count):
    for seed in range(20):
        order = derangement(count, seed)
        assert sorted(order) == list(range(count))
        assert (order != np.arange(count)).all()
    assert (derangement(count, 3) == derangement(count, 3)).all()


def test_one_item_cannot_be_shuffled():
    with pytest.raises(ValueError, match="at least two"):
        derangement(1)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    low, high = mean_interval(values, draws=2000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_covers_the_truth_nineteen_times_in_twenty():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        low, high = mean_interval(generator.normal(size=60), draws=150, seed=seed)
        covered += low <= 0 <= high
    assert 90 <= covered <= 99


def test_a_single_value_has_no_interval():
    assert mean_interval(np.array([1.0])) == (None, None)
    assert ratio_interval(np.array([1.0]), np.array([2.0])) == (None, None)


def test_a_ratio_weighs_items_by_what_they_hold():
    right, of = np.array([1, 0, 9]), np.array([1, 1, 9])
    low, high = ratio_interval(right, of, draws=2000)
    by_hand = bootstrap_draws(3, lambda chosen: right[chosen].sum() / of[chosen].sum(), 2000)
    assert (low, high) == percentile_interval(by_hand)
    assert low == 0.0 and high == 1.0


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(1).normal(size=50)
    assert mean_interval(values, seed=4) == mean_interval(values, seed=4)
    assert mean_interval(values, seed=4) != mean_interval(values, seed=5)
