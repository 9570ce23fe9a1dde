"""Autoencoders of others in every format that diffusers has had: the latents are its own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from coloured_squares import CANVAS, forbidden, squares
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from mot_lab.tokens.image import ImageTokenizer, ImageTokenizerConfig, load_image_tokenizer
from mot_lab.tokens.pictures import to_bytes, to_unit_range

MEAN, DEVIATION = [0.1, -0.2, 0.3, 0.0], [0.5, 1.5, 1.0, 2.0]
# What diffusers called the parts of attention before version 0.18, as in Stable Diffusion 1's.
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def autoencoder(**changes: object) -> AutoencoderKL:
    torch.manual_seed(0)
    settings = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "scaling_factor": 0.3,
        "latents_mean": MEAN,
        "latents_std": DEVIATION,
    }
    return AutoencoderKL(**{**settings, **changes}).eval()


def load(path: Path, subfolder: str = "") -> ImageTokenizer:
    config = ImageTokenizerConfig(path=str(path), subfolder=subfolder)
    tokenizer = load_image_tokenizer(config, CANVAS, forbidden, "")
    assert isinstance(tokenizer, ImageTokenizer)
    assert tokenizer.latent_shape == config.latent_shape(CANVAS) == (4, 8, 8)
    return tokenizer


def same_as(model: AutoencoderKL, tokenizer: ImageTokenizer) -> None:
    """Latents and pictures of diffusers' own forward passes."""
    images = squares(0, 5)
    mean_1C11, deviation_1C11 = (
        torch.tensor(values).view(1, 4, 1, 1) for values in (MEAN, DEVIATION)
    )
    with torch.inference_mode():
        latents = model.encode(to_unit_range(torch.from_numpy(images))).latent_dist.mean
        noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        pixels = model.decode(noise).sample
    normal = (latents - mean_1C11) / deviation_1C11
    torch.testing.assert_close(tokenizer.encode(images), normal, rtol=1e-5, atol=1e-6)
    assert latents.std() > 0.01
    decoded = tokenizer.decode((noise - mean_1C11) / deviation_1C11)
    assert np.abs(decoded.astype(int) - to_bytes(pixels).numpy()).max() <= 1  # rounding
    assert decoded.std() > 1


@pytest.mark.parametrize(
    "changes",
    [{}, {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.1}],
    ids=["stable_diffusion", "flux"],
)
def test_latents_and_pictures_are_those_of_diffusers(
    changes: dict[str, object], tmp_path: Path
) -> None:
    model = autoencoder(**changes)
    model.save_pretrained(tmp_path)
    same_as(model, load(tmp_path))


def test_in_a_pipeline_in_shards_and_pickled(tmp_path: Path) -> None:
    model = autoencoder()
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    model.save_pretrained(tmp_path / "vae", max_shard_size=20_000)
    assert len(list((tmp_path / "vae").glob("*.safetensors"))) > 1
    same_as(model, load(tmp_path, "vae"))
    model.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    assert [each.suffix for each in (tmp_path / "pickled").glob("*model*")] == [".bin"]
    same_as(model, load(tmp_path / "pickled"))


def test_half_precision_is_computed_in_full(tmp_path: Path) -> None:
    half = autoencoder().to(torch.float16)
    half.save_pretrained(tmp_path)
    same_as(half.float(), load(tmp_path))


def test_with_the_names_of_older_versions(tmp_path: Path) -> None:
    model = autoencoder()
    model.save_pretrained(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    weights: dict[str, Tensor] = {}
    for name, weight in load_file(file).items():
        for new, old in OLD_NAMES.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        weights[name] = weight
    assert sum("proj_attn" in name for name in weights) == 4
    save_file(weights, file, metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config["_diffusers_version"] = "0.6.0"
    (tmp_path / "config.json").write_text(json.dumps(config))
    same_as(model, load(tmp_path))


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    model = autoencoder()
    model.save_pretrained(tmp_path / "whole")
    (file,) = (tmp_path / "whole").glob("*.safetensors")
    weights = load_file(file)
    del weights["quant_conv.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="1 weights are missing, like quant_conv"):
        load(tmp_path / "whole")
    file.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="no whole AutoencoderKL at"):
        load(tmp_path / "whole")
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="say subfolder: vae") as refused:
        load(tmp_path / "pipeline")
    assert "\n" not in str(refused.value)
    VQModel(block_out_channels=(32,)).save_pretrained(tmp_path / "vq")
    with pytest.raises(ValueError, match="is VQModel, no diffusers AutoencoderKL"):
        load(tmp_path / "vq")
