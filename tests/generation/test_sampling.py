"""The choice of a token against the loop over them, and what settings refuse.

Shapes: K places, V vocabulary.
"""

import numpy as np
import oracle_generation
import pytest
import torch
from torch import Tensor

from mot_lab.generation.sampling import Sampling, choose


def logits(places: int, seed: int = 0) -> Tensor:
    """Random, a third of the tokens not allowed."""
    generator = torch.Generator().manual_seed(seed)
    logits_KV = 3 * torch.randn(places, 11, generator=generator, dtype=torch.float64)
    return logits_KV.masked_fill(torch.rand(places, 11, generator=generator) < 1 / 3, -torch.inf)


def oracle(logits_KV: Tensor, sampling: Sampling, uniform_K: Tensor) -> list[int]:
    return [
        oracle_generation.draw_token(
            logits_V, set(logits_V.isfinite().nonzero()[:, 0].tolist()), sampling, uniform
        )
        for logits_V, uniform in zip(logits_KV, uniform_K.tolist(), strict=True)
    ]


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 1.0])
def test_is_the_loop_over_tokens(temperature: float, top_p: float) -> None:
    sampling, logits_KV = Sampling(temperature, top_p), logits(200)
    uniform_K = torch.rand(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen_K = choose(logits_KV, sampling, uniform_K.tolist())
    assert chosen_K.tolist() == oracle(logits_KV, sampling, uniform_K)
    assert logits_KV.gather(1, chosen_K[:, None]).isfinite().all()
    if temperature == 0 or top_p == 1e-6:
        assert torch.equal(chosen_K, logits_KV.argmax(dim=-1))


def test_the_ends_of_the_interval_are_allowed_tokens() -> None:
    logits_KV = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).expand(2, -1)
    uniform_K = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    for top_p, expected in ((1.0, [1, 3]), (0.5, [3, 3])):
        assert choose(logits_KV, Sampling(1.0, top_p), uniform_K.tolist()).tolist() == expected


def test_frequencies_are_the_probabilities_of_the_nucleus() -> None:
    logits_V = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()
    uniform_K = torch.from_numpy(np.random.default_rng(0).random(20_000))
    for top_p, expected in ((1.0, [0.5, 0.3, 0.15, 0.05]), (0.6, [0.625, 0.375, 0, 0])):
        chosen_K = choose(logits_V.expand(20_000, -1), Sampling(1.0, top_p), uniform_K.tolist())
        shares = torch.bincount(chosen_K, minlength=4) / 20_000
        assert shares.tolist() == pytest.approx(expected, abs=0.01)  # 3 standard errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -1.0}, "temperature -1.0 must not be negative"),
        ({"top_p": 0.0}, "top_p 0.0 must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p 1.5 must be above 0 and at most 1"),
        ({"guidance": -0.5}, "guidance -0.5 must not be negative"),
        ({"max_tokens": 0}, "max_tokens 0 must be at least 1"),
        ({"max_codes": 0}, "max_codes 0 must be at least 1"),
        ({"max_blocks": -1}, "max_blocks -1 must not be negative"),
        ({"seed": -1}, "seed -1 must not be negative"),
    ],
)
def test_refusals(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Sampling(**changes)
