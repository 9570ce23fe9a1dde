"""What the reader of a report must know before its numbers: notes, and alerts for the first page.

Both are sentences in ``report.json``, with the numbers that stand in them.
"""

from collections.abc import Mapping
from typing import Any

from evaluation.store.study_record import StudyRecord
from evaluation.wording import LEAK_MARK, show

FEW_SEEDS = 5


def alerts(study: StudyRecord, causality: list[dict[str, Any]]) -> list[str]:
    """What makes a comparison or a claim doubtful; empty in a study that has no such thing."""
    return [*_unequal(study), *_leaking(causality)]


def notes(study: StudyRecord) -> list[str]:
    """How to read the numbers, and what was left out of them."""
    return [*_seed_notes(study), *_routing_notes(study), *_dropped_notes(study), *study.notes]


def by_value(values: Mapping[str, str | float]) -> str | float:
    """The value that all arms share, or each value with the arms that have it.

    Example:
        >>> by_value({"dense": 1.5, "moe": 1.5}), by_value({"dense": 1, "moe": 4, "mot": 1})
        (1.5, 'dense, mot: 1; moe: 4')
    """
    arms: dict[str | float, list[str]] = {}
    for arm, value in values.items():
        arms.setdefault(value, []).append(arm)
    if len(arms) == 1:
        return next(iter(arms))
    return "; ".join(f"{', '.join(names)}: {show(value)}" for value, names in arms.items())


def _unequal(study: StudyRecord) -> list[str]:
    if study.fairness is None or study.fairness["equal"]:
        return []
    differing = [check for check in study.fairness["checks"] if not check["equal"]]
    told = "; ".join(
        f"{check['what']} ({show(by_value(check['values']))}; wanted: {check['rule']})"
        for check in differing
    )
    return [
        "The arms were not trained alike, and the study was told to go on all the same "
        f"(--allow-unequal). What differs: {told}."
    ]


def _leaking(causality: list[dict[str, Any]]) -> list[str]:
    return [
        f"{row['arm']} is not causal ({_routing(row['routing'])}): changing later tokens changed "
        f"its predictions at {show(row['changed'])} of {show(row['positions'])} earlier positions, "
        f"by up to {show(row['largest'])}. Its losses and samples are not those of a causal model."
        for row in causality
        if row["leaks"] and row["routing"] != "training"
    ]


def _routing(routing: str) -> str:
    return "no experts" if routing == "none" else f"{routing} routing"


def _seed_notes(study: StudyRecord) -> list[str]:
    seeds = len(study.seeds)
    if seeds == 1:
        return [
            "This study has one seed: there is no interval over seeds, and a difference between "
            "arms may be chance. The intervals given are over samples and over the points of the "
            "curves."
        ]
    if seeds < FEW_SEEDS:
        return [
            f"Intervals over {seeds} seeds are wide: so few runs say little of how far runs "
            "differ. They are mean ± Student's t times the standard error."
        ]
    return []


def _routing_notes(study: StudyRecord) -> list[str]:
    leaking = [arm for arm in study.arms if study.sees_other_tokens(arm)]
    if not leaking:
        return []
    return [
        f"{', '.join(leaking)}: training and validation losses, and the matching made from them, "
        "are under the expert-choice routing of training, in which an expert picks its tokens by "
        "comparing all tokens of the batch, later ones included. A loss that sees other tokens is "
        "not that of a causal model: do not compare it with the other arms' as if it were. Such "
        f"figures bear the mark {LEAK_MARK}; the section on expert choice has the losses under "
        "causal routing too."
    ]


def _dropped_notes(study: StudyRecord) -> list[str]:
    return [
        f"{run.arm}-seed{run.seed}: {count} points of {curve}/{modality}/loss were not finite and "
        "are left out of its curve."
        for run in study.runs
        for (modality, curve), count in run.dropped.items()
        if count
    ]
