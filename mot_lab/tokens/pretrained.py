"""Autoencoders that others trained: found by folder or hub id, checked, measured, hashed."""

import hashlib
import json
from collections.abc import Mapping
from operator import index
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from diffusers.models import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from mot_lab.hub import HUB_ID, hub_file
from mot_lab.parsing import brief
from mot_lab.runtime.cache import cached
from mot_lab.runtime.plain_files import laid_out
from mot_lab.tokens.autoencoder import (
    latent_statistics,
    picture_latent_shape,
    register_statistics,
)
from mot_lab.tokens.fitting import downsampling
from mot_lab.tokens.pictures import Pictures

MORE_THAN_WEIGHTS = "its weights are a pickle that holds more than plain tensors"
MEASURE_VERSION = 1  # raised whenever the same weights and pictures would give other statistics
Network = TypeVar("Network", bound=ModelMixin)


def pretrained_autoencoder(
    path: str, subfolder: str, pictures: Pictures, key: Any, device: torch.device | str
) -> AutoencoderKL:
    """An autoencoder from a folder or the hub, measured on these pictures if it has no statistics.

    ``latents_mean`` and ``latents_std`` of its configuration are used as they are;
    ``scaling_factor`` is not, for it is one number for all channels.

    Raises:
        ValueError: where there is no such autoencoder.
    """
    model = load_diffusers(AutoencoderKL, path, subfolder).to(device)
    if model.config["latents_mean"] is not None and model.config["latents_std"] is not None:
        return model

    def build(folder: Path) -> None:
        (folder / "statistics.json").write_text(json.dumps(latent_statistics(model, pictures)))

    weights = weights_hash(model.config, model)
    determinants = {"version": MEASURE_VERSION, "weights": weights, "pictures": key}
    folder = cached("latent-statistics", determinants, build)
    register_statistics(model, *json.loads((folder / "statistics.json").read_text()))
    return model


def pretrained_latent_shape(path: str, subfolder: str, canvas: int) -> tuple[int, int, int]:
    """(C, h, w) of one picture's latents, from the configuration alone.

    Raises:
        ValueError: where there is no such autoencoder, or it does not fit the canvas.
    """
    config = saved_config(path, subfolder)
    if config.get("_class_name") != "AutoencoderKL":
        raise ValueError(
            f"{described(path, subfolder)} is {kind_of(config)}, no diffusers AutoencoderKL: "
            f"give one, or say kind 'vq' of a VQ model"
        )
    with laid_out(f"config.json of {described(path, subfolder)}"):
        return picture_latent_shape(index(config["latent_channels"]), downsampling(config), canvas)


def weights_hash(config: Mapping[str, Any], model: nn.Module) -> str:
    """Hash of a network's configuration and weights (16 hex digits)."""
    plain = {name: value for name, value in config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def saved_config(path: str, subfolder: str) -> dict[str, Any]:
    """The ``config.json`` of a folder or hub id, of diffusers or of transformers.

    Raises:
        ValueError: where there is none.
    """
    place = Path(path, subfolder)
    if not Path(path).is_dir():
        place = _fetched_config(path, subfolder).parent
    try:
        return dict(AutoencoderKL.load_config(place))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        if not subfolder and (place / "model_index.json").is_file():
            raise ValueError(
                f"{path!r} is a whole pipeline of diffusers: say subfolder: vae, or where in it "
                f"its image model lies"
            ) from error
        raise ValueError(
            f"no config.json at {described(path, subfolder)}: {brief(error)}"
        ) from error


def _fetched_config(path: str, subfolder: str) -> Path:
    if not HUB_ID.fullmatch(path):
        raise ValueError(
            f"no autoencoder at {path!r}: give a folder that diffusers or transformers saved, or a "
            f"hub id"
        )
    try:
        return hub_file(path, f"{subfolder}/config.json" if subfolder else "config.json")
    except ValueError as error:
        raise ValueError(f"no autoencoder at {path!r}: no such folder, and {error}") from error


def load_diffusers(network: type[Network], path: str, subfolder: str) -> Network:
    """A diffusers network in fp32, for inference.

    Raises:
        ValueError: where there is none, or some of its weights are missing.
    """
    saved_config(path, subfolder)
    try:
        loaded: Any = network.from_pretrained(
            path,
            subfolder=subfolder or None,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, UnpicklingError) as error:
        raise unreadable(path, subfolder, network.__name__, error) from error
    model: Network
    model, found = loaded
    if missing := sorted(found["missing_keys"]):
        reason = f"{len(missing)} weights are missing, like {missing[0]}"
        raise unreadable(path, subfolder, network.__name__, reason)
    return model.eval()  # type: ignore[no-any-return]


def described(path: str, subfolder: str) -> str:
    """A place, for messages."""
    return f"{path!r}, subfolder {subfolder!r}" if subfolder else f"{path!r}"


def kind_of(config: Mapping[str, Any]) -> str:
    """What a ``config.json`` says that it is of, for messages."""
    return str(config.get("_class_name") or config.get("model_type") or "of an unknown kind")


def unreadable(path: str, subfolder: str, what: str, reason: Exception | str) -> ValueError:
    """The error of weights that cannot be used."""
    if isinstance(reason, Exception):
        reason = MORE_THAN_WEIGHTS if isinstance(reason, UnpicklingError) else brief(reason)
    return ValueError(f"no whole {what} at {described(path, subfolder)}: {reason}")
