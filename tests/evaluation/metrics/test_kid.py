"""Kernel distance against torch-fidelity, its definition written out, and sets drawn anew."""

import numpy as np
import pytest
import torch
from oracles import squared_mean_discrepancy
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_kid import kid_features_to_metric

from evaluation.metrics import kid
from evaluation.metrics.feature_file import FeatureFile
from evaluation.metrics.kid import SUBSET_SEED, SUBSET_SIZE, SUBSETS, kernel_distance, kid_metric


def features(count, seed, shift=0.0, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(count, 12)) + shift


def of_torch_fidelity(one, other, subsets, size):
    return kid_features_to_metric(
        torch.from_numpy(one),
        torch.from_numpy(other),
        kid_subsets=subsets,
        kid_subset_size=size,
        verbose=False,
    )["kernel_inception_distance_mean"]


def test_it_equals_torch_fidelity_on_the_same_subsets():
    one, other = features(300, 0, 0.2), features(250, 1)
    value, _ = kernel_distance(one, other, 20, 100)
    assert value == pytest.approx(of_torch_fidelity(one, other, 20, 100), rel=1e-9)
    assert value > 0.01


def test_its_subsets_are_torch_fidelitys(monkeypatch):
    assert DEFAULTS["kid_subsets"] == SUBSETS
    assert DEFAULTS["kid_subset_size"] == SUBSET_SIZE
    assert DEFAULTS["rng_seed"] == SUBSET_SEED
    monkeypatch.setattr(kid, "SUBSETS", 2)
    metric = kid_metric(features(1005, 0), features(1100, 1), "KID", "normal numbers")
    assert (metric.name, metric.n) == ("KID", 1005)
    assert "mean of 2 subsets of 1000" in metric.note


def test_the_whole_set_at_once_is_the_definition():
    one, other = features(9, 0, 0.5), features(9, 1)
    value, _ = kernel_distance(one, other, 1, 9)
    assert value == pytest.approx(squared_mean_discrepancy(one, other), rel=1e-12)


def test_small_sets_are_scored_whole_and_say_so():
    one, other = features(9, 0, 0.5), features(7, 1)
    metric = kid_metric(one, other, "KID", "normal numbers")
    assert metric.value == pytest.approx(of_torch_fidelity(one, other, 100, 7), rel=1e-9)
    assert "mean of 100 subsets of 7" in metric.note
    assert metric.low < metric.value < metric.high


def test_single_precision_features_from_disk_cost_no_digits():
    one, other = features(300, 0, 0.2), features(250, 1)
    files = []
    for each in (one, other):
        files.append(FeatureFile())
        files[-1].append(each.astype(np.float32))
    value, _ = kernel_distance(*files, 20, 100)
    assert value == pytest.approx(kernel_distance(one, other, 20, 100)[0], rel=1e-4)


def test_its_interval_spans_the_figures_of_sets_drawn_anew(monkeypatch):
    monkeypatch.setattr(kid, "SUBSETS", 20)
    reference = features(400, 99)
    metrics = [
        kid_metric(features(200, seed, 0.15, 1.1), reference, "KID", "normal numbers")
        for seed in range(30)
    ]
    values = np.array([metric.value for metric in metrics])
    spread = np.mean([np.std(metric.draws) for metric in metrics])
    assert 0.75 < spread / values.std() < 1.6
    covered = [metric.low < values.mean() < metric.high for metric in metrics]
    assert np.mean(covered) >= 0.85


def test_one_picture_is_refused():
    with pytest.raises(ValueError, match="a kernel distance of 1 pictures"):
        kid_metric(features(1, 0), features(5, 1), "KID", "normal numbers")
