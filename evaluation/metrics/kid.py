"""Kernel Inception distance: the maximum mean discrepancy of two sets of features.

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
    k(x, y) = (x.y / F + 1)^3

(Binkowski et al., "Demystifying MMD GANs", 2018, section 4 and equation 4.) It is unbiased, so it
may fall below 0 and, unlike a Frechet distance, does not depend on the number of pictures.

As in torch-fidelity: the mean over 100 subsets of 1000 pictures of each set, drawn in the same
order from the same seed, so the figures are equal. torch-fidelity refuses smaller sets; here the
subsets are then as large as the smaller set, and the note says so.

The interval over pictures is the delta method, as for ``fid.py``. The influence of picture i on a
subset's figure is 2 (mean_{j != i} k(x_i, x_j) - mean_j k(x_i, y_j)), centred; it is averaged over
the subsets that hold the picture, and a draw is the figure plus the mean of resampled influences.
Where both sets are alike the influences are those of the subsets' noise, and the interval is wide.

Tensor legend: N, M pictures of the two sets, S those of a subset, F features.
"""

import numpy as np

from evaluation.bootstrap import mean_draws
from evaluation.metric import Metric
from evaluation.metrics.feature_file import Features

SUBSETS = 100
SUBSET_SIZE = 1000
SUBSET_SEED = 2020  # torch-fidelity's


def kid_metric(
    features: Features, reference: Features, name: str, extractor: str, seed: int = 0
) -> Metric:
    """The kernel distance of features [N, F] to those of real pictures [M, F].

    Args:
        name: what to call it; only on Inception's features it is the KID.
        extractor: the network behind the features.
        seed: of the interval; the subsets are torch-fidelity's.

    Raises:
        ValueError: fewer than two pictures in one of the sets.
    """
    size = min(SUBSET_SIZE, len(features), len(reference))
    value, influence_N = kernel_distance(features, reference, SUBSETS, size)
    return Metric.sampled(
        name=name,
        value=value,
        draws=value + mean_draws(influence_N, seed=seed),
        n=len(features),
        extractor=extractor,
        ceiling=None,
        floor=None,
        note=(
            f"against {len(reference)} real pictures, mean of {SUBSETS} subsets of {size}; "
            f"interval over {len(influence_N)} pictures; lower is better"
        ),
    )


def kernel_distance(
    features: Features, reference: Features, subsets: int, size: int
) -> tuple[float, np.ndarray]:
    """Mean MMD^2 over subsets.

    Returns:
        it, and the influence of each picture that some subset held, float64, mean 0.

    Raises:
        ValueError: subsets of fewer than two pictures.
    """
    if size < 2:
        raise ValueError(f"a kernel distance of {size} pictures: give at least two")
    generator = np.random.RandomState(SUBSET_SEED)  # torch-fidelity's
    influence_N, held_N = np.zeros(len(features)), np.zeros(len(features))
    distances = np.empty(subsets)
    for subset in range(subsets):
        ours_S = generator.choice(len(features), size, replace=False)
        theirs_S = generator.choice(len(reference), size, replace=False)
        one_SF, other_SF = features[ours_S], reference[theirs_S]
        within_S = _others_mean(one_SF)
        across_S = _kernel(one_SF, other_SF).mean(axis=1).astype(np.float64)
        distances[subset] = within_S.mean() + _others_mean(other_SF).mean() - 2 * across_S.mean()
        pull_S = 2 * (within_S - across_S)
        influence_N[ours_S] += pull_S - pull_S.mean()
        held_N[ours_S] += 1
    held = held_N > 0
    influences = influence_N[held] / held_N[held]
    return float(distances.mean()), influences - influences.mean()


def _others_mean(features_SF: np.ndarray) -> np.ndarray:
    """Mean kernel of each row with the other rows, float64 [S]."""
    kernel_SS = _kernel(features_SF, features_SF)
    others_S = kernel_SS.sum(axis=1) - np.diagonal(kernel_SS)
    return others_S.astype(np.float64) / (len(features_SF) - 1)


def _kernel(one_SF: np.ndarray, other_SF: np.ndarray) -> np.ndarray:
    """[S, S]; like its sums over rows in the type of the features, as torch-fidelity's."""
    base_SS = one_SF @ other_SF.T
    base_SS /= one_SF.shape[1]
    base_SS += 1
    cube_SS = base_SS * base_SS  # a tenth of the time of ** 3
    cube_SS *= base_SS
    return cube_SS
