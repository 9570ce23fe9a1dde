"""``mot-lab match``: step, FLOP and time matching of any two loss curves."""

import argparse
import json
from typing import Any

from mot_lab.commands import Commands, command

WHERE = "CSV or JSON-lines file, a run's folder, or an MLflow run id; again for each further seed"
UNITS = {"steps": "optimiser steps", "flops": "training FLOPs", "seconds": "seconds"}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "match", _run, "match any two loss curves on steps, FLOPs, seconds")
    for role in ("baseline", "arm"):
        parser.add_argument(
            f"--{role}", action="append", required=True, metavar="RUN_OR_FILE", help=WHERE
        )
    parser.add_argument("--metric", required=True, help="column, key or MLflow metric of the loss")
    parser.add_argument(
        "--warmup", type=float, default=0.0, help="baseline steps to leave out of the slope"
    )
    parser.add_argument(
        "--step-time-ratio",
        type=float,
        metavar="RATIO",
        help="match seconds at this ratio too: of a step of the arm to one of the baseline",
    )
    parser.add_argument("--tracking-uri", help="MLflow store of runs (default: MLflow's own)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _run(options: argparse.Namespace) -> None:
    from evaluation.matching.curve_runs import read_measured
    from evaluation.matching.files import (
        axis_summary,
        curve_summary,
        match_measured,
        stated_seconds,
        uneven_ends,
    )

    baselines, arms = (
        [read_measured(named, options.metric, options.tracking_uri) for named in several]
        for several in (options.baseline, options.arm)
    )
    matchings = match_measured(baselines, arms, options.warmup)
    content: dict[str, Any] = {
        **{str(axis): axis_summary(matching) for axis, matching in matchings.items()},
        "seconds_at_ratio": stated_seconds(matchings["steps"], options.step_time_ratio),
        "metric": options.metric,
        "warmup": options.warmup,
        "curves": [curve_summary("baseline", one) for one in baselines]
        + [curve_summary("arm", one) for one in arms],
        "notes": uneven_ends(baselines, arms),
    }
    print(json.dumps(content, indent=2) if options.json else _table(content))


def _table(content: dict[str, Any]) -> str:
    lines = [f"{content['metric']}, baseline points past step {content['warmup']:g}", ""]
    for curve in content["curves"]:
        lines += _curve_lines(curve)
    row = "{:16} {:>8}  {:18} {:20} {:>9}  {}"
    lines += ["", row.format("", "slope", "95% interval", "", "end ratio", "points covered")]
    units = dict(UNITS)
    if content["seconds_at_ratio"] is not None:
        units["seconds_at_ratio"] = (
            f"seconds at {content['seconds_at_ratio']['step_time_ratio']:g}x"
        )
    for axis, name in units.items():
        one = content[axis]
        if one is None:
            lacking = [c["source"] for c in content["curves"] if axis not in c["axes"]]
            lines.append(f"{name:16} not matched: no {axis} in {', '.join(lacking)}")
            continue
        over = {"seeds": f"over {one['seeds']} seeds", "points": "over the points", None: ""}
        lines.append(
            row.format(
                name,
                _figure(one["slope"]),
                _interval(one["slope_low"], one["slope_high"]),
                over[one["interval_over"]],
                _end(one),
                f"{one['points_reached']} of {one['points_total']}",
            )
        )
        if one["interval_over"] == "seeds" and one["points_low"] is not None:
            points = _interval(one["points_low"], one["points_high"])
            lines.append(row.format("", "", points, "over the points", "", "").rstrip())
    lines += ["", *(f"Note: {note}." for note in content["notes"]), *_legend(content)]
    return "\n".join(lines)


def _curve_lines(curve: dict[str, Any]) -> list[str]:
    first, last = curve["first_step"], curve["last_step"]
    said = [f"{curve['points']} points, steps {first:g} to {last:g}, last {curve['final_value']:g}"]
    if curve["left_out_not_finite"]:
        said.append(f"{curve['left_out_not_finite']} points that are not finite left out")
    if curve["lines_without_the_metric"]:
        said.append(f"{curve['lines_without_the_metric']} lines without this metric")
    return [f"{curve['role']:9} {curve['source']}: {'; '.join([*said, *curve['notes']])}"]


def _legend(content: dict[str, Any]) -> list[str]:
    said = ["A slope below 1: the arm needs less than the baseline for the same loss."]
    steps = content["steps"]
    if steps["seeds"] == 1:
        said.append(
            "One seed: there is no interval over seeds. The interval over the points is that of "
            "the noise of these two curves; how much seeds differ is not in it."
        )
    else:
        said.append(
            "Over seeds: mean and Student's t, paired in the order given. Over the points: the "
            "noise of these curves, the seeds held as they are."
        )
    if steps["points_low"] is None and steps["slope"] is not None:
        said.append("No interval over the points: a curve has too few that move the slope.")
    return said


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "no interval" if low is None else f"[{low:.3f}, {high:.3f}]"


def _end(one: dict[str, Any]) -> str:
    if one["end_ratio"] is not None:
        return _figure(one["end_ratio"])
    return "never" if one["seeds"] == 1 else f"{one['seeds_reached']} of {one['seeds']}"
