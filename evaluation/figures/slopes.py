"""The figure that answers which arm needs how much of the baseline's steps, per modality.

It is the picture of the paper's slope table over leave-one-out arms (arXiv 2411.04996, figure 15)
and of its component ablation (figure 14).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.intervals import Estimate, draw_estimates, main_interval
from evaluation.figures.losses import AXIS_NAMES, CURVE_TITLES
from evaluation.figures.style import arm_styles, drawing
from evaluation.matching.steps import Axis
from evaluation.store.study_record import CURVES
from evaluation.wording import LEAK_NOTE, Numbers, marked

Row = Mapping[str, Any]
ARM = 0.3  # inches of height that one arm takes


def slopes_figure(
    numbers: Numbers,
    modality: str | None = None,
    curves: Sequence[str] = CURVES,
    axis: Axis = "steps",
) -> Figure:
    """A row of panels per loss curve, a panel per modality, a line per arm with its slope.

    Args:
        numbers: the content of ``report.json``.
        modality: the one to draw; None draws all.
        curves: "val", "train", or both.
        axis: what is shared out: steps, FLOPs or seconds.

    Raises:
        ValueError: the study has no arm beside its baseline.
    """
    modalities = numbers["modalities"] if modality is None else [modality]
    arms = other_arms(numbers)
    if not arms:
        raise ValueError(f"study {numbers['study']!r} has no arm beside {numbers['baseline']!r}")
    with drawing():
        size = 1.8 + 3.4 * len(modalities), 0.8 + (0.9 + ARM * len(arms)) * len(curves)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(curves), len(modalities), sharey=True, squeeze=False)
        for line, curve in zip(grid, curves, strict=True):
            for axes, of in zip(line, modalities, strict=True):
                rows = slope_rows(numbers["matching"], of, curve, axis)
                _draw(axes, numbers, [rows[arm] for arm in arms])
                axes.set_title(f"{of}, {CURVE_TITLES[curve]} loss")
            line[0].set_yticks(range(len(arms)), [marked(numbers, arm) for arm in arms])
        for axes in grid[-1]:
            axes.set_xlabel(f"share of the {AXIS_NAMES[axis]} of {numbers['baseline']}")
        what = f"{AXIS_NAMES[axis].capitalize() if axis != 'flops' else 'FLOPs'} to the same loss"
        figure.suptitle(f"{what}, as a share of those of {numbers['baseline']}", fontsize=12)
        if any(numbers["arms"][arm]["loss_sees_other_tokens"] for arm in arms):
            figure.supxlabel(LEAK_NOTE, fontsize=9)
    return figure


def other_arms(numbers: Numbers) -> list[str]:
    """Every arm but the baseline."""
    return [arm for arm in numbers["arms"] if arm != numbers["baseline"]]


def slope_rows(rows: Sequence[Row], modality: str, curve: str, axis: Axis) -> dict[str, Row]:
    """The rows of matching for one loss and axis, by arm."""
    wanted = (modality, curve, axis)
    return {
        row["arm"]: row for row in rows if (row["modality"], row["curve"], row["axis"]) == wanted
    }


def _draw(axes: Axes, numbers: Numbers, rows: Sequence[Row]) -> None:
    styles = arm_styles(list(numbers["arms"]))
    axes.axvline(1, linestyle="--", color="#777777", linewidth=1)
    estimates = [
        Estimate(height, row["slope"], *main_interval(row)[:2], styles[row["arm"]])
        for height, row in enumerate(rows)
    ]
    draw_estimates(axes, estimates, at_least=[1.0])
    edge = axes.get_yaxis_transform()
    for height, row in enumerate(rows):
        said = "never" if row["slope"] is None else f"{row['slope']:.3f}"
        axes.text(1.04, height, said, transform=edge, va="center", fontsize=8.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
