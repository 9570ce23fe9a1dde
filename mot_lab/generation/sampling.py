"""How answers are drawn: settings, and the choice of a token among those that are allowed.

Shapes: K places, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """Settings of `generate`.

    Attributes:
        temperature: of tokens of every kind; 0 takes the likeliest (as Transfusion does for text).
        top_p: tokens are drawn from the smallest set of the likeliest with at least this
            probability together (nucleus sampling, arXiv 1904.09751); 1 is all.
        guidance: classifier-free guidance of pictures (arXiv 2207.12598), denoised or in codes:
            ``unconditional + guidance * (conditional - unconditional)``, the unconditional branch
            reading the prompt without its text. 1 is no second branch (MoT's metrics).
        sampler: ``ddim``, ``ddpm`` or ``flow``; by default the model's.
        steps: denoising steps; by default the model's.
        max_tokens: text tokens of an answer.
        max_codes: codes of a block that ends with its end token (speech).
        max_blocks: blocks of other modalities that a free answer may open.
        seed: what prompt i becomes is a function of (seed, i).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    guidance: float = 1.0
    sampler: str | None = None
    steps: int | None = None
    max_tokens: int = 64
    max_codes: int = 256
    max_blocks: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature} must not be negative")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} must be above 0 and at most 1")
        for name in ("max_tokens", "max_codes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        for name in ("guidance", "max_blocks", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} must not be negative")


def choose(logits_KV: Tensor, sampling: Sampling, uniform: Sequence[float]) -> Tensor:
    """A token for each place: the likeliest, or drawn by temperature and top-p.

    Args:
        logits_KV: -inf where a token is not allowed.
        sampling: temperature and top-p.
        uniform: K numbers in [0, 1), what each draw is made of; unused at temperature 0.

    Returns:
        int64 [K].
    """
    if sampling.temperature == 0:
        return logits_KV.argmax(dim=-1)
    weight_KV = (logits_KV.double() / sampling.temperature).softmax(dim=-1)
    if sampling.top_p < 1:
        falling_KV, order_KV = weight_KV.sort(dim=-1, descending=True, stable=True)
        likelier_KV = falling_KV.cumsum(dim=-1) - falling_KV
        nucleus_KV = falling_KV * (likelier_KV < sampling.top_p)
        weight_KV = torch.zeros_like(weight_KV).scatter(-1, order_KV, nucleus_KV)
    below_KV = weight_KV.cumsum(dim=-1)
    uniform_K = torch.tensor(uniform, dtype=torch.float64, device=logits_KV.device)
    drawn_K1 = uniform_K[:, None] * below_KV[:, -1:]
    return torch.searchsorted(below_KV, drawn_K1, right=True)[:, 0]
