"""The tables of a report, from the content of ``report.json`` (pictures aside)."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from evaluation.report.blocks import Table
from evaluation.wording import (
    LEAK_MARK,
    LEAK_NOTE,
    Cell,
    Numbers,
    marked,
    show,
    under_training_routing,
)


def arms_table(numbers: Numbers) -> Table:
    """What every arm costs."""
    columns = ["arm", "what it is", "parameters", "active parameters"]
    columns += ["FLOPs per step (masked attention)", "FLOPs per step (full attention)"]
    columns += [f"of which {modality} (masked)" for modality in numbers["modalities"]]
    columns += ["FLOPs, × baseline", "seconds per step", "seconds, × baseline"]
    rows: list[list[Cell]] = []
    for arm, facts in numbers["arms"].items():
        row: list[Cell] = [
            arm,
            facts["description"],
            facts["parameters"],
            facts["active_parameters"],
        ]
        row += [float(facts["flops_per_step"]), float(facts["flops_per_step_full_attention"])]
        row += [float(facts["flops_per_modality"][name]) for name in numbers["modalities"]]
        row += [facts["flops_ratio"], facts["seconds_per_step"], facts["seconds_ratio"]]
        rows.append(row)
    return Table("arms", "Parameters, FLOPs and seconds of every arm", columns, rows)


def losses_table(numbers: Numbers) -> Table:
    """Final losses over seeds."""
    columns = ["arm", "modality", "curve", "final loss", "interval over seeds", "seeds"]
    rows = [
        [
            marked(numbers, row["arm"]),
            *(row[key] for key in ("modality", "curve", "value")),
            (row["low"], row["high"]),
            row["seeds"],
        ]
        for row in numbers["losses"]
    ]
    return Table("losses", "Final losses" + _mark_key(numbers), columns, rows)


def matching_table(numbers: Numbers) -> Table:
    """Every slope and end ratio."""
    columns = ["arm", "modality", "curve", "axis", "slope", "slope over seeds"]
    columns += [
        "slope over points",
        "end ratio",
        "end ratio over seeds",
        "seeds that reached the end",
    ]
    columns += ["points reached"]
    rows: list[list[Cell]] = []
    for row, axis in _with_stated(numbers):
        cells: list[Cell] = [marked(numbers, row["arm"])]
        cells += [row["modality"], row["curve"], axis]
        cells += [row["slope"] if row["slope"] is not None else "never reached"]
        cells += [(row["slope_low"], row["slope_high"]), (row["points_low"], row["points_high"])]
        cells += [row["end_ratio"] if row["reached"] else "never reached"]
        cells += [(row["end_ratio_low"], row["end_ratio_high"])]
        cells += [f"{row['seeds_reached']} of {row['seeds']}"]
        cells += [f"{show(row['points_reached'])} of {show(row['points_total'])}"]
        rows.append(cells)
    title = f"Matching with {numbers['baseline']}" + _mark_key(numbers)
    return Table("matching", title, columns, rows)


def _with_stated(numbers: Numbers) -> list[tuple[Mapping[str, Any], str]]:
    """The rows of matching with what their axis is called; after measured seconds those at a
    stated step-time ratio."""

    def of(row: Mapping[str, Any]) -> tuple[str, ...]:
        return row["arm"], row["modality"], row["curve"]

    rows: list[tuple[Mapping[str, Any], str]] = []
    for row in numbers["matching"]:
        rows.append((row, row["axis"]))
        if row["axis"] == "seconds":
            stated = (one for one in numbers["matching_at_ratio"] if of(one) == of(row))
            rows += [(one, f"seconds at {show(one['ratio'])}x") for one in stated]
    return rows


def metrics_table(numbers: Numbers) -> Table:
    """Every metric of every arm, grouped by metric, with both intervals."""
    columns = ["metric", "arm", "value", "interval over seeds", "seeds"]
    columns += ["interval over samples", "n"]
    columns += ["ceiling", "floor"]
    rows: list[list[Cell]] = []
    for label, row in _by_metric(numbers):
        cells: list[Cell] = [label, _marked_metric(row)]
        cells += [row["value"] if row["value"] is not None else "not available"]
        cells += [(row["seeds_low"], row["seeds_high"]), row["seeds"]]
        cells += [(row["samples_low"], row["samples_high"]), row["n"]]
        rows.append([*cells, row["ceiling"], row["floor"]])
    return Table("metrics", "Metrics, their ceilings and floors", columns, rows)


def differences_table(numbers: Numbers) -> Table:
    """How far every arm is from the baseline in every metric that both have."""
    base = numbers["baseline"]
    columns = ["metric", "arm", "difference", "interval", "interval over", "seeds in common"]
    rows: list[list[Cell]] = []
    for label, row in _by_metric(numbers):
        if (found := row["difference"]) is not None:
            cells: list[Cell] = [label, _marked_metric(row), found["value"]]
            rows.append([*cells, (found["low"], found["high"]), found["interval_over"]])
            rows[-1].append(found["seeds"])
    return Table("differences", f"Metrics: the arm less {base}, paired by seed", columns, rows)


def extractors_table(numbers: Numbers) -> Table:
    """What measured each metric, and what its reader must know."""
    arms: dict[tuple[str, str, str], list[str]] = {}
    for label, row in _by_metric(numbers):
        arms.setdefault((label, row["extractor"], row["note"]), []).append(row["arm"])
    rows = [
        [label, extractor, note, "all" if len(of) == len(numbers["arms"]) else ", ".join(of)]
        for (label, extractor, note), of in arms.items()
    ]
    columns = ["metric", "measured with", "note", "arms"]
    return Table("extractors", "What measured each metric", columns, rows)


def captions_table(numbers: Numbers, pictures: Mapping[str, bytes | None]) -> Table:
    """Captions made for held-out pictures; ``pictures`` are the real ones as PNG, by prompt."""
    arms = list(numbers["arms"])
    columns = ["picture", *(f"caption by {arm}" for arm in arms), "references"]
    rows: list[list[Cell]] = []
    for sample in numbers["samples"]:
        made = [_caption(sample["captions"][arm]) for arm in arms]
        rows.append([pictures.get(sample["prompt"]), *made, " / ".join(sample["references"])])
    title = "Captions generated for held-out pictures"
    return Table("captions", title, columns, rows, picture_column="picture")


def facts_table(name: str, title: str, facts: Mapping[str, Any]) -> Table:
    """A nested dictionary as two columns, ``a.b`` for what lies inside."""
    return Table(name, title, ["what", "value"], list(_flat(facts)))


def to_csv(table: Table) -> str:
    """The table with its numbers in full, intervals in two columns, and without its pictures."""
    table = table.without_pictures().spread()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def _mark_key(numbers: Numbers) -> str:
    if any(facts["loss_sees_other_tokens"] for facts in numbers["arms"].values()):
        return f" ({LEAK_NOTE})"
    return ""


def _by_metric(numbers: Numbers) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows of metrics, those of one metric together, each with what to call the metric: its
    name, and its extractor where others of that name were made with another.
    """
    keys = list(dict.fromkeys((row["name"], row["extractor"]) for row in numbers["metrics"]))
    names = [name for name, _ in keys]
    labels = {
        (name, extractor): f"{name} ({extractor})" if names.count(name) > 1 else name
        for name, extractor in keys
    }
    ranked = sorted(numbers["metrics"], key=lambda row: keys.index((row["name"], row["extractor"])))
    return [(labels[row["name"], row["extractor"]], row) for row in ranked]


def _marked_metric(row: Mapping[str, Any]) -> str:
    return f"{row['arm']} {LEAK_MARK}" if under_training_routing(row) else row["arm"]


def _caption(caption: str | None) -> str:
    return "not available" if caption is None else caption


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float | None):
            rows.append([f"{prefix}{key}", value])
        else:
            rows.append([f"{prefix}{key}", ", ".join(map(str, value))])
    return rows
