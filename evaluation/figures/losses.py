"""The figure of losses, and what the figures of a study have in common."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from evaluation.curve import Curve
from evaluation.figures.style import arm_styles, drawing
from evaluation.matching.comparison import cost_per_step
from evaluation.matching.steps import AXES, Axis
from evaluation.store.study_record import CURVES, StudyRecord
from evaluation.wording import LEAK_MARK, LEAK_NOTE

AXIS_TITLES: dict[Axis, str] = {
    "steps": "optimiser steps",
    "flops": "training FLOPs",
    "seconds": "training time (seconds)",
}
AXIS_NAMES: dict[Axis, str] = {"steps": "steps", "flops": "FLOPs", "seconds": "seconds"}
CURVE_TITLES = {"train": "training", "val": "validation"}
BINS = 100  # a training loss is drawn as means over this many equal stretches of steps
MANY = 2 * BINS  # and so is a validation loss of more points than this


def loss_curves(
    study: StudyRecord,
    modality: str,
    curves: Sequence[str] = CURVES,
    axes: Sequence[Axis] = AXES,
) -> Figure:
    """Loss of one modality over steps, FLOPs and seconds: mean over seeds, band from least to most.

    Training losses are means over short stretches of steps. The loss axis covers what lies past
    the warm-up, so the first steep fall may leave the frame.
    """
    with drawing():
        size = 1.2 + max(3.3 * len(axes), 4.5), 1.2 + 2.6 * len(curves)
        layout = ConstrainedLayoutEngine(w_pad=0.08)  # tick labels of two panels stay apart
        figure = Figure(figsize=size, layout=layout)
        grid = figure.subplots(len(curves), len(axes), sharey="row", squeeze=False)
        for row, curve in zip(grid, curves, strict=True):
            bands = loss_bands(study, modality, curve)
            for place, axis in zip(row, axes, strict=True):
                draw_losses(place, study, bands, axis)
                place.set_title(f"{CURVE_TITLES[curve]} loss over {AXIS_NAMES[axis]}")
            row[0].set_ylabel(f"{CURVE_TITLES[curve]} loss ({loss_unit(study, modality)})")
        figure.suptitle(f"{modality.capitalize()} loss, {over_seeds(study)}")
        _legend_below(figure, grid[0, 0], study)
    return figure


def loss_bands(study: StudyRecord, modality: str, curve: str) -> dict[str, np.ndarray]:
    """The ``seed_band`` of every arm."""
    bands = {}
    for arm in study.arms:
        curves = study.curves(arm, modality, curve)
        binned = curve == "train" or max(len(one.steps) for one in curves) > MANY
        bands[arm] = seed_band(curves, binned)
    return bands


def seed_band(curves: Sequence[Curve], binned: bool) -> np.ndarray:
    """Mean, least and most over seeds, float64 [P, 4]: step, mean, least, most.

    Every row is a step (or, ``binned``, a stretch of steps) that at least one seed has logged.
    """
    steps = np.concatenate([curve.steps for curve in curves])
    values = np.concatenate([curve.values for curve in curves])
    if binned:
        place = np.minimum((steps / steps.max() * BINS).astype(int), BINS - 1)
    else:
        place = np.unique(steps, return_inverse=True)[1]
    shape = len(curves), place.max() + 1
    seeds = np.repeat(np.arange(shape[0]), [len(curve.steps) for curve in curves])
    cell = seeds * shape[1] + place
    count_SP = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    sum_SP = np.bincount(cell, values, minlength=shape[0] * shape[1]).reshape(shape)
    logged = count_SP.any(axis=0)
    count_SP, sum_SP = count_SP[:, logged], sum_SP[:, logged]
    mean_SP = np.divide(sum_SP, count_SP, out=np.full(sum_SP.shape, np.nan), where=count_SP > 0)
    step_P = np.bincount(place, steps)[logged] / count_SP.sum(axis=0)
    most_P = np.nanmax(mean_SP, axis=0)
    return np.stack([step_P, np.nanmean(mean_SP, 0), np.nanmin(mean_SP, 0), most_P], axis=1)


def draw_losses(
    axes: Axes, study: StudyRecord, bands: Mapping[str, np.ndarray], axis: Axis
) -> None:
    """The loss of every arm over one axis, from its band."""
    styles = arm_styles(list(study.arms))
    for arm, band in bands.items():
        steps, mean, least, most = band.T
        x = steps * cost_per_step(study, arm, axis)
        style, label = styles[arm], arm_label(study, arm)
        axes.plot(x, mean, style.line, color=style.color, linewidth=1.6, label=label)
        axes.fill_between(x, least, most, color=style.color, alpha=0.18, linewidth=0)
    axes.set_xlabel(AXIS_TITLES[axis])
    axes.set_xlim(left=0)
    cost_ticks(axes.xaxis, axis)
    axes.set_ylim(*_loss_limits(bands.values(), study.warmup_steps))


def cost_ticks(along: XAxis | YAxis, axis: Axis) -> None:
    """Few enough ticks that their labels never touch: 12,500 steps, 1.5 (and 1e14 beside) FLOPs."""
    along.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if axis != "flops":
        along.set_major_formatter(lambda value, place: f"{value:,.10g}")


def arm_label(study: StudyRecord, arm: str) -> str:
    """The arm's name, marked where its loss is under a routing that sees other tokens."""
    return f"{arm} {LEAK_MARK}" if study.sees_other_tokens(arm) else arm


def loss_unit(study: StudyRecord, modality: str) -> str:
    """Of a diffusion loss and of a cross-entropy."""
    return "mean squared error" if study.diffuses(modality) else "nats per token"


def leak_note(study: StudyRecord) -> str | None:
    """What the mark of ``arm_label`` means; None where no arm bears it."""
    return LEAK_NOTE if any(study.sees_other_tokens(arm) for arm in study.arms) else None


def over_seeds(study: StudyRecord) -> str:
    """What lines and bands are, as a title says it."""
    seeds = len(study.seeds)
    return "one seed: no interval over seeds" if seeds == 1 else f"mean and band over {seeds} seeds"


def _loss_limits(bands: Iterable[np.ndarray], warmup: float) -> tuple[float, float]:
    shown = [band[band[:, 0] > warmup] for band in bands]
    low = min(band[:, 2].min() for band in shown)
    high = max(band[:, 3].max() for band in shown)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _legend_below(figure: Figure, axes: Axes, study: StudyRecord) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 6),
        title=leak_note(study),
        title_fontsize=9,
    )
