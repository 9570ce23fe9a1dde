"""Which GPUs of this machine a study may use."""

import os

import torch

from mot_lab.parsing import shown

VISIBLE = "CUDA_VISIBLE_DEVICES"


def chosen_gpus(wish: str) -> list[str]:
    """The GPUs of a list like ``0,2,3``, as CUDA_VISIBLE_DEVICES names them.

    Numbers count those that this process sees: where somebody has set CUDA_VISIBLE_DEVICES to
    ``4,5,6,7``, 0 is the GPU that it calls 4, and no other can be reached.

    Raises:
        ValueError: not a list of different numbers, or of a GPU that is not there.
    """
    seen = visible_gpus()
    parts = [part.strip() for part in wish.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"--gpus {shown(wish)} must be numbers of GPUs with commas, like 0,1,2,3")
    numbers = [int(part) for part in parts]
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"--gpus {shown(wish)} must name each GPU once: one run trains on each")
    if not seen:
        raise ValueError(
            f"--gpus {shown(wish)}: no GPU is visible here; without --gpus the study trains on the "
            "CPU"
        )
    if beyond := [number for number in numbers if number >= len(seen)]:
        raise ValueError(
            f"--gpus {shown(wish)}: there is no GPU {beyond[0]}; {len(seen)} are visible, counted "
            f"from 0"
        )
    return [seen[number] for number in numbers]


def visible_gpus() -> list[str]:
    """Every GPU that this process sees, as CUDA_VISIBLE_DEVICES names it. CUDA is not begun by it:
    it can still be told to see fewer.
    """
    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE)
    return [str(number) for number in range(count)] if named is None else named.split(",")[:count]
