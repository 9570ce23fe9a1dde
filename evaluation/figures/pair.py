"""The figures of several studies side by side, from the ``report.json`` of ``pair_numbers``."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import FillStyleType

from evaluation.figures.intervals import Estimate, draw_estimates, main_interval
from evaluation.figures.losses import AXIS_NAMES
from evaluation.figures.style import arm_styles, drawing
from evaluation.matching.steps import AXES
from evaluation.wording import LEAK_MARK, LEAK_NOTE, Numbers

FILLS: dict[str, FillStyleType] = {"A": "full", "B": "none", "C": "left", "D": "top", "E": "right"}
COLUMNS = 3
LINE = 0.19  # inches of height that one study takes of an arm's row

Row = Mapping[str, Any]


def pair_slopes(numbers: Numbers) -> Figure:
    """Slope of the validation loss per arm in every study: a row per axis, a column per modality.

    Args:
        numbers: the content of ``report.json`` of the studies side by side.
    """
    rows = [row for row in numbers["slopes"] if row["curve"] == "val"]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    modalities = numbers["modalities"]
    with drawing():
        height = 0.9 + LINE * len(arms) * (len(numbers["studies"]) + 0.6)
        size = 1.4 + 3.6 * len(modalities), 1.3 + height * len(AXES)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(AXES), len(modalities), sharey=True, squeeze=False)
        for line, axis in zip(grid, AXES, strict=True):
            for axes, modality in zip(line, modalities, strict=True):
                here = [row for row in rows if (row["axis"], row["modality"]) == (axis, modality)]
                axes.axvline(1, linestyle="--", color="#777777", linewidth=1)
                _draw(axes, numbers, here, arms, at_least=[1.0])
                doubt = axis == "seconds" and not numbers["comparable"]["seconds"]
                suffix = " (not comparable)" if doubt else ""
                axes.set_title(f"{modality}, {AXIS_NAMES[axis]}{suffix}")
                axes.set_xlabel(f"share of the baseline's {AXIS_NAMES[axis]}")
            line[0].set_yticks(range(len(arms)), [marked(numbers, arm) for arm in arms])
        leaks = any(of["loss_sees_other_tokens"] for of in numbers["studies"].values())
        note = LEAK_NOTE if leaks else None
        _finish(figure, numbers, "Slopes of the validation loss", "slope", note)
    return figure


def pair_metrics(numbers: Numbers) -> Figure:
    """Every metric that at least two studies have, per arm: a panel each.

    Raises:
        ValueError: no metric is in two studies.
    """
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in shared_rows(numbers["metrics"]):
        panels.setdefault((row["name"], row["extractor"]), []).append(row)
    if not panels:
        raise ValueError("the studies have no metric in common")
    arms = [*numbers["arms"], *numbers["arms_of_some"]]
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    with drawing():
        height = 1.1 + LINE * len(arms) * (len(numbers["studies"]) + 0.6)
        figure = Figure(figsize=(1.2 + 3.5 * columns, 1.3 + height * lines), layout="constrained")
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, ((name, extractor), rows) in zip(grid.flat, panels.items(), strict=False):
            _draw(axes, numbers, rows, arms, at_least=[])
            by = "\n".join(textwrap.wrap(extractor, 46))
            axes.set_title("\n".join(textwrap.wrap(name, 36)), parse_math=False)
            axes.set_xlabel(by, fontsize=7.5, color="#555555", parse_math=False)
        _finish(figure, numbers, "Metrics", "metric", None)
    return figure


def shared_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of metrics that at least two studies have, for whichever arm."""
    having: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        found = {key for key, one in row["of"].items() if one is not None}
        having.setdefault((row["name"], row["extractor"]), set()).update(found)
    return [row for row in rows if len(having[row["name"], row["extractor"]]) > 1]


def marked(numbers: Numbers, arm: str) -> str:
    """The arm's name, marked where its loss sees other tokens in any of the studies."""
    leaks = any(arm in of["loss_sees_other_tokens"] for of in numbers["studies"].values())
    return f"{arm} {LEAK_MARK}" if leaks else arm


def _draw(
    axes: Axes, numbers: Numbers, rows: Sequence[Row], arms: Sequence[str], at_least: list[float]
) -> None:
    styles = arm_styles([*numbers["arms"], *numbers["arms_of_some"]])
    keys = list(numbers["studies"])
    apart = 0.8 / len(keys)
    estimates = []
    for row in rows:
        for place, key in enumerate(keys):
            if (one := row["of"][key]) is None:
                continue
            height = arms.index(row["arm"]) - 0.4 + apart * (place + 0.5)
            value = one["slope"] if "slope" in one else one["value"]
            low, high = main_interval(one)[:2] if "slope" in one else (one["low"], one["high"])
            style = styles[row["arm"]]
            estimates.append(Estimate(height, value, low, high, style, FILLS[key]))
    draw_estimates(axes, estimates, at_least)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _finish(figure: Figure, numbers: Numbers, title: str, kind: str, note: str | None) -> None:
    if not numbers["comparable"][kind]:
        title += "\n(not comparable: the studies differ in what this depends on)"
    figure.suptitle(title, fontsize=12)
    handles = [
        Line2D(
            [],
            [],
            color="#444444",
            marker="o",
            linestyle="",
            fillstyle=FILLS[key],
            markerfacecoloralt="white",
            label=f"{key}: {of['study']}",
        )
        for key, of in numbers["studies"].items()
    ]
    handles.append(Line2D([], [], color="#444444", marker="x", linestyle="", label="not available"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        title=note,
        title_fontsize=9,
    )
