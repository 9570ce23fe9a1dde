"""The report of several studies side by side: arms aligned by name, settings by what differs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from evaluation.figures.intervals import main_interval
from evaluation.figures.losses import CURVE_TITLES
from evaluation.figures.pair import marked, pair_metrics, pair_slopes, shared_rows
from evaluation.numbers.pair import COSTS, pair_numbers
from evaluation.numbers.study import report_numbers
from evaluation.report.blocks import Alert, Block, Picture, Points, Section, Table, Text
from evaluation.report.build import write_files
from evaluation.store.study_record import StudyRecord
from evaluation.wording import LEAK_NOTE, Cell, Numbers, show

SLOPES = Picture(
    "pair_slopes",
    "Slopes of the same arm in every study",
    "Left of the dashed line an arm needs less than its baseline; compare the filled marker with "
    "the hollow one of the same arm.",
    "Slopes of the validation loss with their intervals, over seeds where a study has several, "
    "else over the points of its curves; an arrowhead marks an interval that goes on.",
)
METRICS = Picture(
    "pair_metrics",
    "Metrics of the same arm in every study",
    "Compare the filled marker with the hollow one of the same arm.",
    "Means over seeds with the intervals of the table, by the extractor under each panel.",
)
SLOPE_COLUMNS = (
    *("slope", "interval", "interval over"),
    *("end ratio", "end ratio over seeds", "seeds at the end"),
)
COST_COLUMNS = dict(
    zip(COSTS, ("parameters", "active", "FLOPs per step", "s per step"), strict=True)
)


def build_pair_report(studies: Sequence[StudyRecord], out: Path) -> Path:
    """Builds the report of two to five studies side by side.

    Args:
        studies: in the order in which they are called A, B, ..
        out: folder to write into; files of an earlier report are replaced.

    Returns:
        The path of ``report.html``; the rest lies beside it.

    Raises:
        ValueError: too few or too many studies, or they have no arm in common.
    """
    numbers = pair_numbers([report_numbers(study) for study in studies])
    title = " and ".join(f"{key}: {of['study']}" for key, of in numbers["studies"].items())
    makers = {
        "pair_slopes": partial(pair_slopes, numbers),
        "pair_metrics": partial(pair_metrics, numbers),
    }
    write_files(f"{title}, side by side", numbers, pair_sections(numbers), makers, out)
    return out / "report.html"


def pair_sections(numbers: Numbers) -> list[Section]:
    """The whole report, from the content of its ``report.json``."""
    slopes: list[Block] = [SLOPES, *(_slopes_table(numbers, curve) for curve in ("val", "train"))]
    return [
        Section("summary", "Summary", _summary(numbers)),
        Section("slopes", "Slopes and end ratios", slopes),
        Section("losses", "Final losses", [_losses_table(numbers)]),
        Section("metrics", "Metrics", _metrics(numbers)),
        Section("costs", "Parameters, FLOPs and seconds", [_costs_table(numbers)]),
        Section("differences", "What differs", [_differences_table(numbers)]),
        Section("notes", "Notes of each study", _notes(numbers)),
    ]


def _summary(numbers: Numbers) -> list[Block]:
    alerts = [
        Alert(f"{key}: {alert}") for key, of in numbers["studies"].items() for alert in of["alerts"]
    ]
    said = numbers["not_comparable"]
    whole = "Nothing that the studies have recorded stands in the way of comparing them."
    compared = [Text("What cannot be compared:"), Points(said)] if said else [Text(whole)]
    shared = Text(f"Arms of all studies: {', '.join(numbers['arms'])}.")
    return [
        *alerts,
        Points([_opening(key, of) for key, of in numbers["studies"].items()]),
        *compared,
        shared,
        Points(_headlines(numbers)),
    ]


def _opening(key: str, of: Numbers) -> str:
    seeds = f"seed{'s' if len(of['seeds']) > 1 else ''} {', '.join(map(str, of['seeds']))}"
    return (
        f"{key} is the study {of['study']}: setting {of['setting']}, arms {', '.join(of['arms'])}, "
        f"baseline {of['baseline']}, {of['steps']:,} steps, {seeds}."
    )


def _headlines(numbers: Numbers) -> list[str]:
    """A sentence per arm and modality that all studies have: its slopes in steps, side by side."""
    doubt = "" if numbers["comparable"]["slope"] else " (not comparable)"
    lines = []
    for row in numbers["slopes"]:
        if (row["curve"], row["axis"]) == ("val", "steps") and None not in row["of"].values():
            each = ", ".join(f"{key} {_slope_words(one)}" for key, one in row["of"].items())
            name = marked(numbers, row["arm"])
            lines.append(
                f"{name}, {row['modality']}: share of the baseline's steps to the same validation "
                f"loss: {each}{doubt}."
            )
    return lines


def _slope_words(one: Numbers) -> str:
    if one["slope"] is None:
        return "never reached"
    low, high, over = main_interval(one)
    return show(one["slope"]) + (f" {show((low, high))} over {over}" if over else "")  # type: ignore[arg-type]


def _slopes_table(numbers: Numbers, curve: str) -> Table:
    columns = ["arm", "modality", "axis", "comparable", *_of_each(numbers, SLOPE_COLUMNS)]
    rows: list[list[Cell]] = []
    for row in (row for row in numbers["slopes"] if row["curve"] == curve):
        kinds = ["slope", "seconds"] if row["axis"] == "seconds" else ["slope"]
        cells: list[Cell] = [marked(numbers, row["arm"])]
        cells += [row["modality"], row["axis"], _comparable(numbers, row, *kinds)]
        for one in row["of"].values():
            cells += _slope_cells(one) if one else [None] * len(SLOPE_COLUMNS)
        rows.append(cells)
    title = f"Matching of the {CURVE_TITLES[curve]} loss with each study's baseline{_key(numbers)}"
    return Table(f"slopes_{curve}", title, columns, rows, folded=curve == "train")


def _slope_cells(one: Numbers) -> list[Cell]:
    low, high, over = main_interval(one)
    return [
        "never reached" if one["slope"] is None else one["slope"],
        (low, high),  # type: ignore[list-item]  # both or neither
        over,
        one["end_ratio"] if one["reached"] else "never reached",
        (one["end_ratio_low"], one["end_ratio_high"]),
        f"{one['seeds_reached']} of {one['seeds']}",
    ]


def _losses_table(numbers: Numbers) -> Table:
    parts = ("final loss", "over seeds", "seeds")
    columns = ["arm", "modality", "curve", "comparable", *_of_each(numbers, parts)]
    rows: list[list[Cell]] = []
    for row in sorted(numbers["losses"], key=partial(_place, numbers)):
        cells: list[Cell] = [marked(numbers, row["arm"]), row["modality"], row["curve"]]
        cells += [_comparable(numbers, row, "loss")]
        for one in row["of"].values():
            cells += [one["value"], (one["low"], one["high"]), one["seeds"]] if one else [None] * 3
        rows.append(cells)
    return Table("losses", "Final losses" + _key(numbers), columns, rows)


def _place(numbers: Numbers, row: Numbers) -> tuple[bool, int, int]:
    """Validation first, then modality by modality, arm by arm."""
    arms = [*numbers["arms"], *numbers["arms_of_some"]]
    modality = numbers["modalities"].index(row["modality"])
    return row["curve"] != "val", modality, arms.index(row["arm"])


def _metrics(numbers: Numbers) -> list[Block]:
    shared = shared_rows(numbers["metrics"])
    order = list(dict.fromkeys((row["name"], row["extractor"]) for row in shared))
    rows = sorted(shared, key=lambda row: order.index((row["name"], row["extractor"])))
    if not rows:
        return [Text("The studies have no metric of the same name and extractor.")]
    parts = ("value", "interval", "interval over", "n", "ceiling", "floor")
    columns = ["metric", "arm", "extractor", "comparable", *_of_each(numbers, parts)]
    cells: list[list[Cell]] = []
    for row in rows:
        line: list[Cell] = [row["name"], row["arm"], row["extractor"]]
        line += [_comparable(numbers, row, "metric")]
        for one in row["of"].values():
            line += _metric_cells(one) if one else [None] * len(parts)
        cells.append(line)
    table = Table("metrics", "Metrics of the same name and extractor", columns, cells)
    return [METRICS, table]


def _metric_cells(one: Numbers) -> list[Cell]:
    value = "not available" if one["value"] is None else one["value"]
    interval = one["low"], one["high"]
    return [value, interval, *(one[key] for key in ("interval_over", "n", "ceiling", "floor"))]


def _costs_table(numbers: Numbers) -> Table:
    columns = ["arm", *_of_each(numbers, tuple(COST_COLUMNS.values()))]
    rows: list[list[Cell]] = []
    for row in numbers["costs"]:
        cells: list[Cell] = [row["arm"]]
        for one in row["of"].values():
            cells += [one[cost] if one else None for cost in COSTS]
        rows.append(cells)
    return Table("costs", "Parameters, FLOPs and seconds of every arm", columns, rows)


def _differences_table(numbers: Numbers) -> Table:
    columns = ["what", *numbers["studies"]]
    rows: list[list[Cell]] = [[row["what"], *row["of"].values()] for row in numbers["differences"]]
    title = "Settings, versions and hardware that are not the same (– is not set)"
    return Table("differences", title, columns, rows)


def _notes(numbers: Numbers) -> list[Block]:
    return [
        Points([f"{key}: {note}" for key, of in numbers["studies"].items() for note in of["notes"]])
    ]


def _of_each(numbers: Numbers, parts: Sequence[str]) -> list[str]:
    return [f"{key} {part}" for key in numbers["studies"] for part in parts]


def _comparable(numbers: Numbers, row: Numbers, *kinds: str) -> bool | None:
    """None where fewer than two studies have the row."""
    if sum(one is not None for one in row["of"].values()) < 2:
        return None
    return all(numbers["comparable"][kind] for kind in kinds)


def _key(numbers: Numbers) -> str:
    leaks = any(of["loss_sees_other_tokens"] for of in numbers["studies"].values())
    return f" ({LEAK_NOTE})" if leaks else ""
