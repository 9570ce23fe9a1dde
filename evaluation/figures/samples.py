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

from evaluation.figures.intervals import Estimate, fitted_limits
from evaluation.figures.style import ArmStyle, arm_styles, drawing
from evaluation.numbers.study import first_seed_samples
from evaluation.store.study_record import StudyRecord
from evaluation.wording import under_training_routing

COLUMNS = 3
PROMPTS = 8
LONG = 14  # letters of an arm's name that need a smaller title


def metrics_figure(numbers: Mapping[str, Any]) -> Figure:
    """Every metric of every arm, with its ceiling and floor, from the content of report.json.

    Those under training routing stand beside their causal ones in a table, not here.

    Raises:
        ValueError: the study has no metrics.
    """
    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in numbers["metrics"]:
        if not under_training_routing(row):
            panels.setdefault((row["name"], row["extractor"]), []).append(row)
    if not panels:
        raise ValueError(f"study {numbers['study']!r} has no metrics to draw")
    arms = list(numbers["arms"])
    styles = arm_styles(arms)
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    with drawing():
        figure = Figure(figsize=(0.5 + 3.8 * columns, 0.7 + 3.4 * lines), layout="constrained")
        for place, ((name, extractor), rows) in enumerate(panels.items()):
            axes = figure.add_subplot(lines, columns, place + 1)
            _draw_metric(axes, rows, arms, styles)
            axes.set_title("\n".join(textwrap.wrap(name, 36)), parse_math=False)
            by = f"{extractor}, n = {max(row['n'] for row in rows):,}"
            look: dict[str, Any] = {"fontsize": 7.5, "color": "#555555", "parse_math": False}
            axes.set_xlabel("\n".join(textwrap.wrap(by, 50)), **look)
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
            size = 11 if len(title) < LONG else 8.5
            axes.set_title(title, fontsize=size, fontweight="bold", parse_math=False)
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
    levels = {
        end: next((row[end] for row in rows if row[end] is not None), None)
        for end in ("ceiling", "floor")
    }
    estimates = [
        Estimate(arms.index(arm), row["value"], row["low"], row["high"], styles[arm])
        for arm, row in by_arm.items()
    ]
    limits = fitted_limits(estimates, [one for one in levels.values() if one is not None])
    for place, arm in enumerate(arms):
        if arm in by_arm and by_arm[arm]["value"] is not None:
            _draw_value(axes, place, by_arm[arm], limits, styles[arm])
        else:
            across = axes.get_xaxis_transform()
            _write(axes, "not\navailable", size=8, place=(place, 0.5), transform=across)
    for (end, level), line in zip(levels.items(), ("--", ":"), strict=True):
        if level is not None:
            axes.axhline(level, linestyle=line, color="#555555", linewidth=1.2)
            look: dict[str, Any] = {"ha": "left", "va": "center", "fontsize": 8, "color": "#555555"}
            right = axes.get_yaxis_transform()
            axes.text(1.01, level, f"{end}\n{level:.3g}", transform=right, **look)
    tilt: dict[str, Any] = {"rotation": 25, "ha": "right"} if len(arms) > 4 else {}
    axes.set_xticks(range(len(arms)), arms, **tilt)
    axes.set_xlim(-0.5, len(arms) - 0.2)
    axes.set_ylim(*limits)


def _draw_value(
    axes: Axes,
    place: int,
    row: Mapping[str, Any],
    limits: tuple[float, float],
    style: ArmStyle,
) -> None:
    """A marker with its number and its interval; an arrowhead where that leaves the frame."""
    bottom, top = limits
    if row["low"] is not None:
        ends = max(row["low"], bottom), min(row["high"], top)
        axes.vlines(place, *ends, color=style.color, linewidth=2.5)
        for leaves, end, arrow in (
            (row["low"] < bottom, bottom, "v"),
            (row["high"] > top, top, "^"),
        ):
            if leaves:
                axes.plot(place, end, arrow, color=style.color, markersize=5, clip_on=False)
    axes.plot(place, row["value"], style.marker, color=style.color, markersize=8)
    axes.annotate(
        f"{row['value']:.3g}",
        (place, row["value"]),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


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
