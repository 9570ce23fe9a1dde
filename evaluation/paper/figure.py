"""The figure of the paper's slopes beside a study's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.intervals import Estimate, draw_estimates, main_interval
from evaluation.figures.losses import AXIS_NAMES, CURVE_TITLES
from evaluation.figures.style import ArmStyle, arm_styles, drawing
from evaluation.paper.numbers import figure_name, own_slope, series
from evaluation.wording import LEAK_NOTE, Numbers, marked

OURS = "this study"
LINE = 0.21  # inches of height of one slope
GREY = "#777777"

Row = Mapping[str, Any]
Place = tuple[str, str]  # arm, and whose slope it is


def paper_slopes_figure(numbers: Numbers) -> Figure:
    """A row of panels per curve and axis, a panel per modality, a line per arm and model size.

    Args:
        numbers: the content of ``report.json``, with its "paper".

    Raises:
        ValueError: no slope of the paper stands beside one of the study.
    """
    rows = numbers["paper"]["slopes"]
    if not rows:
        raise ValueError(
            f"study {numbers['study']!r} has no slopes of the paper beside its own; name figures "
            f"in its configuration, like paper: [figure_6]"
        )
    modalities = [
        name for name in numbers["modalities"] if any(r["modality"] == name for r in rows)
    ]
    groups = list(dict.fromkeys((row["curve"], row["axis"]) for row in rows))
    places = {group: _places(numbers, _of(rows, *group)) for group in groups}
    with drawing():
        heights = [LINE * len(places[group]) + 0.75 for group in groups]
        size = 3.2 + 3.4 * len(modalities), 1.1 + sum(heights)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(
            len(groups), len(modalities), sharey="row", squeeze=False, height_ratios=heights
        )
        for line, (curve, axis) in zip(grid, groups, strict=True):
            for axes, modality in zip(line, modalities, strict=True):
                here = [row for row in _of(rows, curve, axis) if row["modality"] == modality]
                axes.set_title(f"{modality}, {CURVE_TITLES[curve]} loss")
                if here:
                    _draw(axes, numbers, here, places[curve, axis])
                    axes.set_xlabel(f"share of the {AXIS_NAMES[axis]} of {numbers['baseline']}")
                else:
                    _say_nothing_printed(axes)
            _label(line[0], numbers, places[curve, axis])
        figure.suptitle("Slopes of this study beside the paper's", fontsize=12)
        _legend(figure, numbers)
    return figure


def _of(rows: Sequence[Row], curve: str, axis: str) -> list[Row]:
    return [row for row in rows if (row["curve"], row["axis"]) == (curve, axis)]


def _whose(row: Row) -> str:
    return f"{series(row)} ({figure_name(row['figure'])})"


def _places(numbers: Numbers, rows: Sequence[Row]) -> list[Place]:
    """The lines from the top down: of each arm the study's own, then the paper's."""
    places: list[Place] = []
    for arm in numbers["arms"]:
        whose = dict.fromkeys(_whose(row) for row in rows if row["arm"] == arm)
        places += [(arm, OURS), *((arm, each) for each in whose)] if whose else []
    return places


def _draw(axes: Axes, numbers: Numbers, rows: Sequence[Row], places: Sequence[Place]) -> None:
    styles = arm_styles(list(numbers["arms"]))
    axes.axvline(1, linestyle="--", color=GREY, linewidth=1)
    estimates = [
        *_own_estimates(numbers, rows, places, styles),
        *(
            Estimate(
                places.index((row["arm"], _whose(row))),
                row["slope"],
                None,
                None,
                styles[row["arm"]],
                "none",
            )
            for row in rows
        ),
    ]
    draw_estimates(axes, estimates, at_least=[1.0])
    for place, (_, whose) in enumerate(places):
        if whose == OURS and place:
            axes.axhline(place - 0.5, color="#dddddd", linewidth=0.8)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _say_nothing_printed(axes: Axes) -> None:
    where: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, "no slope of the paper", color=GREY, fontsize=9, **where)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)


def _own_estimates(
    numbers: Numbers, rows: Sequence[Row], places: Sequence[Place], styles: Mapping[str, ArmStyle]
) -> list[Estimate]:
    """The study's slope of every arm that the panel shows, once each."""
    estimates = []
    for row in {row["arm"]: row for row in rows}.values():
        ours = own_slope(numbers, row)
        low, high, _ = main_interval(ours)
        height = places.index((row["arm"], OURS))
        estimates.append(Estimate(height, ours["slope"], low, high, styles[row["arm"]]))
    return estimates


def _label(axes: Axes, numbers: Numbers, places: Sequence[Place]) -> None:
    names = [
        f"{marked(numbers, arm)}, {whose}" if whose == OURS else whose for arm, whose in places
    ]
    axes.set_yticks(range(len(places)), names)
    for tick, (_, whose) in zip(axes.get_yticklabels(), places, strict=True):
        tick.set_fontweight("bold" if whose == OURS else "normal")


def _legend(figure: Figure, numbers: Numbers) -> None:
    look: dict[str, Any] = {"color": "#444444", "marker": "o", "linestyle": ""}
    handles = [
        Line2D([], [], label=f"{OURS}: {numbers['study']}", **look),
        Line2D([], [], label="the paper", fillstyle="none", **look),
        Line2D([], [], color="#444444", marker="x", linestyle="", label="never reached"),
    ]
    leaks = any(
        numbers["arms"][row["arm"]]["loss_sees_other_tokens"] for row in numbers["paper"]["slopes"]
    )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        title=LEAK_NOTE if leaks else None,
        title_fontsize=9,
    )
