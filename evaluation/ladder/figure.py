"""The figures of a ladder: slopes and final losses over size, or over tokens per batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from evaluation.figures.intervals import Estimate, fitted_limits, main_interval
from evaluation.figures.losses import CURVE_TITLES
from evaluation.figures.style import ArmStyle, arm_styles, drawing
from evaluation.store.study_record import CURVES
from evaluation.wording import LEAK_NOTE, Numbers, marked, show

AXIS_TITLES = {
    "size": "non-embedding parameters of the baseline",
    "batch": "tokens per batch",
}
APART = 0.025  # arms stand this share of a rung's place beside each other

Row = Mapping[str, Any]


def ladder_slopes(numbers: Numbers) -> Figure:
    """Slope in steps per arm over the rungs: a row per loss curve, a column per modality.

    Args:
        numbers: the content of the ladder's ``report.json``.
    """
    arms = [arm for arm in numbers["arms"] if arm != numbers["baseline"]]
    rows = [row for row in numbers["slopes"] if row["axis"] == "steps"]
    with drawing():
        figure, grid = _panels(numbers, len(CURVES))
        for line, curve in zip(grid, CURVES, strict=True):
            for axes, modality in zip(line, numbers["modalities"], strict=True):
                points = {
                    arm: [
                        (row["x"], row["slope"], *main_interval(row)[:2])
                        for row in _of(rows, arm, modality, curve)
                    ]
                    for arm in arms
                }
                axes.axhline(1, linestyle="--", color="#777777", linewidth=1)
                _draw(axes, numbers, points, at_least=[1.0])
                axes.set_title(f"{modality}, {CURVE_TITLES[curve]} loss")
            line[0].set_ylabel(f"share of the steps\nof {numbers['baseline']}")
        _finish(figure, numbers, arms, f"Slopes over {AXIS_TITLES[numbers['along']]}")
    return figure


def ladder_losses(numbers: Numbers) -> Figure:
    """Final validation loss of every arm over the rungs, a panel per modality."""
    arms = list(numbers["arms"])
    with drawing():
        figure, grid = _panels(numbers, 1)
        for axes, modality in zip(grid[0], numbers["modalities"], strict=True):
            points = {
                arm: [
                    (row["x"], row["value"], row["low"], row["high"])
                    for row in _of(numbers["losses"], arm, modality, "val")
                ]
                for arm in arms
            }
            _draw(axes, numbers, points, at_least=[])
            axes.set_title(modality)
        grid[0][0].set_ylabel("final validation loss")
        title = f"Final validation loss over {AXIS_TITLES[numbers['along']]}"
        _finish(figure, numbers, arms, title)
    return figure


def _of(rows: Sequence[Row], arm: str, modality: str, curve: str) -> list[Row]:
    """The rows of one arm and loss, up the ladder."""
    wanted = (arm, modality, curve)
    found = [row for row in rows if (row["arm"], row["modality"], row["curve"]) == wanted]
    return sorted(found, key=lambda row: float(row["x"]))


def _panels(numbers: Numbers, lines: int) -> tuple[Figure, list[list[Axes]]]:
    columns = len(numbers["modalities"])
    size = 1.6 + 3.6 * columns, 1.5 + 2.7 * lines
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False)
    return figure, [list(line) for line in grid]


def _draw(
    axes: Axes,
    numbers: Numbers,
    points: Mapping[str, Sequence[tuple[Any, ...]]],
    at_least: list[float],
) -> None:
    """Each arm's points (x, value, low, high) joined by a line; an interval may leave the frame."""
    styles = arm_styles(list(numbers["arms"]))
    estimates = [
        Estimate(0.0, value, low, high, styles[arm])
        for arm, several in points.items()
        for _, value, low, high in several
    ]
    for place, (arm, several) in enumerate(points.items()):
        beside = 1 + APART * (place - (len(points) - 1) / 2)
        known = [
            (x * beside, value, low, high) for x, value, low, high in several if value is not None
        ]
        _draw_arm(axes, known, styles[arm])
    rungs = sorted(numbers["rungs"].items(), key=lambda rung: float(rung[1]["x"]))
    axes.set_xscale("log")
    ticks = [of["x"] for _, of in rungs]
    axes.set_xticks(ticks, [f"{name}\n{show(of['x'])}" for name, of in rungs])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(ticks) / 1.25, max(ticks) * 1.25)
    axes.set_ylim(*fitted_limits(estimates, at_least))


def _draw_arm(axes: Axes, points: Sequence[tuple[float, ...]], style: ArmStyle) -> None:
    look: dict[str, Any] = {"color": style.color, "linewidth": 1.6}
    x, values = [point[0] for point in points], [point[1] for point in points]
    axes.plot(x, values, style.line, marker=style.marker, markersize=6, **look)
    for place, _, low, high in points:
        if low is not None:
            axes.vlines(place, low, high, alpha=0.8, **look)


def _finish(figure: Figure, numbers: Numbers, arms: Sequence[str], title: str) -> None:
    styles = arm_styles(list(numbers["arms"]))
    figure.suptitle(f"{numbers['ladder']}: {title[0].lower()}{title[1:]}", fontsize=12)
    handles = []
    for arm in arms:
        style = styles[arm]
        look: dict[str, Any] = {"linestyle": style.line, "marker": style.marker}
        handles.append(Line2D([], [], color=style.color, label=marked(numbers, arm), **look))
    leaks = any(numbers["arms"][arm]["loss_sees_other_tokens"] for arm in arms)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 6),
        title=LEAK_NOTE if leaks else None,
        title_fontsize=9,
    )
