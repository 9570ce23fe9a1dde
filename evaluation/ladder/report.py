"""The report of a ladder: slopes over its rungs, every rung, and links to the rungs' reports."""

import os
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.figures.intervals import main_interval
from evaluation.figures.losses import CURVE_TITLES
from evaluation.ladder.figure import AXIS_TITLES, ladder_losses, ladder_slopes
from evaluation.ladder.numbers import ladder_numbers
from evaluation.numbers.pair import COSTS
from evaluation.report.blocks import Alert, Block, Links, Picture, Points, Section, Table, Text
from evaluation.report.build import write_files
from evaluation.wording import LEAK_NOTE, Cell, Numbers, marked, show
from mot_lab.ladder_record import RECORD, SCHEMA
from mot_lab.runtime.plain_files import read_json

SLOPES = Picture(
    "ladder_slopes",
    "Slopes up the ladder",
    "Below the dashed line an arm needs fewer steps than the baseline of the same rung for the "
    "same loss.",
    "Bars are the intervals of the table, and one that is much longer than the slopes lie apart "
    "leaves the frame; arms stand a little beside each other. A rung without a point has no slope.",
)
LOSSES = Picture(
    "ladder_losses",
    "Final validation losses up the ladder",
    "Lower is better.",
    "Means over seeds, with their intervals where there are several seeds.",
)
RUNG_COLUMNS = {
    "study": "study",
    "parameters": "non-embedding parameters of the baseline",
    "tokens_per_step": "tokens per batch",
    "steps": "steps",
    "warmup_steps": "warm-up steps",
}
COST_COLUMNS = dict(
    zip(COSTS, ("parameters", "active", "FLOPs per step", "s per step"), strict=True)
)


def is_ladder(folder: Path) -> bool:
    """Whether a folder is that of a ladder."""
    return (folder / RECORD).is_file()


def build_ladder_report(folder: Path, out: Path | None = None) -> Path:
    """Builds the report of a ladder from the reports of its rungs.

    Args:
        folder: of the ladder, with ``ladder.json`` and a folder per rung.
        out: folder to write into, by default the ladder's.

    Returns:
        The path of ``report.html``; the rest lies beside it.

    Raises:
        ValueError: no ladder of this version, or a rung without a report.
    """
    out = out or folder
    record = _read(folder / RECORD, "run the ladder first")
    if record.get("schema") != SCHEMA:
        raise ValueError(
            f"{folder / RECORD} has schema {record.get('schema')!r}; this version reads {SCHEMA}"
        )
    reports = {
        rung: _read(folder / rung / "report.json", "call mot-lab study again, it goes on here")
        for rung in record["rungs"]
    }
    numbers = ladder_numbers(record, reports)
    makers = {
        "ladder_slopes": partial(ladder_slopes, numbers),
        "ladder_losses": partial(ladder_losses, numbers),
    }
    title = f"{record['ladder']}: {', '.join(numbers['arms'])} up a ladder of {len(reports)} rungs"
    links = {rung: _address(folder / rung / "report.html", out) for rung in reports}
    write_files(title, numbers, ladder_sections(numbers, links), makers, out)
    return out / "report.html"


def ladder_sections(numbers: Numbers, links: dict[str, str]) -> list[Section]:
    """The whole report.

    Args:
        numbers: the content of its ``report.json``.
        links: the address of every rung's report.
    """
    slopes: list[Block] = [SLOPES, *(_slopes_table(numbers, curve) for curve in ("val", "train"))]
    pages = [(f"{rung}: {numbers['rungs'][rung]['study']}", to) for rung, to in links.items()]
    return [
        Section("summary", "Summary", _summary(numbers)),
        Section("slopes", "Slopes", slopes),
        Section("losses", "Final losses", [LOSSES, _losses_table(numbers)]),
        Section("rungs", "The rungs", [_rungs_table(numbers), _costs_table(numbers)]),
        Section("reports", "The report of every rung", [Links(pages)]),
        Section("notes", "Notes", [Points(numbers["notes"])]),
    ]


