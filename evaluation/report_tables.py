"""The tables of a report, from the content of ``report.json`` (pictures aside)."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from evaluation.plot_style import LEAK_MARK
from evaluation.report_blocks import Cell, Table

Numbers = Mapping[str, Any]


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
    columns = ["arm", "modality", "curve", "final loss", "low", "high", "seeds"]
    rows = [
        [_arm(numbers, row["arm"]), *(row[key] for key in ("modality", "curve", "value"))]
        + [row[key] for key in ("low", "high", "seeds")]
        for row in numbers["losses"]
    ]
    return Table("losses", "Final losses" + _mark_key(numbers), columns, rows)


def matching_table(numbers: Numbers) -> Table:
    """Every slope and end ratio."""
    columns = ["arm", "modality", "curve", "axis", "slope", "slope low", "slope high"]
    columns += ["end ratio", "end ratio low", "end ratio high", "seeds that reached the end"]
    columns += ["points reached"]
    rows: list[list[Cell]] = []
    for row in numbers["matching"]:
        cells: list[Cell] = [_arm(numbers, row["arm"]), row["modality"], row["curve"], row["axis"]]
        cells += [row["slope"] if row["slope"] is not None else "never reached"]
        cells += [row["slope_low"], row["slope_high"]]
        cells += [row["end_ratio"] if row["reached"] else "never reached"]
        cells += [row["end_ratio_low"], row["end_ratio_high"]]
        cells += [f"{row['seeds_reached']} of {row['seeds']}"]
        cells += [f"{row['points_reached']} of {row['points_total']}"]
        rows.append(cells)
    title = f"Matching with {numbers['baseline']}" + _mark_key(numbers)
    return Table("matching", title, columns, rows)


def metrics_table(numbers: Numbers) -> Table:
    """Every metric of every arm, grouped by metric."""
    columns = ["metric", "arm", "value", "low", "high", "interval over", "n", "ceiling", "floor"]
    columns += ["extractor", "note"]
    order = list(dict.fromkeys((row["name"], row["extractor"]) for row in numbers["metrics"]))
    ranked = sorted(
        numbers["metrics"], key=lambda row: order.index((row["name"], row["extractor"]))
    )
    rows = [
        [row["name"], row["arm"], row["value"] if row["value"] is not None else "not available"]
        + [row[key] for key in ("low", "high", "interval_over", "n", "ceiling", "floor")]
        + [row["extractor"], row["note"]]
        for row in ranked
    ]
    return Table("metrics", "Metrics, their ceilings and floors", columns, rows)


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
    """The table with its numbers in full and without its pictures."""
    table = table.without_pictures()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def _arm(numbers: Numbers, arm: str) -> str:
    return f"{arm} {LEAK_MARK}" if numbers["arms"][arm]["loss_sees_other_tokens"] else arm


def _mark_key(numbers: Numbers) -> str:
    if any(facts["loss_sees_other_tokens"] for facts in numbers["arms"].values()):
        return f" ({LEAK_MARK} training routing: sees other tokens, see the notes)"
    return ""


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
