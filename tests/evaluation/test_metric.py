"""Metric and shuffles."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from evaluation.bootstrap import mean_draws, percentile_interval
from evaluation.metric import Metric, not_available
from evaluation.metrics.shuffle import derangement


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


def test_a_sampled_metric_has_the_interval_of_its_draws_and_keeps_them_short():
    draws = mean_draws(np.random.default_rng(0).normal(5.0, 2.0, 300))
    metric = Metric.sampled("CLIP score", 5.0, draws, 300, "scene-clip", 9.0, 0.1, "of pictures")
    assert (metric.low, metric.high) == pytest.approx(percentile_interval(draws), rel=1e-5)
    assert len(metric.draws) == 1000 and metric.draws == pytest.approx(draws, rel=5e-6)
    assert all(len(repr(draw)) <= 8 for draw in metric.draws)
    assert (metric.n, metric.ceiling, metric.floor, metric.note) == (300, 9.0, 0.1, "of pictures")
    assert Metric(**json.loads(json.dumps(asdict(metric)))) == metric


def test_a_metric_without_draws_has_no_interval():
    metric = Metric.sampled("CIDEr", 1.0, mean_draws(np.array([1.0])), 1, "x", None, None)
    assert (metric.low, metric.high, metric.draws) == (None, None, ())


def test_a_draw_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="bootstrap draw 1 of the metric 'CIDEr' is nan"):
        Metric("CIDEr", 1.0, 0.5, 1.5, 3, "x", None, None, draws=(1.0, float("nan")))
