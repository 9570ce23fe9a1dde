"""Perplexity against torchmetrics and by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchmetrics.text import Perplexity

from evaluation.metrics.perplexity import perplexity, unigram_perplexity


def test_it_equals_torchmetrics_on_the_same_logits():
    generator = torch.Generator().manual_seed(0)
    logits_STV = torch.randn(7, 12, 30, generator=generator, dtype=torch.float64)
    targets_ST = torch.randint(30, (7, 12), generator=generator)
    targets_ST[:, 9:] = -100
    targets_ST[3, 4:] = -100
    nll_ST = F.cross_entropy(logits_STV.transpose(1, 2), targets_ST, reduction="none")
    reference = Perplexity(ignore_index=-100)
    reference.update(logits_STV, targets_ST)
    metric = perplexity(nll_ST.sum(1), (targets_ST != -100).sum(1), "tokenizer")
    assert metric.value == pytest.approx(float(reference.compute()), rel=1e-5)
    assert metric.n == 6 * 9 + 4
    assert metric.low < metric.value < metric.high


def test_documents_weigh_by_their_tokens():
    metric = perplexity([2.0, 0.0], [1, 3], "tokenizer")
    assert metric.value == pytest.approx(np.exp(0.5))


def test_a_uniform_model_has_the_vocabulary_as_perplexity():
    metric = perplexity(np.full(4, 5 * np.log(37)), np.full(4, 5), "tokenizer", floor=37.0)
    assert (metric.value, metric.low, metric.high) == pytest.approx((37.0, 37.0, 37.0))


@pytest.mark.parametrize(
    ("nll", "tokens", "message"),
    [
        ([1.0, float("nan")], [1, 1], "document 1 is nan"),
        ([1.0], [1, 1], "give one each"),
        ([0.0], [0], "all zero"),
        ([1e6, 1e6], [1, 1], "has no perplexity"),
    ],
)
def test_bad_input_is_named(nll, tokens, message):
    with pytest.raises(ValueError, match=message):
        perplexity(nll, tokens, "tokenizer")


def test_unigrams_by_hand():
    # Counts 3, 1, 0 with one added to each: probabilities 4/7, 2/7, 1/7.
    value = unigram_perplexity(np.array([0, 0, 0, 1]), np.array([0, 2]), 3)
    assert value == pytest.approx(np.exp(-(np.log(4 / 7) + np.log(1 / 7)) / 2))
