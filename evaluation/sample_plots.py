"""The figures of evaluation: metrics between floor and ceiling, generated beside real pictures."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform
from PIL import Image

from evaluation.plot_style import ArmStyle, arm_styles, drawing
from evaluation.report_numbers import first_seed_samples
from evaluation.study_record import StudyRecord

COLUMNS = 3
PROMPTS = 8


def metrics_figure(numbers: Mapping[str, Any]) -> Figure:
    """Every metric of every arm, with its ceiling and floor, from the content of report.json.

    Raises:
        ValueError: the study has no metrics.
    """
    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in numbers["metrics"]:
        panels.setdefault((row["name"], row["extractor"]), []).append(row)
    if not panels:
        raise ValueError(f"study {numbers['study']!r} has no metrics to draw")
    arms = list(numbers["arms"])
    styles = arm_styles(arms)
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    with drawing():
        figure = Figure(figsize=(0.5 + 3.6 * columns, 0.7 + 3.3 * lines), layout="constrained")
        for place, ((name, extractor), rows) in enumerate(panels.items()):
            axes = figure.add_subplot(lines, columns, place + 1)
            _draw_metric(axes, rows, arms, styles)
            title = "\n".join(textwrap.wrap(f"{extractor}, n = {rows[0]['n']:,}", 44))
            axes.set_title(f"{name}\n", parse_math=False)
            axes.text(
                0.5,
                1.02,
                title,
                transform=axes.transAxes,
                ha="center",
                va="bottom",
                fontsize=7.5,
                color="#555555",
                parse_math=False,
            )
        figure.suptitle("Metrics per arm: ceiling dashed, floor dotted")
    return figure


def generated_pictures(study: StudyRecord, count: int = PROMPTS) -> Figure:
    """One row per prompt: its text, the real picture, the picture each arm made (first seed)."""
    samples = dict(list(first_seed_samples(study).items())[:count])
    arms = list(study.arms)
    with drawing():
        figure = Figure(
            figsize=(3.2 + 1.5 * (1 + len(arms)), 0.8 + 1.5 * max(len(samples), 1)),
            layout="constrained",
        )
        figure.suptitle(f"Generated beside real pictures (seed {study.seeds[0]})")
        grid = figure.subplots(
            max(len(samples), 1),
            2 + len(arms),
            squeeze=False,
            width_ratios=[2, *[1] * (1 + len(arms))],
        )
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            axes.spines[:].set(visible=axes not in grid[:, 0], color="#bbbbbb")
        for axes, title in zip(grid[0], ["prompt", "real", *arms], strict=True):
            axes.set_title(title, fontweight="bold", parse_math=False)
        for cells, (prompt, by_arm) in zip(grid, samples.items(), strict=False):
            _write(cells[0], "\n".join(textwrap.wrap(prompt, 28)), size=9.5)
            real = next((one.reference for one in by_arm.values() if one.reference), None)
            made = [by_arm[arm].generated if arm in by_arm else None for arm in arms]
            for axes, picture in zip(cells[1:], [real, *made], strict=True):
                _draw_picture(axes, picture)
    return figure


def _draw_metric(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    arms: Sequence[str],
    styles: Mapping[str, ArmStyle],
) -> None:
    by_arm = {row["arm"]: row for row in rows}
    for place, arm in enumerate(arms):
        row = by_arm.get(arm)
        if row is None or row["value"] is None:
            across = axes.get_xaxis_transform()
            _write(axes, "not\navailable", size=8, place=(place, 0.5), transform=across)
            continue
        if row["low"] is not None:
            axes.vlines(place, row["low"], row["high"], color=styles[arm].color, linewidth=2.5)
        axes.plot(place, row["value"], styles[arm].marker, color=styles[arm].color, markersize=8)
        axes.annotate(
            f"{row['value']:.3g}",
            (place, row["value"]),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for end, line in (("ceiling", "--"), ("floor", ":")):
        level = next((row[end] for row in rows if row[end] is not None), None)
        if level is not None:
            axes.axhline(level, linestyle=line, color="#555555", linewidth=1.2)
            axes.annotate(
                f"{end} {level:.3g}",
                (1, level),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color="#555555",
            )
    tilt: dict[str, Any] = {"rotation": 25, "ha": "right"} if len(arms) > 4 else {}
    axes.set_xticks(range(len(arms)), arms, **tilt)
    axes.set_xlim(-0.5, len(arms) - 0.2)
    axes.margins(y=0.15)


def _draw_picture(axes: Axes, png: bytes | None) -> None:
    if png is None:
        _write(axes, "not\navailable", size=8)
        return
    axes.imshow(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), interpolation="nearest")


def _write(
    axes: Axes,
    text: str,
    size: float,
    place: tuple[float, float] = (0.5, 0.5),
    transform: Transform | None = None,
) -> None:
    """Centred text, taken as it is: a dollar sign in a prompt is no formula."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size, "color": "#333333"}
    axes.text(*place, text, transform=transform or axes.transAxes, parse_math=False, **look)
