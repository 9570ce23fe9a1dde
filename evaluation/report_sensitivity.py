"""The appendix on how settled the slopes are: every slope under other ways of making it."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.report_blocks import Block, Cell, Picture, Table, Text, show
from evaluation.report_tables import Numbers, marked

Row = Mapping[str, Any]
HOW = (
    "The slope of step matching depends on how noisy curves are made monotone, on where the "
    "warm-up is cut off, and on whether it is fitted to all points or read at the end. Here every "
    "slope is made in other ways too, and the least and the greatest of them stand beside it. A "
    "slope whose range is narrow beside its interval is settled; one whose range is wide is not."
)
NOTHING = "No slope was varied."
FIGURE = Picture(
    "sensitivity",
    "How settled are the slopes",
    "An arm whose points stand below one another has a slope that does not depend on how it was "
    "made; the first row is the way of the rest of the report.",
    "Slopes of step matching on the validation loss, means over seeds with intervals over seeds.",
)


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


def sensitivity_blocks(numbers: Numbers) -> list[Block]:
    """The appendix: a table of ranges, the figure, and every way in a long table."""
    if not numbers["sensitivity"]:
        return [Text(NOTHING)]
    return [Text(HOW), FIGURE, _ranges(numbers), _variants(numbers)]


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


def _ranges(numbers: Numbers) -> Table:
    columns = ["arm", "modality", "curve", "slope", "slope over seeds"]
    columns += ["least", "least made by", "greatest", "greatest made by"]
    columns += ["ways", "ways without a slope"]
    rows: list[list[Cell]] = [
        [
            marked(numbers, row["arm"]),
            row["modality"],
            row["curve"],
            row["value"],
            (row["low"], row["high"]),
            *(row[key] for key in ("least", "least_way", "greatest", "greatest_way")),
            row["ways"],
            row["ways_without_slope"],
        ]
        for row in numbers["slope_ranges"]
    ]
    return Table("slope_ranges", "Slopes of step matching, made in other ways", columns, rows)


def _variants(numbers: Numbers) -> Table:
    columns = ["arm", "modality", "curve", "smoothing", "warm-up steps", "estimate"]
    columns += ["slope", "over seeds", "the report's own"]
    keys = ("modality", "curve", "smoothing", "warmup_steps", "estimate", "value")
    rows: list[list[Cell]] = [
        [
            marked(numbers, row["arm"]),
            *(row[key] for key in keys),
            (row["low"], row["high"]),
            row["is_default"],
        ]
        for row in numbers["sensitivity"]
    ]
    return Table("sensitivity", "Every way of making a slope", columns, rows, folded=True)
