"""VQ models that others trained, by folder or hub id: a diffusers ``VQModel`` or Chameleon's."""

from operator import index
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from diffusers.models import VQModel

from mot_lab.runtime.plain_files import laid_out
from mot_lab.tokens.fitting import downsampling
from mot_lab.tokens.pictures import cells_per_side
from mot_lab.tokens.pretrained import (
    described,
    kind_of,
    load_diffusers,
    saved_config,
    unreadable,
)
from mot_lab.tokens.vq import DiffusersVQTokenizer, VQTokenizer

# model_type of Chameleon's VQ model alone, and of a whole Chameleon
CHAMELEON = ("chameleon_vqgan", "chameleon")


def pretrained_codes(path: str, subfolder: str, canvas: int) -> tuple[int, int]:
    """(codes there are, codes of one picture), from the configuration alone.

    Raises:
        ValueError: where there is no such model, or it does not fit the canvas.
    """
    config = saved_config(path, subfolder)
    if _is_chameleon(config, path, subfolder):
        chameleon = _chameleon()
        return chameleon.chameleon_codes(chameleon.vq_config(config), canvas)
    with laid_out(f"config.json of {described(path, subfolder)}"):
        return index(config["num_vq_embeddings"]), cells_per_side(downsampling(config), canvas) ** 2


def pretrained_vq(
    path: str, subfolder: str, canvas: int, device: torch.device | str
) -> VQTokenizer:
    """The tokenizer of a folder or hub id.

    Raises:
        ValueError: where there is no such model, or weights are missing.
    """
    if not _is_chameleon(saved_config(path, subfolder), path, subfolder):
        return DiffusersVQTokenizer(load_diffusers(VQModel, path, subfolder).to(device), canvas)
    chameleon = _chameleon()
    try:
        model = chameleon.load_chameleon_vq(path, subfolder)
    except (OSError, ValueError, RuntimeError, UnpicklingError) as error:
        raise unreadable(path, subfolder, "Chameleon VQ model", error) from error
    model.to(device)  # type: ignore[arg-type]  # transformers' wrapper hides the signature
    return chameleon.ChameleonVQTokenizer(model, canvas)


def _is_chameleon(config: dict[str, Any], path: str, subfolder: str) -> bool:
    if config.get("model_type") in CHAMELEON:
        return True
    if config.get("_class_name") == "VQModel":
        return False
    raise ValueError(
        f"{described(path, subfolder)} is {kind_of(config)}: kind 'vq' needs a VQModel of "
        f"diffusers or a Chameleon of transformers"
    )


def _chameleon() -> ModuleType:
    try:
        from mot_lab.tokens import vq_chameleon
    except ImportError as error:
        raise ValueError(
            f"Chameleon's VQ model needs transformers: pip install transformers ({error})"
        ) from error
    return vq_chameleon
