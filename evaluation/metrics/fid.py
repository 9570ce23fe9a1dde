"""Frechet distances between sets of pictures, in float64.

    d^2 = |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))

With roots S = R R^T the last trace is the sum of the singular values of R1^T R2. That is stable
where covariances are singular (always so with fewer pictures than features), where the eigenvalues
of S1 S2 turn slightly negative or complex. The distance of N pictures is biased upward by an amount
that falls with N: compare figures only at the same N, against a ceiling measured at that N.

The interval is the nonparametric delta method (Davison and Hinkley, "Bootstrap Methods and their
Application", 1997, section 2.7): picture i moves the distance by 1/N of its influence

    l_i = 2 (m1 - m2).c_i + (|c_i|^2 - c_i^T T c_i) N / (N - 1) - their mean,  c_i = x_i - m1

where T = S1^(-1/2) (S1^(1/2) S2 S1^(1/2))^(1/2) S1^(-1/2), the map that carries the one normal
distribution to the other, is the derivative of 2 tr((S1 S2)^(1/2)) by S1 (Takatsu, "Wasserstein
geometry of Gaussian measures", 2011). A bootstrap draw is the distance plus a mean of resampled
influences. One decomposition serves all draws, and they are free of the upward bias that repeated
pictures give a resampled distance. Against sets drawn anew their standard deviation is right, or up
to half too wide with fewer pictures than features (``test_fid_interval.py``).

Tensor legend: N pictures, B a batch of them, F features, R rank of a covariance, H W C a picture.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf

from evaluation.bootstrap import mean_draws
from evaluation.metric import Metric
from evaluation.metrics.clip_score import require_pictures
from evaluation.metrics.extractors import FeatureExtractor
from evaluation.metrics.feature_file import Features, blocks

NO_OVERLAP = 1e-12  # of the largest singular value: directions that one of two sets does not have


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean [F] and a root [F, R] of the covariance, both float64."""

    mean_F: np.ndarray
    root_FR: np.ndarray


class FeatureMoments:
    """Mean and covariance of features given batch by batch: memory F^2, however many pictures."""

    def __init__(self, features: int) -> None:
        self.count = 0
        self.mean_F = np.zeros(features)
        self._scatter_FF = np.zeros((features, features))

    def update(self, features_BF: np.ndarray) -> None:
        """Adds a batch (Chan's update: no difference of large sums)."""
        batch = np.asarray(features_BF, dtype=np.float64)
        mean_F = batch.mean(axis=0)
        centred_BF = batch - mean_F
        shift_F = mean_F - self.mean_F
        total = self.count + len(batch)
        weight = self.count * len(batch) / total
        self._scatter_FF += centred_BF.T @ centred_BF + weight * np.outer(shift_F, shift_F)
        self.mean_F = self.mean_F + shift_F * (len(batch) / total)
        self.count = total

    @property
    def covariance_FF(self) -> np.ndarray:
        """Unbiased covariance.

        Raises:
            ValueError: fewer than two pictures were seen.
        """
        _require_two(self.count)
        return self._scatter_FF / (self.count - 1)

    def gaussian(self) -> Gaussian:
        """The normal distribution with these moments."""
        return gaussian_of_moments(self.mean_F, self.covariance_FF)


def gaussian_of_moments(mean_F: np.ndarray, covariance_FF: np.ndarray) -> Gaussian:
    """A normal distribution from its mean and covariance, directions of no variance left out.

    The root is a Cholesky factor with pivots: a tenth of the time of eigenvectors.
    """
    factor_FF, pivots_F, rank, _ = dpstrf(np.asarray(covariance_FF, dtype=np.float64), lower=1)
    root_FR = np.zeros((len(pivots_F), rank))
    root_FR[pivots_F - 1] = np.tril(factor_FF)[:, :rank]
    return Gaussian(np.asarray(mean_F), root_FR)


