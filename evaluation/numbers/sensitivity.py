"""How far each slope moves when it is made in other ways."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.wording import show

Row = Mapping[str, Any]


def slope_ranges(variants: Sequence[Row]) -> list[dict[str, Any]]:
    """Per arm, modality and curve: the default slope, and the least and the greatest of all.

    Args:
        variants: the rows of ``sensitivity`` in ``report.json``.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in variants:
        groups.setdefault((row["arm"], row["modality"], row["curve"]), []).append(row)
    ranges = []
    for (arm, modality, curve), rows in groups.items():
        default = next(row for row in rows if row["is_default"])
        known = sorted((row for row in rows if row["value"] is not None), key=_value)
        ends: dict[str, Any] = {}
        for end, row in (("least", known[0]), ("greatest", known[-1])) if known else ():
            ends |= {end: row["value"], f"{end}_way": _way(row, default)}
        ranges.append(
            {
                "arm": arm,
                "modality": modality,
                "curve": curve,
                **{key: default[key] for key in ("value", "low", "high")},
                **(ends or dict.fromkeys(("least", "least_way", "greatest", "greatest_way"))),
                "ways": len(rows),
                "ways_without_slope": len(rows) - len(known),
            }
        )
    return ranges


def _value(row: Row) -> float:
    return row["value"]


def _way(row: Row, default: Row) -> str:
    """What was done otherwise than in the rest of the report."""
    changes = []
    if row["smoothing"] != default["smoothing"]:
        changes.append(row["smoothing"])
    if row["warmup_steps"] != default["warmup_steps"]:
        changes.append(f"warm-up of {show(row['warmup_steps'])} steps")
    if row["estimate"] != default["estimate"]:
        changes.append({"fit": "fitted slope", "end": "end ratio"}[row["estimate"]])
    return ", ".join(changes) or "as in the report"
