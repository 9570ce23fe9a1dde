"""Discrete image tokens: codes against slow twins, usage, the codebook, the cache, errors."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coloured_squares import CANVAS, forbidden, squares
from oracles import codebook_averages, nearest_codes

from mot_lab.tokens.image import ImageTokenizerConfig, load_image_tokenizer
from mot_lab.tokens.pictures import to_bytes, to_unit_range
from mot_lab.tokens.vq import DiffusersVQTokenizer, VQTokenizer, codebook_usage
from mot_lab.tokens.vq_codebook import DECAY, FittedCodebook
from mot_lab.tokens.vq_model import VQConfig, fit_vq

SMALL = VQConfig(size=24, width=32, latent_channels=8, fit_steps=150, batch_size=8)
CONFIG = ImageTokenizerConfig(kind="vq", vq=SMALL)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MOT_LAB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def fitted(cache) -> DiffusersVQTokenizer:
    tokenizer = load_image_tokenizer(CONFIG, CANVAS, squares, "squares")
    assert isinstance(tokenizer, DiffusersVQTokenizer)
    return tokenizer


def test_shapes_without_a_file() -> None:
    assert VQConfig().codes(32) == (512, 64)
    assert VQConfig(size=8192, downsample=16).codes(512) == (8192, 1024)  # the paper's
    assert CONFIG.codes(CANVAS) == (24, 16)


def test_codes_are_the_nearest_in_raster_order(fitted: DiffusersVQTokenizer) -> None:
    images = squares(5000, 5)
    codes = fitted.encode(images)
    assert (fitted.size, fitted.length) == (24, 16)
    assert codes.shape == (5, 16) and codes.dtype == np.int32
    pixels = F.pixel_unshuffle(to_unit_range(torch.from_numpy(images)), 4)
    with torch.inference_mode():
        latents = fitted.model.encode(pixels).latents
    expected = nearest_codes(latents, fitted.model.quantize.embedding.weight)
    assert codes.tolist() == expected
    assert len(np.unique(codes)) > 4


def test_decoding_is_what_diffusers_decodes(fitted: DiffusersVQTokenizer) -> None:
    codes = np.random.default_rng(0).integers(0, 24, (3, 16))
    weight = fitted.model.quantize.embedding.weight
    grid = torch.stack(
        [torch.stack([weight[code] for code in row], 1).view(8, 4, 4) for row in codes.tolist()]
    )
    with torch.inference_mode():
        pixels = F.pixel_shuffle(fitted.model.decode(grid, force_not_quantize=True).sample, 4)
    difference = fitted.decode(codes).astype(int) - to_bytes(pixels).numpy()
    assert np.abs(difference).max() <= 1  # rounding
    assert fitted.decode(codes.astype(np.int32)).shape == (3, CANVAS, CANVAS, 3)


def test_it_has_learnt_and_uses_its_codes(fitted: VQTokenizer) -> None:
    images = squares(10_000, 64)
    error = fitted.reconstruction_error(images)
    decoded = fitted.decode(fitted.encode(images))
    mse = np.mean((decoded / 255.0 - images / 255.0) ** 2)
    assert error == {"mse": pytest.approx(mse), "psnr": pytest.approx(-10 * np.log10(mse)), "n": 64}
    assert mse < 0.1 * np.mean((images / 255.0 - images.mean() / 255.0) ** 2)
    usage = fitted.usage(images)
    assert usage == codebook_usage(fitted.encode(images), 24)
    assert usage["used"] > 0.6 and usage["perplexity"] > 5 and usage["n"] == 64 * 16


def test_usage_of_known_codes() -> None:
    assert codebook_usage(np.array([[0, 0], [3, 3]]), 8) == {
        "used": 0.25,
        "perplexity": pytest.approx(2),
        "n": 4,
    }
    uneven = codebook_usage(np.array([[1, 1, 1, 2]]), 4)
    assert uneven["perplexity"] == pytest.approx(4 / 3**0.75)
    assert codebook_usage(np.arange(6)[None], 6)["perplexity"] == pytest.approx(6)
    assert codebook_usage(np.zeros((2, 3), int), 6)["perplexity"] == 1


def test_the_codebook_follows_averages() -> None:
    random = np.random.default_rng(1)
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    batches = [centres.repeat(8, 0) + random.normal(0, 0.5, (24, 2)) for _ in range(6)]
    weight = torch.zeros(3, 2, dtype=torch.float64)
    codebook = FittedCodebook(weight, seed=3)
    codebook.update(torch.from_numpy(batches[0]))
    first = weight.clone()
    assert all(code in batches[0].tolist() for code in first.tolist())  # latents of the first batch
    for batch in batches[1:]:
        codebook.update(torch.from_numpy(batch))
    expected = codebook_averages(first.numpy(), batches[1:], DECAY)
    assert weight.numpy() == pytest.approx(np.array(expected), rel=1e-12)


def test_a_dead_code_moves_to_a_latent_and_others_stay() -> None:
    near = torch.tensor([[0.0, 0.1], [0.1, 0.0], [0.2, 0.1], [0.1, 0.1]])
    weight = torch.zeros(2, 2)
    codebook = FittedCodebook(weight, seed=0)
    codebook.update(torch.tensor([[0.0, 0.0], [50.0, 50.0], [50.0, 50.0], [0.0, 0.0]]))
    weight.copy_(torch.tensor([[0.0, 0.0], [50.0, 50.0]]))
    codebook._sums_KD.copy_(2 * weight)
    steps = math.ceil(math.log(0.05) / math.log(DECAY))  # until a code is chosen by 5% of its share
    for _ in range(steps - 1):
        codebook.update(near)
    assert weight[1].tolist() == pytest.approx([50, 50], rel=1e-4)
    codebook.update(near)
    assert weight[1].tolist() in near.tolist()
    assert weight[0].tolist() == pytest.approx([0.1, 0.075], abs=0.02)


def test_fitting_repeats_and_leaves_the_random_state_alone() -> None:
    config = VQConfig(size=4, width=32, latent_channels=2, fit_steps=3, batch_size=2)
    before = torch.get_rng_state()
    first = fit_vq(config, CANVAS, squares, "cpu").state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(1)
    second = fit_vq(config, CANVAS, squares, "cpu").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("steps", [1, 2, 19, 20, 21])
def test_fits_of_any_length(steps: int) -> None:
    config = VQConfig(size=4, width=32, latent_channels=2, fit_steps=steps, batch_size=2)
    weights = fit_vq(config, CANVAS, squares, "cpu").state_dict().values()
    assert all(bool(each.isfinite().all()) for each in weights if each.is_floating_point())


def test_found_in_the_cache_and_by_path(fitted: VQTokenizer, cache: Path) -> None:
    images = squares(0, 8)
    again = load_image_tokenizer(CONFIG, CANVAS, forbidden, "squares")
    (folder,) = cache.glob("image-vq-*")
    path = ImageTokenizerConfig(kind="vq", path=str(folder))
    assert path.codes(CANVAS) == (24, 16)
    loaded = load_image_tokenizer(path, CANVAS, forbidden, "")
    for same in (again, loaded):
        assert isinstance(same, VQTokenizer)
        assert np.array_equal(same.encode(images), fitted.encode(images))
        assert (same.fingerprint, same.origin) == (fitted.fingerprint, str(folder))
    with pytest.raises(AssertionError, match="asked for training pictures"):
        load_image_tokenizer(CONFIG, CANVAS, forbidden, "other pictures")


def test_errors(fitted: VQTokenizer) -> None:
    with pytest.raises(ValueError, match="size 1 must be at least 2"):
        VQConfig(size=1)
    with pytest.raises(ValueError, match="commitment -1 must be at least 0"):
        VQConfig(commitment=-1)
    with pytest.raises(ValueError, match="space_to_depth 4 must be at most downsample 2"):
        VQConfig(downsample=2)
    with pytest.raises(
        ValueError, match="4 x 4 pixels one latent cell does not fit a canvas of 18"
    ):
        load_image_tokenizer(CONFIG, 18, forbidden, "")
    with pytest.raises(ValueError, match="kind 'vq' has codes, no latents"):
        CONFIG.latent_shape(CANVAS)
    with pytest.raises(ValueError, match="kind 'pixels' has latents, no codes"):
        ImageTokenizerConfig(kind="pixels").codes(CANVAS)
    with pytest.raises(ValueError, match=r"give uint8 \[N, 16, 16, 3\]"):
        fitted.encode(squares(0, 2)[:, :8])
    with pytest.raises(ValueError, match=r"float64 \[1, 16\]; give whole numbers \[N, 16\]"):
        fitted.decode(np.zeros((1, 16)))
    with pytest.raises(ValueError, match=r"give whole numbers \[N, 16\] with N > 0"):
        fitted.decode(np.zeros((2, 15), int))
    with pytest.raises(ValueError, match="between 0 and 24; the codebook has 0 to 23"):
        fitted.decode(np.array([[24] + [0] * 15]))
    with pytest.raises(ValueError, match="between -1 and 3"):
        fitted.decode(np.array([[-1] + [3] * 15]))
