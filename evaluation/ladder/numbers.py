"""``report.json`` of a ladder, from its record and the ``report.json`` of every rung."""

from collections.abc import Mapping
from typing import Any

from evaluation.numbers.pair import COSTS, SLOPES
from evaluation.wording import Numbers

SCHEMA = 1  # of this report.json: raised when a field changes its meaning or goes
LOSS = ("value", "low", "high", "seeds")
EQUAL = ("setting", "baseline", "modalities", "seeds", "steps", "warmup_steps")


def ladder_numbers(record: Numbers, reports: Mapping[str, Numbers]) -> dict[str, Any]:
    """The content of ``report.json``.

    Args:
        record: the content of ``ladder.json``.
        reports: the content of every rung's ``report.json``, by rung.
    """
    first = next(iter(reports.values()))
    rungs = {name: _rung(record, name, report) for name, report in reports.items()}
    return {
        "schema": SCHEMA,
        "ladder": record["ladder"],
        "along": record["along"],
        "setting": first["setting"],
        "baseline": first["baseline"],
        "modalities": first["modalities"],
        "method": {"confidence_percent": first["method"]["confidence_percent"]},
        "arms": {
            arm: {"loss_sees_other_tokens": facts["loss_sees_other_tokens"]}
            for arm, facts in first["arms"].items()
        },
        "rungs": rungs,
        "slopes": _rows(rungs, reports, "matching", ("arm", "modality", "curve", "axis"), SLOPES),
        "losses": _rows(rungs, reports, "losses", ("arm", "modality", "curve"), LOSS),
        "costs": [
            {"rung": name, "arm": arm, **{cost: facts[cost] for cost in COSTS}}
            for name, report in reports.items()
            for arm, facts in report["arms"].items()
        ],
        "alerts": [
            f"{name}: {one}" for name, report in reports.items() for one in report["alerts"]
        ],
        "notes": [*_unequal(reports), *_notes(reports)],
    }


def _rung(record: Numbers, name: str, report: Numbers) -> dict[str, Any]:
    """What a rung is; ``x`` is where it stands on the ladder's axis."""
    known = record["rungs"][name]
    tokens = sum(report["tokens_per_step"].values())
    return {
        "study": known["study"],
        "x": known["parameters"] if record["along"] == "size" else tokens,
        "parameters": known["parameters"],
        "tokens_per_step": tokens,
        "steps": report["steps"],
        "warmup_steps": report["warmup_steps"],
        "seeds": report["seeds"],
    }


def _rows(
    rungs: Mapping[str, Mapping[str, Any]],
    reports: Mapping[str, Numbers],
    table: str,
    by: tuple[str, ...],
    kept: tuple[str, ...],
) -> list[dict[str, Any]]:
    return [
        {"rung": name, "x": rungs[name]["x"], **{key: row[key] for key in (*by, *kept)}}
        for name, report in reports.items()
        for row in report[table]
    ]


def _unequal(reports: Mapping[str, Numbers]) -> list[str]:
    """What rungs differ in besides size and batch; one sentence for each."""
    said = []
    for key in EQUAL:
        values = {name: str(report[key]) for name, report in reports.items()}
        if len(set(values.values())) > 1:
            each = ", ".join(f"{name} {value}" for name, value in values.items())
            said.append(f"The rungs differ in {key.replace('_', ' ')} as well: {each}.")
    return said


def _notes(reports: Mapping[str, Numbers]) -> list[str]:
    """The notes of the rungs, each once; those of some rungs with their names."""
    having: dict[str, list[str]] = {}
    for name, report in reports.items():
        for note in report["notes"]:
            having.setdefault(note, []).append(name)
    return [
        note if len(names) == len(reports) else f"{', '.join(names)}: {note}"
        for note, names in having.items()
    ]
