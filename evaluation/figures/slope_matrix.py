"""Slopes as a matrix, modality by arm, with the paper's matrix beside it where it has one.

It is the layout of the leave-one-modality-out table (arXiv 2411.04996, figure 15): which modality
gains from weights of its own, and which from other modalities having theirs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from evaluation.figures.intervals import main_interval
from evaluation.figures.losses import CURVE_TITLES
from evaluation.figures.slopes import slope_rows
from evaluation.figures.style import drawing
from evaluation.paper.slopes import PaperSlope
from evaluation.wording import LEAK_NOTE, Numbers, marked

LEAST, MOST = 0.125, 8.0  # ends of the colours: an eighth and eight times the baseline's steps
TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8)
COLORS = "RdBu_r"  # blue needs fewer steps, white as many, red more
DARK = 2.5  # letters are white where a slope is this factor away from 1 or more
CELL, LINE = 1.15, 0.55  # inches of width and height of one cell

Cells = Mapping[tuple[str, str], tuple[float | None, str]]  # (arm, modality): slope, what is said


def slope_matrix(numbers: Numbers, curve: str = "val", paper: Sequence[PaperSlope] = ()) -> Figure:
    """A line per arm, a column per modality, a slope in steps with its interval in each cell.

    Args:
        numbers: the content of ``report.json``.
        curve: "val" or "train".
        paper: slopes of one figure and one model size, drawn in a matrix of their own for the arms
            that the study has as well.

    Raises:
        ValueError: the paper's slopes are of several figures or sizes.
    """
    arms, modalities = list(numbers["arms"]), list(numbers["modalities"])
    series = {(each.figure, each.size, each.curve) for each in paper}
    if len(series) > 1:
        raise ValueError(f"slopes of {sorted(series)} do not fit into one matrix: give one of them")
    panels = [(f"this study, {CURVE_TITLES[curve]} loss", _own(numbers, curve))]
    for figure, size, of in series:
        title = f"the paper's {figure.replace('_', ' ')}: {size}, {CURVE_TITLES[of]} loss"
        panels.append((title, _papers(paper, numbers["baseline"], modalities)))
    with drawing():
        size_of = 2.4 + (0.4 + CELL * len(modalities)) * len(panels), 1.5 + LINE * len(arms)
        drawn = Figure(figsize=size_of, layout="constrained")
        grid = drawn.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, cells) in zip(grid, panels, strict=True):
            image = _draw(axes, cells, arms, modalities)
            axes.set_title(title, fontsize=10)
        grid[0].set_yticks(range(len(arms)), [marked(numbers, arm) for arm in arms])
        bar = drawn.colorbar(image, ax=list(grid), ticks=TICKS, format="{x:g}", pad=0.02)
        bar.minorticks_off()
        drawn.suptitle(f"Share of the steps of {numbers['baseline']} to the same loss", fontsize=12)
        if any(numbers["arms"][arm]["loss_sees_other_tokens"] for arm in arms):
            drawn.supxlabel(LEAK_NOTE, fontsize=9)
    return drawn


def _own(numbers: Numbers, curve: str) -> Cells:
    cells: dict[tuple[str, str], tuple[float | None, str]] = {}
    for modality in numbers["modalities"]:
        cells[numbers["baseline"], modality] = 1.0, "1"
        for arm, row in slope_rows(numbers["matching"], modality, curve, "steps").items():
            low, high, _ = main_interval(row)
            said = "never reached" if row["slope"] is None else f"{row['slope']:.3g}"
            interval = "" if low is None else f"\n[{low:.2g}, {high:.2g}]"
            cells[arm, modality] = row["slope"], said + interval
    return cells


def _papers(paper: Sequence[PaperSlope], baseline: str, modalities: Sequence[str]) -> Cells:
    own = {(each.arm, each.modality): (each.slope, f"{each.slope:.3g}") for each in paper}
    return {**{(baseline, modality): (1.0, "1") for modality in modalities}, **own}


def _draw(axes: Axes, cells: Cells, arms: Sequence[str], modalities: Sequence[str]) -> AxesImage:
    slopes = np.full((len(arms), len(modalities)), np.nan)
    for line, arm in enumerate(arms):
        for column, modality in enumerate(modalities):
            slope, said = cells.get((arm, modality), (None, "–"))
            dark = slope is not None and max(slope, 1 / slope) >= DARK
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
            axes.text(column, line, said, color="white" if dark else "#222222", **look)
            slopes[line, column] = np.nan if slope is None else slope
    image = axes.imshow(slopes, cmap=COLORS, norm=LogNorm(LEAST, MOST), aspect="auto")
    axes.set_xticks(range(len(modalities)), modalities)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return image
