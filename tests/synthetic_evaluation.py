"""What the synthetic study's runs were scored at: known metrics, leaks, experts and causality.

Draws of the arms are aligned, as those of a real evaluation are: every arm moves with the samples
of a draw (``COMMON``) and a little on its own (``OWN``).
"""

from typing import Any

import numpy as np
from scipy.stats import norm

DRAWS = 200
COMMON = norm.ppf((np.arange(DRAWS) + 0.5) / DRAWS)  # standard normal, sorted
OWN = np.random.default_rng(0).permutation(COMMON)
CLIP = {"dense": 0.30, "moe_4x": 0.28, "mot": 0.31}  # with the first seed; 0.02 more per seed
NO_CAPTION = "expert choice cannot generate text without reading later tokens"

SPLITS = ("test", "unseen")
HELD_OUT = {"text": 2.0, "image": 0.5}  # loss under training routing with the first seed
LEAKS = {"text": 0.25, "image": 0.04}  # with the first seed; a tenth more per seed
UNROUTED = {"text": 0.1, "image": 0.3}  # in layer 0; 0.05 more per layer
LAYERS, EXPERTS = 2, 4
POSITIONS = 64  # of a causality probe


def clip_draws(arm: str, seed: int) -> np.ndarray:
    """The bootstrap draws of an arm's CLIP score, float64 [DRAWS]."""
    own = 0.0 if arm == "dense" else 0.002
    return np.round(CLIP.get(arm, 0.30) + 0.02 * seed + 0.01 * COMMON + own * OWN, 6)


def evaluation(arm: str, seed: int) -> dict[str, Any]:
    """The content of evaluation.json, samples aside."""
    chooses = has_experts(arm)
    return {
        "metrics": metrics(arm, seed),
        "routing": routing(seed) if chooses else None,
        "causality": causality(seed) if chooses else [_probe("none", 0, 0.0, False)],
    }


def has_experts(arm: str) -> bool:
    """Whether the synthetic arm is one of expert choice."""
    return "moe" in arm


def metrics(arm: str, seed: int) -> list[dict[str, Any]]:
    """The CLIP score of every arm; CIDEr of those without experts, 0.5 better in MoT."""
    draws = clip_draws(arm, seed)
    low, high = np.quantile(draws, [0.025, 0.975]).tolist()
    clip = {"name": "CLIP score", "value": CLIP.get(arm, 0.30) + 0.02 * seed, "n": 256}
    clip |= {"low": low, "high": high, "draws": draws.tolist()}
    clip |= {"extractor": "scenes-clip", "ceiling": 0.41, "floor": 0.05}
    clip |= {"note": "retrieval top-1 of this extractor on held-out scenes: 0.91"}
    cider: dict[str, Any] = {"name": "CIDEr", "value": None, "low": None, "high": None, "n": 0}
    cider |= {"extractor": "pycocoevalcap", "ceiling": 9.0, "floor": 0.4, "note": NO_CAPTION}
    if not has_experts(arm):
        value = 6.0 if arm == "mot" else 5.5
        cider |= {"value": value, "low": value - 0.5, "high": value + 0.5, "n": 128, "note": ""}
    return [clip, cider]


def routing(seed: int) -> dict[str, Any]:
    """Losses under both routings, the fitted router, and what each expert took."""
    return {
        "losses": [
            {
                "split": split,
                "modality": modality,
                "training": HELD_OUT[modality] + 0.01 * seed,
                "causal": HELD_OUT[modality] + 0.01 * seed + LEAKS[modality] * (1 + 0.1 * seed),
                "n": 500,
            }
            for split in SPLITS
            for modality in HELD_OUT
        ],
        "router": {
            "steps": 300,
            "parameters": 4242,
            "accuracy": 0.90 + 0.02 * seed,
            "recall": 0.7,
            "precision": 0.8,
        },
        "experts": [
            {
                "layer": layer,
                "tower": "text+image",
                "modality": modality,
                "tokens": 1000,
                "unrouted_training": share + 0.05 * layer,
                "unrouted_causal": share + 0.05 * layer + 0.02 * seed,
                "load_training": [0.1 * (1 + expert) for expert in range(EXPERTS)],
                "load_causal": [0.1 * (1 + expert) + 0.02 * seed for expert in range(EXPERTS)],
            }
            for layer in range(LAYERS)
            for modality, share in UNROUTED.items()
        ],
    }


def causality(seed: int) -> list[dict[str, Any]]:
    """A leak under training routing at 40 positions (one more per seed), none under causal."""
    return [_probe("training", 40 + seed, 0.5 + seed, True), _probe("causal", 0, 2e-6, False)]


def fairness(arms: list[str]) -> dict[str, Any]:
    """Checks of a study whose arms are equal."""

    def check(what: str, value: str | float, rule: str) -> dict[str, Any]:
        return {"what": what, "values": dict.fromkeys(arms, value), "equal": True, "rule": rule}

    return {
        "equal": True,
        "allowed_unequal": False,
        "checks": [
            check("order of the batches", "5f2c9ad1", "the same"),
            check("text tokens per step", 1500, "the same"),
            check("image tokens per step", 1024, "the same"),
            check("FLOPs per step", 2.5e11, "within 1% of the baseline, routers aside"),
            {
                **check("total parameters", 0, "listed, need not be equal"),
                "values": {arm: 1_000_000 * (1 + place) for place, arm in enumerate(arms)},
            },
        ],
        "router_flops_per_step": {arm: 1.25e8 if has_experts(arm) else 0 for arm in arms},
    }


def _probe(routing: str, changed: int, largest: float, leaks: bool) -> dict[str, Any]:
    found = {"routing": routing, "positions": POSITIONS, "changed": changed}
    return {**found, "largest": largest, "leaks": leaks}
