"""How far apart the modalities lie in one layer: three standard measures, with intervals.

* Silhouette (Rousseeuw, J. Comput. Appl. Math. 20, 1987): (b - a) / max(a, b) of each token, a its
  mean Euclidean distance to its own modality, b to the nearest other one; the mean over tokens.
  0: the modalities lie in one another, 1: each is a point far from the others; below 0: tokens lie
  nearer to another modality than to their own.
* Variance share: between-modality over total sum of squares: eta squared of an analysis of
  variance, in many dimensions R2 of McArdle and Anderson, Ecology 82, 2001. 0: all modalities have
  one mean, 1: every token lies on the mean of its modality.
* Probe (Alain and Bengio, arXiv 1610.01644): logistic regression that reads the modality off the
  state, judged on documents that it was not fitted on: mean recall over the modalities, rescaled
  so that 0 is guessing and 1 is always right. It says whether the modality is linearly there at
  all, however small a part of the variance it is.

Intervals are over documents: whole documents are drawn anew, because tokens of one are alike. A
resample weighs the tokens' silhouettes and the probe's answers anew; it measures no distance and
fits no probe again.

Shapes: N tokens, D width, G modalities, U documents, R draws.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.bootstrap import DRAWS, percentile_interval
from evaluation.representation.sample import LEAST_DOCUMENTS, TokenSample

MEASURES = {
    "silhouette": "silhouette by modality (0 mixed, 1 far apart)",
    "variance_share": "variance between modalities (share of the total)",
    "probe": "linear probe for the modality (0 guessing, 1 right)",
}
FOLDS = LEAST_DOCUMENTS
PROBE_ITERATIONS = 1000

Weights = np.ndarray  # float64 [R, U]: how often each document is in each resample


@dataclass(frozen=True)
class Score:
    """A measure of one layer with its 95% interval over documents."""

    value: float
    low: float
    high: float


def separation(states_ND: np.ndarray, sample: TokenSample, seed: int = 0) -> dict[str, Score]:
    """Every one of ``MEASURES`` for one layer.

    Args:
        states_ND: of the sampled tokens.
        sample: their modalities and documents.
        seed: of the resamples, which are the same for all layers and arms.
    """
    states_ND = states_ND.astype(np.float64)
    silhouette_N = silhouette_samples(states_ND, sample.modality_N)
    right_N = probe_answers(states_ND, sample)

    def silhouette(weights_RU: Weights) -> np.ndarray:
        return _mean(silhouette_N, sample, weights_RU)

    def share(weights_RU: Weights) -> np.ndarray:
        return variance_shares(states_ND, sample, weights_RU)

    def probe(weights_RU: Weights) -> np.ndarray:
        return probe_scores(right_N, sample, weights_RU)

    as_it_is = np.ones((1, sample.document_N.max() + 1))
    resampled = document_weights(sample, seed)
    measures: dict[str, Callable[[Weights], np.ndarray]] = {
        "silhouette": silhouette,
        "variance_share": share,
        "probe": probe,
    }
    return {
        name: Score(float(measure(as_it_is)[0]), *percentile_interval(measure(resampled)))
        for name, measure in measures.items()
    }


def document_weights(sample: TokenSample, seed: int, draws: int = DRAWS) -> Weights:
    """How often each document is drawn in each resample of as many documents, float64 [R, U]; a
    resample that lacks a modality is drawn again.
    """
    generator = np.random.default_rng(seed)
    documents = int(sample.document_N.max()) + 1
    counts_UG = _per_document(np.eye(len(sample.modalities))[sample.modality_N], sample)

    def draw(number: int) -> Weights:
        equal = np.full(documents, 1 / documents)
        return generator.multinomial(documents, equal, size=number).astype(np.float64)

    weights_RU = draw(draws)
    while (lacking := (weights_RU @ counts_UG == 0).any(axis=1)).any():
        weights_RU[lacking] = draw(int(lacking.sum()))
    return weights_RU


def variance_shares(states_ND: np.ndarray, sample: TokenSample, weights_RU: Weights) -> np.ndarray:
    """Between-modality over total sum of squares under each row of weights, [R].

    Raises:
        ValueError: states that are all equal.
    """
    centred_ND = states_ND - states_ND.mean(axis=0)  # of no effect but on rounding
    square_R = weights_RU @ _per_document((centred_ND**2).sum(axis=1), sample)
    sums_GRD, counts_GR = [], []
    for i in range(len(sample.modalities)):
        own_N = (sample.modality_N == i).astype(np.float64)
        sums_GRD.append(weights_RU @ _per_document(centred_ND * own_N[:, None], sample))
        counts_GR.append(weights_RU @ _per_document(own_N, sample))
    about_mean_R = (sum(sums_GRD) ** 2).sum(axis=1) / sum(counts_GR)
    total_R = square_R - about_mean_R
    if not (total_R > 0).all():
        raise ValueError("all hidden states are equal: there is no variance to share out")
    parts_GR = [
        (sum_RD**2).sum(axis=1) / count_R
        for sum_RD, count_R in zip(sums_GRD, counts_GR, strict=True)
    ]
    return (sum(parts_GR) - about_mean_R) / total_R


def probe_answers(states_ND: np.ndarray, sample: TokenSample) -> np.ndarray:
    """Whether the probe is right about each token, fitted without the token's document; bool [N].

    Features are standardised; the L2 penalty has weight 1, against a sum over tokens.
    """
    right_N = np.zeros(len(states_ND), bool)
    folds = StratifiedGroupKFold(FOLDS)
    for seen, unseen in folds.split(states_ND, sample.modality_N, sample.document_N):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_ITERATIONS))
        probe.fit(states_ND[seen], sample.modality_N[seen])
        right_N[unseen] = probe.predict(states_ND[unseen]) == sample.modality_N[unseen]
    return right_N


def probe_scores(right_N: np.ndarray, sample: TokenSample, weights_RU: Weights) -> np.ndarray:
    """Mean recall, 0 at guessing and 1 at always right, under each row of weights, [R]."""
    own_NG = np.eye(len(sample.modalities))[sample.modality_N]
    right_RG = weights_RU @ _per_document(own_NG * right_N[:, None], sample)
    all_RG = weights_RU @ _per_document(own_NG, sample)
    chance = 1 / len(sample.modalities)
    return ((right_RG / all_RG).mean(axis=1) - chance) / (1 - chance)


def _mean(values_N: np.ndarray, sample: TokenSample, weights_RU: Weights) -> np.ndarray:
    ones_N = np.ones(len(values_N))
    return (weights_RU @ _per_document(values_N, sample)) / (
        weights_RU @ _per_document(ones_N, sample)
    )


def _per_document(values: np.ndarray, sample: TokenSample) -> np.ndarray:
    """Sums over the tokens of each document: [N, ..] -> [U, ..]."""
    sums = np.zeros((sample.document_N.max() + 1, *values.shape[1:]))
    np.add.at(sums, sample.document_N, values)
    return sums
