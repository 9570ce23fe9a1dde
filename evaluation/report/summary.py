"""The first page of a report: warnings, whether the arms are equal, every arm in a sentence."""

from typing import Any

from evaluation.report.blocks import Alert, Block, Points, Text
from evaluation.report.fairness import equality
from evaluation.wording import Numbers, show


def summary_blocks(numbers: Numbers) -> list[Block]:
    """The section."""
    arms = ", ".join(
        f"{arm} (upcycled)" if facts["upcycled"] else arm for arm, facts in numbers["arms"].items()
    )
    seeds = numbers["seeds"]
    opening = (
        f"Study {numbers['study']}, setting {numbers['setting']}: {arms}, each trained for "
        f"{show(numbers['steps'])} steps on the same batches with "
        f"{'seeds' if len(seeds) > 1 else 'one seed,'} {', '.join(map(str, seeds))}. "
        f"The baseline is {numbers['baseline']}."
    )
    lines = [
        _headline(numbers, arm, modality)
        for arm in numbers["arms"]
        if arm != numbers["baseline"]
        for modality in numbers["modalities"]
    ]
    return [
        *(Alert(body) for body in numbers["alerts"]),
        Text(opening),
        Text(equality(numbers)),
        Points([*lines, *_leaks(numbers)]),
        Text("Notes:"),
        Points(numbers["notes"]),
    ]


def _headline(numbers: Numbers, arm: str, modality: str) -> str:
    """One arm and modality in a sentence: the slopes of its validation loss on the three axes."""
    rows = {
        row["axis"]: row
        for row in numbers["matching"]
        if (row["arm"], row["modality"], row["curve"]) == (arm, modality, "val")
    }
    steps, base = rows["steps"], numbers["baseline"]
    mark = ""
    if numbers["arms"][arm]["loss_sees_other_tokens"]:
        mark = " (its loss is under training routing, which sees other tokens: see the note)"
    if steps["slope"] is None:
        return f"{arm}, {modality}{mark}: never reaches a validation loss of the baseline."
    if steps["reached"]:
        end = f"it reaches the final loss of {base} at {show(steps['end_ratio'])} of {base}'s steps"
    elif steps["seeds_reached"]:
        reached = f"{steps['seeds_reached']} of {steps['seeds']}"
        end = f"it reaches the final loss of {base} with {reached} seeds only"
    else:
        end = f"it never reaches the final loss of {base}"
    return (
        f"{arm}, {modality}{mark}: for the same validation loss it needs {show(steps['slope'])} "
        f"of the steps of {base}{_interval(numbers, steps)}, {show(rows['flops']['slope'])} of "
        f"the FLOPs and {show(rows['seconds']['slope'])} of the seconds (fitted slopes); {end}."
    )


def _leaks(numbers: Numbers) -> list[str]:
    """What every arm with experts loses on the first held-out split when it routes causally."""
    found = numbers["expert_choice"] or {"losses": []}
    return [
        f"{row['arm']}, {row['modality']}: its {row['measure']} on the split {row['split']!r} is "
        f"{show(row['training'])} under training routing and {show(row['causal'])} under causal "
        f"routing; the leak is {show(row['leak'])}."
        for row in found["losses"]
        if row["split"] == found["losses"][0]["split"] and row["leak"] is not None
    ]


def _interval(numbers: Numbers, row: dict[str, Any]) -> str:
    """The interval over seeds, or, without one, over the points of the curves, in brackets."""
    percent = numbers["method"]["confidence_percent"]
    if row["slope_low"] is not None:
        ends = show((row["slope_low"], row["slope_high"]))
        return f" ({percent}% interval over {row['seeds']} seeds {ends})"
    if row["points_low"] is not None:
        ends = show((row["points_low"], row["points_high"]))
        return f" ({percent}% interval over the points of the curves {ends})"
    return ""
