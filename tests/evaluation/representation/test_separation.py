"""The measures against slow twins, and where the answer is known.

Shapes: N tokens, D width, U documents.
"""

import numpy as np
import oracles
import pytest
from sklearn.decomposition import PCA

from evaluation.representation.pca import principal_components
from evaluation.representation.sample import TokenSample
from evaluation.representation.separation import (
    MEASURES,
    document_weights,
    probe_answers,
    probe_scores,
    separation,
    variance_shares,
)

NAMES = ("text", "image", "speech")


def made(
    apart: float, seed: int = 0, tokens: int = 60, width: int = 5, modalities: int = 3
) -> tuple[np.ndarray, TokenSample]:
    """Gaussian tokens around the origin, those of modality m moved by ``apart`` along axis m; a
    document holds about four tokens of any modality.
    """
    rng = np.random.default_rng(seed)
    modality_N = rng.permutation(np.arange(tokens) % modalities)
    states_ND = rng.standard_normal((tokens, width))
    states_ND[np.arange(tokens), modality_N] += apart
    document_N = np.unique(rng.integers(tokens // 4, size=tokens), return_inverse=True)[1]
    place_N = np.arange(tokens)
    sample = TokenSample(NAMES[:modalities], modality_N, 0 * place_N, place_N, document_N)
    return states_ND, sample


def again(sample: TokenSample, weights_U: np.ndarray) -> np.ndarray:
    """The tokens of a resample, one by one."""
    times_N = weights_U[sample.document_N].astype(int)
    return np.repeat(np.arange(len(times_N)), times_N)


@pytest.mark.parametrize("apart", [0.0, 1.5])
def test_every_measure_equals_its_slow_twin(apart: float) -> None:
    states_ND, sample = made(apart)
    states, modality = list(states_ND), sample.modality_N.tolist()
    scores = separation(states_ND, sample)
    silhouettes = oracles.silhouette(states, modality)
    assert scores["silhouette"].value == pytest.approx(np.mean(silhouettes), rel=1e-9)
    share = oracles.variance_share(states, modality)
    assert scores["variance_share"].value == pytest.approx(share, rel=1e-9)
    right = probe_answers(states_ND, sample).tolist()
    assert scores["probe"].value == pytest.approx(oracles.mean_recall(right, modality), abs=1e-12)


def test_resamples_are_the_measures_of_the_tokens_drawn() -> None:
    states_ND, sample = made(1.0)
    weights_RU = document_weights(sample, seed=3, draws=4)
    assert weights_RU.sum(axis=1).tolist() == [sample.document_N.max() + 1] * 4
    right_N = probe_answers(states_ND, sample)
    shares = variance_shares(states_ND, sample, weights_RU)
    scores = probe_scores(right_N, sample, weights_RU)
    for weights_U, share, score in zip(weights_RU, shares, scores, strict=True):
        drawn = again(sample, weights_U)
        modality = sample.modality_N[drawn].tolist()
        assert share == pytest.approx(oracles.variance_share(list(states_ND[drawn]), modality))
        assert score == pytest.approx(oracles.mean_recall(right_N[drawn].tolist(), modality))


def test_the_probe_answers_as_softmax_regression_fitted_on_other_documents() -> None:
    states_ND, sample = made(1.0, tokens=90, modalities=3)
    right_N = probe_answers(states_ND, sample)
    assert 0.4 < right_N.mean() < 0.9  # neither guessing nor perfect: the twin has to work for it
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(5).split(states_ND, sample.modality_N, sample.document_N)
    for seen, unseen in folds:
        assert not set(sample.document_N[seen]) & set(sample.document_N[unseen])
        predicted = oracles.probe_predictions(
            states_ND[seen], sample.modality_N[seen], states_ND[unseen]
        )
        assert ((predicted == sample.modality_N[unseen]) == right_N[unseen]).all()


@pytest.mark.parametrize("modalities", [2, 3])
def test_one_distribution_is_0_and_far_apart_is_1(modalities: int) -> None:
    together = separation(*made(0.0, tokens=900, modalities=modalities))
    for measure in MEASURES:
        assert abs(together[measure].value) < 0.06, measure
        assert together[measure].low - 0.01 < 0.0 < together[measure].high + 0.01, measure
    apart = separation(*made(1000.0, tokens=300, modalities=modalities))
    for measure in MEASURES:
        assert apart[measure].value > 0.99, measure
        assert apart[measure].high <= 1.0
    assert apart["probe"].value == apart["probe"].low == 1.0


def test_a_wrong_label_is_below_0() -> None:
    states_ND, sample = made(50.0, tokens=60, modalities=2)
    swapped = sample.modality_N.copy()
    swapped[:20] = 1 - swapped[:20]
    mixed = TokenSample(NAMES[:2], swapped, sample.batch_N, sample.place_N, sample.document_N)
    silhouettes = oracles.silhouette(list(states_ND), swapped.tolist())
    assert max(silhouettes[:20]) < 0 < min(silhouettes[20:])
    score = separation(states_ND, mixed)["silhouette"]
    assert score.value == pytest.approx(np.mean(silhouettes), rel=1e-9)


def test_scale_and_place_of_the_states_do_not_matter() -> None:
    states_ND, sample = made(1.0)
    once, moved = separation(states_ND, sample), separation(1e3 * states_ND + 7.0, sample)
    for measure in MEASURES:
        assert moved[measure].value == pytest.approx(once[measure].value, rel=1e-6)
        assert moved[measure].low == pytest.approx(once[measure].low, rel=1e-6)


def test_intervals_cover_the_value_of_many_tokens() -> None:
    true = separation(*made(1.0, seed=99, tokens=6000))["variance_share"].value
    intervals = [separation(*made(1.0, seed, tokens=240))["variance_share"] for seed in range(30)]
    covered = sum(each.low <= true <= each.high for each in intervals)
    assert covered >= 25
    assert np.mean([each.high - each.low for each in intervals]) < 0.2


def test_a_resample_holds_every_modality() -> None:
    _, sample = made(0.0, tokens=30)
    lonely = np.where(sample.modality_N == 2, sample.document_N % 2, 2 + sample.document_N)
    document_N = np.unique(lonely, return_inverse=True)[1]
    few = TokenSample(NAMES, sample.modality_N, sample.batch_N, sample.place_N, document_N)
    weights_RU = document_weights(few, seed=0, draws=500)
    speech_U = np.bincount(document_N, few.modality_N == 2)
    assert np.count_nonzero(speech_U) == 2
    assert (weights_RU @ speech_U > 0).all()
    assert weights_RU.shape == (500, document_N.max() + 1)


def test_principal_components_are_those_of_power_iteration_and_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    states_ND = rng.standard_normal((50, 6)) * [5, 3, 2, 1, 1, 1] + 10
    found = principal_components(states_ND.astype(np.float32))
    axes_CD, shares = oracles.principal_axes(states_ND.astype(np.float32).astype(float), 2)
    centred_ND = states_ND.astype(np.float32) - states_ND.astype(np.float32).mean(axis=0)
    np.testing.assert_allclose(found.points_NC, centred_ND @ axes_CD.T, atol=1e-5)
    np.testing.assert_allclose(found.explained, shares, rtol=1e-9)
    other = PCA(2, svd_solver="full").fit(states_ND)
    np.testing.assert_allclose(found.explained, other.explained_variance_ratio_, rtol=1e-6)
    assert np.allclose(np.abs(found.points_NC), np.abs(other.transform(states_ND)), atol=1e-4)


def test_the_sign_of_a_component_does_not_depend_on_the_solver() -> None:
    states_ND = np.random.default_rng(2).standard_normal((40, 4)) * [4, 3, 2, 1]
    once = principal_components(states_ND)
    # Other rows for the solver to start from, the same cloud: the same points.
    order = np.random.default_rng(3).permutation(40)
    assert np.allclose(principal_components(states_ND[order]).points_NC, once.points_NC[order])


def test_states_without_variance_are_refused() -> None:
    states_ND, sample = np.zeros((12, 3)), made(0.0, tokens=12)[1]
    with pytest.raises(ValueError, match="all hidden states are equal"):
        principal_components(states_ND)
    with pytest.raises(ValueError, match="all hidden states are equal"):
        variance_shares(states_ND, sample, np.ones((1, sample.document_N.max() + 1)))
    with pytest.raises(ValueError, match="1 tokens of width 3 have no 2 components"):
        principal_components(states_ND[:1])
