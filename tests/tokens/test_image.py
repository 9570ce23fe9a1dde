"""Image tokenizers: shapes, exact pixels, normalised latents, the cache, loading and errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coloured_squares import CANVAS, forbidden, squares
from diffusers import AutoencoderKL

from mot_lab.tokens import autoencoder
from mot_lab.tokens.autoencoder import AutoencoderConfig, fit_autoencoder
from mot_lab.tokens.image import ImageTokenizer, ImageTokenizerConfig, load_image_tokenizer

SMALL = AutoencoderConfig(
    downsample=8, space_to_depth=4, latent_channels=4, width=32, fit_steps=150, batch_size=16
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MOT_LAB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def fitted(cache) -> ImageTokenizer:
    return load_image_tokenizer(ImageTokenizerConfig(fit=SMALL), CANVAS, squares, "squares")


def test_pixels_are_exact_to_the_byte() -> None:
    config = ImageTokenizerConfig(kind="pixels")
    tokenizer = load_image_tokenizer(config, CANVAS, forbidden, "")
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, CANVAS, CANVAS, 3)
    images = np.concatenate([levels, squares(0, 300)])
    latents = tokenizer.encode(images)
    assert latents.shape == (301, 3, CANVAS, CANVAS) == (301, *config.latent_shape(CANVAS))
    assert (latents.min().item(), latents.max().item()) == (-1.0, 1.0)
    assert np.array_equal(tokenizer.decode(latents), images)
    assert tokenizer.reconstruction_error(images) == {"mse": 0.0, "psnr": None, "n": 301}


def test_shapes_and_types(fitted: ImageTokenizer) -> None:
    images = squares(5000, 300)  # more than one batch
    latents = fitted.encode(images)
    assert fitted.latent_shape == ImageTokenizerConfig(fit=SMALL).latent_shape(CANVAS) == (4, 2, 2)
    assert latents.shape == (300, 4, 2, 2) and latents.dtype == torch.float32
    assert not latents.is_inference() and not latents.requires_grad
    decoded = fitted.decode(latents)
    assert decoded.shape == images.shape and decoded.dtype == np.uint8


def test_encoding_is_deterministic(fitted: ImageTokenizer) -> None:
    images = squares(0, 4)
    assert torch.equal(fitted.encode(images), fitted.encode(images))


def test_decoding_clips_and_rounds() -> None:
    tokenizer = load_image_tokenizer(ImageTokenizerConfig(kind="pixels"), 1, forbidden, "")
    latents = torch.tensor([[-3.0, 3.0, 0.01]]).reshape(1, 3, 1, 1)
    assert tokenizer.decode(latents).tolist() == [[[[0, 255, 129]]]]


def test_latents_are_normalised(fitted: ImageTokenizer) -> None:
    latents = fitted.encode(squares(0, autoencoder.MEASURED_PICTURES)).double()
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-4
    held_out = fitted.encode(squares(10_000, 1024))
    assert held_out.mean(dim=(0, 2, 3)).abs().max() < 0.15
    assert (held_out.std(dim=(0, 2, 3)) - 1).abs().max() < 0.15


def test_reconstruction_error(fitted: ImageTokenizer) -> None:
    images = squares(10_000, 64)
    error = fitted.reconstruction_error(images)
    decoded = fitted.decode(fitted.encode(images))
    mse = np.mean((decoded / 255.0 - images / 255.0) ** 2)
    assert error["n"] == 64
    assert error["mse"] == pytest.approx(mse, rel=1e-12)
    assert error["psnr"] == pytest.approx(-10 * np.log10(mse), rel=1e-12)
    assert mse < 0.5 * np.mean((images / 255.0 - images.mean() / 255.0) ** 2)  # it has learnt


def test_a_second_call_does_not_fit(fitted: ImageTokenizer) -> None:
    again = load_image_tokenizer(ImageTokenizerConfig(fit=SMALL), CANVAS, forbidden, "squares")
    assert again.fingerprint == fitted.fingerprint
    assert torch.equal(again.encode(squares(0, 8)), fitted.encode(squares(0, 8)))
    with pytest.raises(AssertionError, match="asked for training pictures"):
        load_image_tokenizer(ImageTokenizerConfig(fit=SMALL), CANVAS, forbidden, "other pictures")


def test_fitting_repeats_and_leaves_the_random_state_alone() -> None:
    config = AutoencoderConfig(
        downsample=8, space_to_depth=8, latent_channels=2, width=32, fit_steps=3, batch_size=2
    )
    before = torch.get_rng_state()
    first = fit_autoencoder(config, CANVAS, squares, "cpu").state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(1)
    second = fit_autoencoder(config, CANVAS, squares, "cpu").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_loaded_from_its_folder_gives_the_same_latents(fitted, cache: Path) -> None:
    (folder,) = cache.glob("image-autoencoder-*")
    assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors"}
    config = ImageTokenizerConfig(path=str(folder))
    assert config.latent_shape(CANVAS) == (4, 2, 2)
    loaded = load_image_tokenizer(config, CANVAS, forbidden, "")
    assert torch.equal(loaded.encode(squares(0, 8)), fitted.encode(squares(0, 8)))


def test_a_pretrained_autoencoder_without_statistics_is_measured(cache, tmp_path) -> None:
    torch.manual_seed(0)
    usual = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
    usual.save_pretrained(tmp_path / "vae")
    config = ImageTokenizerConfig(path=str(tmp_path), subfolder="vae")
    assert config.latent_shape(CANVAS) == (4, 8, 8)
    measured = load_image_tokenizer(config, CANVAS, squares, "squares")
    latents = measured.encode(squares(0, autoencoder.MEASURED_PICTURES))
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert (latents.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
    again = load_image_tokenizer(config, CANVAS, forbidden, "squares")
    assert torch.equal(again.encode(squares(0, 8)), measured.encode(squares(0, 8)))


def test_errors(fitted: ImageTokenizer, tmp_path) -> None:
    with pytest.raises(ValueError, match="'dvae' is none of vae, pixels, vq"):
        ImageTokenizerConfig(kind="dvae")
    with pytest.raises(ValueError, match="'pixels' has nothing to load"):
        ImageTokenizerConfig(kind="pixels", path="somewhere")
    with pytest.raises(ValueError, match="no image tokenizer to save"):
        load_image_tokenizer(ImageTokenizerConfig("pixels"), 8, forbidden, "").save(tmp_path)
    with pytest.raises(ValueError, match="downsample 6 must be"):
        AutoencoderConfig(downsample=6)
    with pytest.raises(ValueError, match="space_to_depth 8 must be at most downsample 4"):
        AutoencoderConfig(downsample=4)
    with pytest.raises(ValueError, match="width 20 must be a multiple of 32"):
        AutoencoderConfig(width=20)
    with pytest.raises(
        ValueError, match="8 x 8 pixels one latent cell does not fit a canvas of 20"
    ):
        load_image_tokenizer(ImageTokenizerConfig(fit=SMALL), 20, forbidden, "")
    with pytest.raises(ValueError, match="no autoencoder at '/absent'"):
        load_image_tokenizer(ImageTokenizerConfig(path="/absent"), CANVAS, forbidden, "")
    with pytest.raises(ValueError, match=r"no config\.json at"):
        load_image_tokenizer(ImageTokenizerConfig(path=str(tmp_path)), CANVAS, forbidden, "")
    with pytest.raises(ValueError, match=r"give uint8 \[N, 16, 16, 3\]"):
        fitted.encode(squares(0, 2)[:, :8])
    with pytest.raises(ValueError, match=r"\(4, 2, 2\)"):
        fitted.decode(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="N > 0"):
        fitted.reconstruction_error(squares(0, 0))