def gaussian_of_features(features: Features) -> Gaussian:
    """The normal distribution of features [N, F], in memory or on disk.

    Raises:
        ValueError: fewer than two pictures.
    """
    count, width = features.shape
    _require_two(count)
    if count > width:
        moments = FeatureMoments(width)
        for features_BF in blocks(features):
            moments.update(features_BF)
        return moments.gaussian()
    features_NF = np.asarray(features[:], dtype=np.float64)
    mean_F = features_NF.mean(axis=0)
    return Gaussian(mean_F, (features_NF - mean_F).T / np.sqrt(count - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """The squared Frechet distance of two normal distributions, at least 0."""
    cross = torch.linalg.svdvals(torch.from_numpy(one.root_FR.T @ other.root_FR)).sum()
    return _distance(one, other, float(cross))


def frechet_distance_and_draws(
    features: Features, reference: Gaussian, seed: int = 0
) -> tuple[float, np.ndarray]:
    """The distance of features [N, F] to a reference, and its bootstrap draws over the N pictures.

    How far it would move with other N pictures of the same generator (see the top of this file).
    The reference is held fixed, and the bias of N stays in. Near distance 0 the influences vanish
    too, and with them the interval.

    Returns:
        the distance, and its draws, float64 [draws], none below 0.

    Raises:
        ValueError: fewer than two pictures.
    """
    one = gaussian_of_features(features)
    product = torch.from_numpy(one.root_FR.T @ reference.root_FR)
    _, overlaps_R, turned_RR = (
        part.numpy() for part in torch.linalg.svd(product, full_matrices=False)
    )
    distance = _distance(one, reference, float(overlaps_R.sum()))
    kept = overlaps_R > NO_OVERLAP * overlaps_R[0]
    # T = W W^T, by T = R2 (R2^T S1 R2)^(-1/2) R2^T: no inverse of S1, which may have none.
    map_FR = reference.root_FR @ (turned_RR[kept].T / np.sqrt(overlaps_R[kept]))
    unbiased = len(features) / (len(features) - 1)  # as the covariance
    influences = []
    for features_BF in blocks(features):
        centred_BF = features_BF - one.mean_F
        influences.append(
            2 * centred_BF @ (one.mean_F - reference.mean_F)
            + unbiased * (centred_BF**2).sum(axis=1)
            - unbiased * ((centred_BF @ map_FR) ** 2).sum(axis=1)
        )
    influence_N = np.concatenate(influences)
    draws = distance + mean_draws(influence_N - influence_N.mean(), seed=seed)
    return distance, np.maximum(draws, 0.0)


def frechet_metric(
    extractor: FeatureExtractor,
    images_NHWC: np.ndarray,
    reference_MHWC: np.ndarray,
    real_NHWC: np.ndarray | None = None,
    seed: int = 0,
) -> Metric:
    """The Frechet distance of pictures to a reference set, named after its extractor.

    Args:
        images_NHWC: uint8, the pictures to judge.
        reference_MHWC: uint8, real pictures.
        real_NHWC: other real pictures, as many as are judged. The ceiling is their distance to the
            reference. Captions do not enter a Frechet distance, so its floor is the distance of
            these same pictures with the pixels of each shuffled: right colours, no drawing.
        seed: of the interval over pictures and of the shuffled pixels.

    Raises:
        ValueError: pictures of the wrong kind, or ``real_NHWC`` of another number.
    """
    for pictures in (images_NHWC, reference_MHWC):
        require_pictures(pictures)
    reference = gaussian_of_features(extractor.features(reference_MHWC))
    value, draws = frechet_distance_and_draws(extractor.features(images_NHWC), reference, seed)
    ceiling = floor = None
    note = f"against {len(reference_MHWC)} real pictures; lower is better"
    if real_NHWC is not None:
        if len(real_NHWC) != len(images_NHWC):
            raise ValueError(
                f"{len(real_NHWC)} real pictures for a ceiling beside {len(images_NHWC)} judged: "
                "a Frechet distance depends on their number, so give as many"
            )
        shared = _pictures_shared(real_NHWC, reference_MHWC)
        if shared:
            note += f"; {shared} of the {len(real_NHWC)} real pictures are in the reference too"
        scrambled = _shuffle_pixels(real_NHWC, seed)
        ceiling, floor = (
            frechet_distance(gaussian_of_features(extractor.features(pictures)), reference)
            for pictures in (real_NHWC, scrambled)
        )
        note += "; floor: real pictures with their pixels shuffled"
    return Metric.sampled(
        extractor.distance, value, draws, len(images_NHWC), extractor.name, ceiling, floor, note
    )


def _distance(one: Gaussian, other: Gaussian, cross: float) -> float:
    spread = (one.root_FR**2).sum() + (other.root_FR**2).sum()
    return max(float(((one.mean_F - other.mean_F) ** 2).sum() + spread - 2 * cross), 0.0)


def _require_two(count: int) -> None:
    if count < 2:
        raise ValueError(f"a Frechet distance of {count} pictures: give at least two")


def _shuffle_pixels(images_NHWC: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    flat = images_NHWC.reshape(len(images_NHWC), -1, 3)
    shuffled = [generator.permutation(picture, axis=0) for picture in flat]
    return np.stack(shuffled).reshape(images_NHWC.shape)


def _pictures_shared(one_NHWC: np.ndarray, other_NHWC: np.ndarray) -> int:
    known = {picture.tobytes() for picture in other_NHWC}
    return sum(picture.tobytes() in known for picture in one_NHWC)
