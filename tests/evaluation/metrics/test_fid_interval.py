"""The interval of a Frechet distance: against sets drawn anew, resampled sets and differences."""

import numpy as np
import pytest

from evaluation.metrics.feature_file import FeatureFile
from evaluation.metrics.fid import (
    frechet_distance,
    frechet_distance_and_draws,
    gaussian_of_features,
)

WIDTH = 24


def draw(count, generator, shift=0.2, scale=1.15):
    """Correlated features with heavy tails and a falling spectrum."""
    mixing = np.random.default_rng(9).normal(size=(WIDTH, WIDTH))
    mixing *= np.exp(-3 * np.arange(WIDTH) / WIDTH)[:, None]
    normal = generator.normal(size=(count, WIDTH))
    return scale * (normal + 0.3 * generator.standard_t(5, size=(count, WIDTH))) @ mixing + shift


@pytest.mark.parametrize(
    ("count", "real", "widest"), [(400, 600, 1.2), (24, 600, 1.6), (15, 15, 1.6), (80, 15, 1.3)]
)
def test_it_spans_the_distances_of_sets_drawn_anew(count, real, widest):
    # More, as many and fewer pictures than features, and a reference of low rank.
    generator = np.random.default_rng(0)
    reference = gaussian_of_features(draw(real, generator, 0.0, 1.0))
    figures = [frechet_distance_and_draws(draw(count, generator), reference) for _ in range(60)]
    values = np.array([value for value, _ in figures])
    spread = np.mean([draws.std() for _, draws in figures])
    assert 0.85 < spread / values.std() < widest
    ends = np.array([np.quantile(draws, [0.025, 0.975]) for _, draws in figures])
    covered = np.mean((ends[:, 0] < values.mean()) & (values.mean() < ends[:, 1]))
    assert covered >= 0.9


def test_it_is_the_spread_of_resampled_sets_where_there_are_many_pictures():
    # The slow twin: one decomposition per draw.
    generator = np.random.default_rng(1)
    features = draw(1500, generator)
    reference = gaussian_of_features(draw(1500, generator, 0.0, 1.0))
    resampled = [
        frechet_distance(gaussian_of_features(features[chosen]), reference)
        for chosen in generator.integers(1500, size=(150, 1500))
    ]
    _, draws = frechet_distance_and_draws(features, reference)
    assert draws.std() == pytest.approx(np.std(resampled), rel=0.15)


def test_an_influence_is_what_a_picture_adds():
    # Counting one picture e times more: the derivative of the distance, by differences.
    generator = np.random.default_rng(2)
    features = draw(60, generator)
    reference = gaussian_of_features(draw(80, generator, 0.0, 1.0))

    def weighted(place, extra):
        weights = np.full(60, 1 / 60)
        weights *= 1 - extra
        weights[place] += extra
        mean = weights @ features
        centred = (features - mean) * np.sqrt(weights * 60 / 59)[:, None]
        one = gaussian_of_features(features)
        return frechet_distance(type(one)(mean, centred.T), reference)

    slopes = np.array(
        [(weighted(place, 1e-5) - weighted(place, -1e-5)) / 2e-5 for place in range(60)]
    )
    value, draws = frechet_distance_and_draws(features, reference)
    chosen = np.random.default_rng(0).integers(60, size=(1000, 60), dtype=np.uint32)
    expected = np.maximum(value + slopes[chosen].mean(axis=1), 0)
    assert draws == pytest.approx(expected, rel=1e-4, abs=1e-4 * draws.std())


def test_features_on_disk_give_what_features_in_memory_give():
    generator = np.random.default_rng(3)
    features, real = draw(2500, generator), draw(300, generator, 0.0, 1.0)
    file = FeatureFile()
    for start in range(0, 2500, 64):
        file.append(features[start : start + 64])
    reference = gaussian_of_features(real)
    on_disk, in_memory = (frechet_distance_and_draws(each, reference) for each in (file, features))
    assert on_disk[0] == in_memory[0]
    assert (on_disk[1] == in_memory[1]).all()


def test_a_feature_file_reads_like_an_array():
    rows = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    file = FeatureFile()
    file.append(rows[:4])
    file.append(rows[4:])
    assert len(file) == 10 and file.shape == (10, 3)
    for part in (slice(2, 7), slice(8, 99), slice(None), np.array([9, 0, 0, 5])):
        assert (file[part] == rows[part]).all() and file[part].dtype == np.float32
    with pytest.raises(ValueError, match="a batch of 2 features of type float32 after"):
        file.append(rows[:, :2])
