"""How expert choice routes held-out tokens, as in training and causally, and what each costs.

Under training routing an expert's choice looks at later tokens and at other rows. The difference
between a loss under causal routing and the same loss under training routing is the leak, together
with what the auxiliary routers fail to learn.
"""

from collections.abc import Mapping
from typing import Any

from evaluation.trained.held_out import HeldOutLosses
from mot_lab.causal_router import CausalRouter
from mot_lab.expert_load import ExpertTally
from mot_lab.model import MultimodalModel


def routings(net: MultimodalModel) -> tuple[str, ...]:
    """What a network is evaluated under: ``none`` without experts; else ``training``, and
    ``causal`` where its auxiliary routers are there.
    """
    if not net.transformer.expert_choice():
        return ("none",)
    return ("training", "causal") if net.transformer.can_route_causally() else ("training",)


def routing_record(
    losses: Mapping[str, Mapping[str, HeldOutLosses]],
    tallies: Mapping[str, ExpertTally],
    router: CausalRouter | None,
) -> dict[str, Any]:
    """What ``evaluation.json`` says under ``routing``; None stands where no router was fitted.

    Args:
        losses: by routing (``training`` and ``causal``) and split.
        tallies: by routing, all of the same batches.
        router: the auxiliary routers.
    """
    return {
        "losses": [
            {
                "split": split,
                "modality": modality,
                "training": each.mean(modality),
                "causal": losses["causal"][split].mean(modality) if router else None,
                "n": each.count(modality),
            }
            for split, each in losses["training"].items()
            for modality in each.modalities
        ],
        "router": router_record(router) if router else None,
        "experts": [
            {
                "layer": feed[0],
                "tower": feed[1],
                "modality": feed[2],
                "tokens": tokens,
                "unrouted_training": tallies["training"].unrouted(feed),
                "unrouted_causal": tallies["causal"].unrouted(feed) if router else None,
                "load_training": tallies["training"].load(feed),
                "load_causal": tallies["causal"].load(feed) if router else None,
            }
            for feed, tokens in tallies["training"].tokens.items()
        ],
    }


def router_record(router: CausalRouter) -> dict[str, Any]:
    """Of the auxiliary routers: how they were fitted, and how well on held-out tokens."""
    quality = router.quality
    return {
        "steps": router.config.steps,
        "parameters": router.parameters,
        "accuracy": quality.accuracy,
        "recall": quality.recall,
        "precision": quality.precision,
    }