def _summary(numbers: Numbers) -> list[Block]:
    rungs = ", ".join(f"{name} ({show(of['x'])})" for name, of in numbers["rungs"].items())
    opening = (
        f"The same comparison at every rung, setting {numbers['setting']}, arms "
        f"{', '.join(numbers['arms'])}, baseline {numbers['baseline']}. The rungs and their "
        f"{AXIS_TITLES[numbers['along']]}: {rungs}."
    )
    how = (
        "A slope is the share of the baseline's steps that an arm needs for the same loss, made as "
        "in the report of the rung, against the baseline of the same rung. Intervals are "
        f"{numbers['method']['confidence_percent']}%: over seeds, or with one seed over the points "
        "of the curves."
    )
    alerts = [Alert(one) for one in numbers["alerts"]]
    return [*alerts, Text(opening), Text(how), Points(_headlines(numbers))]


def _headlines(numbers: Numbers) -> list[str]:
    """A sentence per arm and modality: the slopes of its validation loss up the ladder."""
    lines = []
    for arm, modality in _compared(numbers):
        rows = _slopes_of(numbers, arm, modality, "val", "steps")
        each = ", ".join(f"{rung} {_slope(row)}" for rung, row in rows.items())
        lines.append(
            f"{marked(numbers, arm)}, {modality}: share of the baseline's steps to the same "
            f"validation loss: {each}."
        )
    return lines


def _slope(row: Numbers) -> str:
    return "never reached" if row["slope"] is None else show(row["slope"])


def _slopes_table(numbers: Numbers, curve: str) -> Table:
    columns = ["arm", "modality", "axis"]
    for rung in numbers["rungs"]:
        columns += [rung, f"{rung}: interval", f"{rung}: end ratio"]
    rows: list[list[Cell]] = []
    for arm, modality in _compared(numbers):
        for axis in ("steps", "flops", "seconds"):
            cells: list[Cell] = [marked(numbers, arm), modality, axis]
            for row in _slopes_of(numbers, arm, modality, curve, axis).values():
                low, high, _ = main_interval(row)
                cells += ["never reached" if row["slope"] is None else row["slope"]]
                cells += [(low, high)]  # type: ignore[list-item]  # both or neither
                cells += [row["end_ratio"] if row["reached"] else "never reached"]
            rows.append(cells)
    title = f"Matching of the {CURVE_TITLES[curve]} loss with the baseline of the same rung"
    return Table(f"slopes_{curve}", title + _key(numbers), columns, rows, folded=curve == "train")


def _losses_table(numbers: Numbers) -> Table:
    columns = ["rung", "arm", "modality", "curve", "final loss", "interval over seeds", "seeds"]
    rows: list[list[Cell]] = [
        [
            row["rung"],
            marked(numbers, row["arm"]),
            row["modality"],
            row["curve"],
            row["value"],
            (row["low"], row["high"]),
            row["seeds"],
        ]
        for row in numbers["losses"]
    ]
    return Table("losses", "Final losses" + _key(numbers), columns, rows)


def _rungs_table(numbers: Numbers) -> Table:
    rows: list[list[Cell]] = [
        [name, *(of[key] for key in RUNG_COLUMNS), ", ".join(map(str, of["seeds"]))]
        for name, of in numbers["rungs"].items()
    ]
    return Table("rungs", "Every rung", ["rung", *RUNG_COLUMNS.values(), "seeds"], rows)


def _costs_table(numbers: Numbers) -> Table:
    rows: list[list[Cell]] = [
        [row["rung"], row["arm"], *(row[cost] for cost in COSTS)] for row in numbers["costs"]
    ]
    title = "Parameters, FLOPs and seconds of every arm at every rung"
    return Table("costs", title, ["rung", "arm", *COST_COLUMNS.values()], rows)


def _compared(numbers: Numbers) -> list[tuple[str, str]]:
    """Every arm but the baseline, with every modality."""
    arms = [arm for arm in numbers["arms"] if arm != numbers["baseline"]]
    return [(arm, modality) for arm in arms for modality in numbers["modalities"]]


def _slopes_of(
    numbers: Numbers, arm: str, modality: str, curve: str, axis: str
) -> dict[str, Numbers]:
    wanted = (arm, modality, curve, axis)
    return {
        row["rung"]: row
        for row in numbers["slopes"]
        if (row["arm"], row["modality"], row["curve"], row["axis"]) == wanted
    }


def _key(numbers: Numbers) -> str:
    leaks = any(of["loss_sees_other_tokens"] for of in numbers["arms"].values())
    return f" ({LEAK_NOTE})" if leaks else ""


def _read(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no {path}: {otherwise}")
    content: dict[str, Any] = read_json(path)
    return content


def _address(page: Path, out: Path) -> str:
    """Of a page, from a report in ``out``."""
    return Path(os.path.relpath(page, out)).as_posix()
