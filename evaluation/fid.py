"""Frechet distances between sets of pictures, in float64.

    d^2 = |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))

With roots S = R R^T the last trace is the sum of the singular values of R1^T R2. That is stable
where covariances are singular (always so with fewer pictures than features), where the eigenvalues
of S1 S2 turn slightly negative or complex. The distance of N pictures is biased upward by an amount
that falls with N: compare figures only at the same N, against a ceiling measured at that N.

Tensor legend: N pictures, B a batch of them, F features, R rank of a covariance, H W C a picture.
"""

from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import Interval, bootstrap_draws, percentile_interval
from evaluation.clip_score import require_pictures
from evaluation.extractors import FeatureExtractor
from evaluation.metric import Metric

INTERVAL_DRAWS = 200
LARGEST_RANK_WITH_INTERVAL = 512  # a draw takes 0.2 s there, and 10 s at Inception's 2048


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
        if self.count < 2:
            raise ValueError(f"a Frechet distance of {self.count} pictures: give at least two")
        return self._scatter_FF / (self.count - 1)

    def gaussian(self) -> Gaussian:
        """The normal distribution with these moments."""
        return gaussian_of_moments(self.mean_F, self.covariance_FF)


def gaussian_of_moments(mean_F: np.ndarray, covariance_FF: np.ndarray) -> Gaussian:
    """A normal distribution from its mean and covariance, directions of no variance left out."""
    variances, directions_FF = np.linalg.eigh(np.asarray(covariance_FF, dtype=np.float64))
    kept = variances > max(variances[-1], 0.0) * len(variances) * np.finfo(np.float64).eps
    return Gaussian(np.asarray(mean_F), directions_FF[:, kept] * np.sqrt(variances[kept]))


def gaussian_of_features(features_NF: np.ndarray) -> Gaussian:
    """The normal distribution of features held in memory.

    Raises:
        ValueError: fewer than two pictures.
    """
    count, features = features_NF.shape
    if count < 2:
        raise ValueError(f"a Frechet distance of {count} pictures: give at least two")
    if count > features:
        moments = FeatureMoments(features)
        moments.update(features_NF)
        return moments.gaussian()
    mean_F = features_NF.mean(axis=0)
    return Gaussian(mean_F, (features_NF - mean_F).T / np.sqrt(count - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """The squared Frechet distance of two normal distributions, at least 0."""
    cross = np.linalg.svd(one.root_FR.T @ other.root_FR, compute_uv=False).sum()
    spread = (one.root_FR**2).sum() + (other.root_FR**2).sum()
    return max(float(((one.mean_F - other.mean_F) ** 2).sum() + spread - 2 * cross), 0.0)


def frechet_interval(features_NF: np.ndarray, reference: Gaussian, seed: int = 0) -> Interval:
    """How far the distance at this N would move with other N pictures of the same generator.

    A resample repeats pictures, which biases its distance upward by itself; the spread of the
    resamples is therefore laid around the measured distance. It says nothing about the bias of N.
    (None, None) where a draw would take too long (``LARGEST_RANK_WITH_INTERVAL``).
    """
    if min(features_NF.shape) > LARGEST_RANK_WITH_INTERVAL:
        return None, None
    distances = bootstrap_draws(
        len(features_NF),
        lambda chosen: frechet_distance(gaussian_of_features(features_NF[chosen]), reference),
        INTERVAL_DRAWS,
        seed,
    )
    value = frechet_distance(gaussian_of_features(features_NF), reference)
    low, high = percentile_interval(distances - distances.mean())
    return max(value + low, 0.0), max(value + high, 0.0)


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
    features_NF = extractor.features(images_NHWC)
    low, high = frechet_interval(features_NF, reference, seed)
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
    return Metric(
        name=extractor.distance,
        value=frechet_distance(gaussian_of_features(features_NF), reference),
        low=low,
        high=high,
        n=len(images_NHWC),
        extractor=extractor.name,
        ceiling=ceiling,
        floor=floor,
        note=note,
    )


def _shuffle_pixels(images_NHWC: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    flat = images_NHWC.reshape(len(images_NHWC), -1, 3)
    shuffled = [generator.permutation(picture, axis=0) for picture in flat]
    return np.stack(shuffled).reshape(images_NHWC.shape)


def _pictures_shared(one_NHWC: np.ndarray, other_NHWC: np.ndarray) -> int:
    known = {picture.tobytes() for picture in other_NHWC}
    return sum(picture.tobytes() in known for picture in one_NHWC)
