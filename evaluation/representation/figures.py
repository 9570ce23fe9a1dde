"""The figures of the hidden states: components of every layer, and separation over depth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from evaluation.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    arm_styles,
    drawing,
)
from evaluation.representation.record import ArmStates, Representation
from evaluation.representation.separation import MEASURES
from evaluation.wording import LEAK_MARK, LEAK_NOTE

MODALITY_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)  # by a modality's place
ROWS = 6  # layers of a grid: the embedding, the final norm, and blocks evenly between


def components_figure(found: Representation, rows: int = ROWS) -> Figure:
    """A row of panels per layer, a panel per arm: tokens along the layer's first two principal
    components, coloured by modality.

    Each panel has components and axes of its own: its place and scale are of no meaning beside
    another panel's. Of deep models ``rows`` layers are shown.
    """
    deepest = max(found.arms, key=lambda arm: len(arm.depths))
    shown = shown_depths(len(deepest.depths), rows)
    with drawing():
        size = 1.0 + 2.1 * len(found.arms), 1.3 + 2.0 * len(shown)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(shown), len(found.arms), squeeze=False)
        for line, place in zip(grid, shown, strict=True):
            name = deepest.depths[place].name
            for axes, arm in zip(line, found.arms, strict=True):
                _draw_points(axes, found, arm, name)
            line[0].set_ylabel(name)
        for axes, arm in zip(grid[0], found.arms, strict=True):
            above = {"xytext": (0, 18), "textcoords": "offset points", "ha": "center"}
            axes.annotate(
                arm_name(arm),
                (0.5, 1),
                xycoords="axes fraction",
                parse_math=False,
                fontweight="bold",
                **above,
            )
        figure.suptitle("Hidden states along their first two principal components", fontsize=12)
        _legend(figure, found)
    return figure


def separation_figure(found: Representation) -> Figure:
    """A panel per measure, a line per arm over depth, with a band for the interval."""
    with drawing():
        figure = Figure(figsize=(0.6 + 3.7 * len(MEASURES), 4.0), layout="constrained")
        for axes, (measure, title) in zip(
            figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True
        ):
            head, _, scale = title.partition(" (")
            axes.set_title(head, fontsize=10)
            axes.set_ylabel(scale.rstrip(")"))
            _draw_scores(axes, found.arms, measure)
            _depth_ticks(axes, found.arms)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(len(names), 6),
            title=_leak_note(found),
            title_fontsize=9,
        )
        figure.suptitle("How far apart the modalities lie, layer by layer", fontsize=12)
    return figure


def shown_depths(depths: int, rows: int) -> list[int]:
    """First, last, and evenly between.

    Example:
        >>> shown_depths(34, 6)
        [0, 7, 13, 20, 26, 33]
    """
    return sorted({round(place) for place in np.linspace(0, depths - 1, min(rows, depths))})


def arm_name(arm: ArmStates) -> str:
    """The label, marked where its experts chose with other tokens in view."""
    return f"{arm.label} {LEAK_MARK}" if arm.routing == "training" else arm.label


def _draw_points(axes: Axes, found: Representation, arm: ArmStates, name: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    depth = next((depth for depth in arm.depths if depth.name == name), None)
    if depth is None:  # a shallower arm
        axes.set_visible(False)
        return
    points_N2, modality_N = np.array(depth.points), np.array(found.modality)
    # Dots of all modalities are drawn in one random order, so that none hides another.
    order = np.random.default_rng(0).permutation(len(points_N2))
    colors = np.array([MODALITY_COLORS[i % len(MODALITY_COLORS)] for i in modality_N])
    x_N, y_N = points_N2[order].T
    look: dict[str, Any] = {"s": 3, "alpha": 0.55, "linewidths": 0, "rasterized": True}
    axes.scatter(x_N, y_N, c=colors[order], **look)
    axes.margins(0.06)
    first, second = depth.explained
    axes.set_title(f"{first:.0%} + {second:.0%} of the variance", fontsize=7.5, color="#555555")


def _draw_scores(axes: Axes, arms: Sequence[ArmStates], measure: str) -> None:
    """The scale begins at 0, or below where an interval does."""
    styles = arm_styles([arm.label for arm in arms])
    least, most = 0.0, 0.0
    for arm in arms:
        value, low, high = np.array(
            [(s.value, s.low, s.high) for s in (depth.scores[measure] for depth in arm.depths)]
        ).T
        x, style = np.arange(len(value)), styles[arm.label]
        look: dict[str, Any] = {
            "color": style.color,
            "linestyle": style.line,
            "marker": style.marker,
        }
        axes.plot(x, value, label=arm_name(arm), markersize=4, **look)
        axes.fill_between(x, low, high, color=style.color, alpha=0.18, linewidth=0)
        least, most = min(least, low.min()), max(most, high.max())
    axes.set_ylim(1.05 * least, least + 1.05 * (most - least))


def _depth_ticks(axes: Axes, arms: Sequence[ArmStates]) -> None:
    names = [depth.name for depth in max(arms, key=lambda arm: len(arm.depths)).depths]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(names) <= 10:
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    else:
        axes.set_xlabel("depth (0 the embedding, last the final norm)")


def _legend(figure: Figure, found: Representation) -> None:
    handles = [
        Line2D([], [], linestyle="", marker="o", color=MODALITY_COLORS[i], label=name)
        for i, name in enumerate(
            f"{name} ({count:,} tokens)" for name, count in found.counts().items()
        )
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        title=_leak_note(found),
        title_fontsize=9,
    )


def _leak_note(found: Representation) -> str | None:
    return LEAK_NOTE if any(arm.routing == "training" for arm in found.arms) else None
