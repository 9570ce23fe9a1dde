"""Autoencoders that others trained: found by folder or hub id, checked, measured, hashed."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from diffusers.models import AutoencoderKL

from mot_lab.runtime.cache import cached
from mot_lab.tokens.autoencoder import (
    Pictures,
    downsampling,
    latent_statistics,
    picture_latent_shape,
    register_statistics,
)

MEASURE_VERSION = 1  # raised whenever the same weights and pictures would give other statistics


def pretrained_autoencoder(
    path: str, subfolder: str, pictures: Pictures, key: Any, device: torch.device | str
) -> AutoencoderKL:
    """An autoencoder from a folder or the hub, measured on these pictures if it has no statistics.

    ``latents_mean`` and ``latents_std`` of its configuration are used as they are;
    ``scaling_factor`` is not, for it is one number for all channels.

    Raises:
        ValueError: where there is no such autoencoder.
    """
    model = _load(path, subfolder, device)
    if model.config["latents_mean"] is not None and model.config["latents_std"] is not None:
        return model

    def build(folder: Path) -> None:
        (folder / "statistics.json").write_text(json.dumps(latent_statistics(model, pictures)))

    determinants = {"version": MEASURE_VERSION, "weights": weights_hash(model), "pictures": key}
    folder = cached("latent-statistics", determinants, build)
    register_statistics(model, *json.loads((folder / "statistics.json").read_text()))
    return model


def pretrained_latent_shape(path: str, subfolder: str, canvas: int) -> tuple[int, int, int]:
    """(C, h, w) of one picture's latents, from the configuration alone.

    Raises:
        ValueError: where there is no such autoencoder, or it does not fit the canvas.
    """
    _require_findable(path)
    try:
        config = AutoencoderKL.load_config(path, subfolder=subfolder or None)
    except (OSError, ValueError) as error:
        raise _not_found(path, subfolder, error) from error
    return picture_latent_shape(config["latent_channels"], downsampling(config), canvas)


def weights_hash(model: AutoencoderKL) -> str:
    """Hash of an autoencoder's configuration and weights (16 hex digits)."""
    plain = {name: value for name, value in model.config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _load(path: str, subfolder: str, device: torch.device | str) -> AutoencoderKL:
    _require_findable(path)
    try:
        model = AutoencoderKL.from_pretrained(
            path, subfolder=subfolder or None, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
    except (OSError, ValueError) as error:
        raise _not_found(path, subfolder, error) from error
    return model.to(device).eval()


def _require_findable(path: str) -> None:
    if not Path(path).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        raise ValueError(
            f"no autoencoder at {path!r}: give a folder that diffusers saved, or a hub id"
        )


def _not_found(path: str, subfolder: str, error: Exception) -> ValueError:
    where = f"{path!r}, subfolder {subfolder!r}" if subfolder else f"{path!r}"
    return ValueError(f"no diffusers AutoencoderKL at {where}, a folder or a hub id: {error}")
