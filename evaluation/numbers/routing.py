"""Expert choice and causality in a report: the leak of training routing, the router, the experts.

The leak is causal - training: what a loss loses when experts no longer choose with the future in
view. Values are means over seeds, with intervals over seeds.

Shapes: E experts of a layer.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.bootstrap import seed_interval
from evaluation.store.study_record import StudyRecord

Row = Mapping[str, Any]
Measures = tuple[tuple[str, Callable[[float], float]], ...]
OF_TOKENS: Measures = (("loss (nats per token)", float), ("perplexity", math.exp))
OF_DENOISING: Measures = (("diffusion loss", float),)


def expert_choice(study: StudyRecord) -> dict[str, Any] | None:
    """``losses``, ``routers``, ``unrouted`` and ``load`` of the arms with routing; None without."""
    arms = {arm: _routings(study, arm) for arm in study.arms}
    arms = {arm: routings for arm, routings in arms.items() if routings}
    if not arms:
        return None
    return {
        "losses": [row for arm, routings in arms.items() for row in _losses(study, arm, routings)],
        "routers": [row for arm, routings in arms.items() for row in _routers(arm, routings)],
        "unrouted": [row for arm, routings in arms.items() for row in _unrouted(arm, routings)],
        "load": [row for arm, routings in arms.items() for row in _load(arm, routings)],
    }


def causality_rows(study: StudyRecord) -> list[dict[str, Any]]:
    """What the probe found for every arm and routing: positions summed over seeds."""
    rows = []
    for arm in study.arms:
        probes = _grouped([run.causality for run in study.of_arm(arm)], "routing")
        for (routing,), found in probes.items():
            rows.append(
                {
                    "arm": arm,
                    "routing": routing,
                    "positions": sum(one["positions"] for one in found),
                    "changed": sum(one["changed"] for one in found),
                    "largest": max(one["largest"] for one in found),
                    "leaks": any(one["leaks"] for one in found),
                    "seeds": len(found),
                }
            )
    return rows


def _routings(study: StudyRecord, arm: str) -> list[Row]:
    return [run.routing for run in study.of_arm(arm) if run.routing is not None]


def _losses(study: StudyRecord, arm: str, routings: Sequence[Row]) -> list[dict[str, Any]]:
    rows = []
    found = _grouped([one["losses"] for one in routings], "split", "modality")
    for (split, modality), seeds in found.items():
        measures = OF_DENOISING if study.diffuses(modality) else OF_TOKENS
        for measure, of_loss in measures:
            both = [one for one in seeds if one["causal"] is not None]  # a router was fitted
            training = np.array([of_loss(one["training"]) for one in both or seeds])
            causal = np.array([of_loss(one["causal"]) for one in both])
            leak = causal - training if both else causal
            low, high = seed_interval(leak)
            rows.append(
                {
                    "arm": arm,
                    "split": split,
                    "modality": modality,
                    "measure": measure,
                    "training": float(training.mean()),
                    "causal": float(causal.mean()) if both else None,
                    "leak": float(leak.mean()) if both else None,
                    "leak_low": low,
                    "leak_high": high,
                    "seeds": len(training),
                    "n": seeds[0]["n"],
                }
            )
    return rows


def _routers(arm: str, routings: Sequence[Row]) -> list[dict[str, Any]]:
    """The arm's router in a row; none where no seed has fitted one."""
    routers = [one["router"] for one in routings if one["router"] is not None]
    if not routers:
        return []
    means = {
        key: float(np.mean([one[key] for one in routers]))
        for key in ("accuracy", "recall", "precision")
    }
    first = {key: routers[0][key] for key in ("steps", "parameters")}
    return [{"arm": arm, **first, **means, "seeds": len(routers)}]


def _unrouted(arm: str, routings: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "arm": arm,
            **where,
            "tokens": sum(one["tokens"] for one in seeds),
            "training": _mean_E(seeds, "unrouted_training"),
            "causal": _mean_E(seeds, "unrouted_causal"),
        }
        for where, seeds in _experts(routings)
    ]


def _load(arm: str, routings: Sequence[Row]) -> list[dict[str, Any]]:
    rows = []
    for where, seeds in _experts(routings):
        # of the first seed: expert 0 of another seed is another expert, a mean would mix them
        training_E, causal_E = seeds[0]["load_training"], seeds[0]["load_causal"]
        for expert, training in enumerate(training_E):
            causal = None if causal_E is None else causal_E[expert]
            shares = {"expert": expert, "training": training, "causal": causal}
            rows.append({"arm": arm, **where, **shares})
    return rows


def _mean_E(seeds: Sequence[Row], key: str) -> Any:
    """Mean over the seeds that have it, of a share or of a list of them; None where none has."""
    known = [one[key] for one in seeds if one[key] is not None]
    return np.mean(known, axis=0).tolist() if known else None


def _experts(routings: Sequence[Row]) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """Every tower, layer and modality with the rows of the seeds."""
    keys = ("tower", "layer", "modality")
    for values, seeds in _grouped([one["experts"] for one in routings], *keys).items():
        yield dict(zip(keys, values, strict=True)), seeds


def _grouped(runs: Sequence[Sequence[Row]], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """The rows of several runs by the values of ``keys``, in the order of the first run."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for rows in runs:
        for row in rows:
            found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found
