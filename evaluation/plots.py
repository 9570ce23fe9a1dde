"""The figures of losses and matching: one function per figure, returning a matplotlib Figure."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.comparison import cost_per_step, match_arm
from evaluation.matching import AXES, Axis, Curve, SeedMatching
from evaluation.plot_style import LEAK_MARK, LEAK_NOTE, ArmStyle, arm_styles, drawing
from evaluation.study_record import CURVES, StudyRecord

AXIS_TITLES: dict[Axis, str] = {
    "steps": "optimiser steps",
    "flops": "training FLOPs",
    "seconds": "training time (seconds)",
}
AXIS_NAMES: dict[Axis, str] = {"steps": "steps", "flops": "FLOPs", "seconds": "seconds"}
CURVE_TITLES = {"train": "training", "val": "validation"}
SHOWN = 40  # at most so many points of a seed in a scatter, evenly picked
BINS = 100  # a training loss is drawn as means over this many equal stretches of steps


def loss_curves(study: StudyRecord, modality: str) -> Figure:
    """Loss of one modality over steps, FLOPs and seconds: mean over seeds, band from least to most.

    Training losses are means over short stretches of steps. The loss axis covers what lies past
    the warm-up, so the first steep fall may leave the frame.
    """
    styles = arm_styles(list(study.arms))
    with drawing():
        figure = Figure(figsize=(11, 6.4), layout="constrained")
        grid = figure.subplots(len(CURVES), len(AXES), sharey="row")
        for row, curve in enumerate(CURVES):
            bands = {
                arm: seed_band(study.curves(arm, modality, curve), binned=curve == "train")
                for arm in study.arms
            }
            for column, axis in enumerate(AXES):
                _draw_losses(grid[row, column], study, bands, axis, styles)
                grid[row, column].set_title(f"{CURVE_TITLES[curve]} loss over {AXIS_NAMES[axis]}")
            grid[row, 0].set_ylabel(f"{modality} {CURVE_TITLES[curve]} loss")
            grid[row, 0].set_ylim(*_loss_limits(bands.values(), study.warmup_steps))
        figure.suptitle(f"{modality.capitalize()} loss, {_over_seeds(study)}")
        _legend_below(figure, grid[0, 0], study)
    return figure


def step_matching(study: StudyRecord, modality: str) -> Figure:
    """For every step of the baseline the step at which an arm has the same loss; and its slope."""
    styles = arm_styles(list(study.arms))
    arms = [arm for arm in study.arms if arm != study.baseline]
    with drawing():
        figure = Figure(figsize=(11, 5.6), layout="constrained")
        for axes, curve in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
            ends = [0, study.steps]
            same = f"as fast as {study.baseline}"
            axes.plot(ends, ends, "--", color="#777777", linewidth=1, label=same)
            for arm in arms:
                matching = match_arm(study, arm, modality, curve)
                label = f"{arm_label(study, arm)}: {describe(matching)}"
                _draw_matching(axes, matching, styles[arm], label, study.steps)
            axes.set(
                title=f"{modality} {CURVE_TITLES[curve]} loss",
                xlabel=f"step n of {study.baseline} (optimiser steps)",
                ylabel="first step of the arm with that loss",
                xlim=(0, study.steps * 1.02),
                ylim=(0, study.steps * 1.02),
            )
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))
        figure.suptitle(
            f"{modality.capitalize()}: steps to the loss of {study.baseline}, {_over_seeds(study)}"
        )
        _footnote(figure, study)
    return figure


def seed_band(curves: Sequence[Curve], binned: bool) -> np.ndarray:
    """Mean, least and most over seeds, float64 [P, 4]: step, mean, least, most.

    Every row is a step (or, ``binned``, a stretch of steps) that at least one seed has logged.
    """
    steps = np.concatenate([curve.steps for curve in curves])
    values = np.concatenate([curve.values for curve in curves])
    seeds = np.repeat(np.arange(len(curves)), [len(curve.steps) for curve in curves])
    if binned:
        place = np.minimum((steps / steps.max() * BINS).astype(int), BINS - 1)
    else:
        place = np.unique(steps, return_inverse=True)[1]
    rows = []
    for stretch in np.unique(place):
        here = place == stretch
        of_seed = [values[here & (seeds == seed)].mean() for seed in np.unique(seeds[here])]
        rows.append([steps[here].mean(), np.mean(of_seed), min(of_seed), max(of_seed)])
    return np.array(rows)


def arm_label(study: StudyRecord, arm: str) -> str:
    """The arm's name, marked where its loss is under a routing that sees other tokens."""
    return f"{arm} {LEAK_MARK}" if study.sees_other_tokens(arm) else arm


def describe(matching: SeedMatching) -> str:
    """The slope with its interval and the end ratio, as a legend prints them.

    Example: "slope 0.75 [0.71, 0.79], end ratio 0.80".
    """
    if matching.slope is None:
        return "never reached"
    interval = "(one seed: no interval)"
    if matching.slope_low is not None:
        interval = f"[{matching.slope_low:.3f}, {matching.slope_high:.3f}]"
    end = "end loss never reached"
    if matching.end_ratio is not None:
        end = f"end ratio {matching.end_ratio:.3f}"
    elif matching.seeds_reached:
        end = f"end loss reached by {matching.seeds_reached} of {matching.seeds} seeds"
    return f"slope {matching.slope:.3f} {interval}, {end}"


def _draw_losses(
    axes: Axes,
    study: StudyRecord,
    bands: dict[str, np.ndarray],
    axis: Axis,
    styles: dict[str, ArmStyle],
) -> None:
    for arm, band in bands.items():
        steps, mean, least, most = band.T
        x = steps * cost_per_step(study, arm, axis)
        style, label = styles[arm], arm_label(study, arm)
        axes.plot(x, mean, style.line, color=style.color, linewidth=1.6, label=label)
        axes.fill_between(x, least, most, color=style.color, alpha=0.18, linewidth=0)
    axes.set_xlabel(AXIS_TITLES[axis])
    axes.set_xlim(left=0)


def _loss_limits(bands: Iterable[np.ndarray], warmup: float) -> tuple[float, float]:
    shown = [band[band[:, 0] > warmup] for band in bands]
    low = min(band[:, 2].min() for band in shown)
    high = max(band[:, 3].max() for band in shown)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _draw_matching(
    axes: Axes, matching: SeedMatching, style: ArmStyle, label: str, last: float
) -> None:
    look: dict[str, Any] = {"color": style.color, "markersize": 3.5, "alpha": 0.45, "linewidth": 0}
    for seed in matching.per_seed:
        n, n_a = seed.points[:: -(-len(seed.points) // SHOWN)].T
        axes.plot(n, n_a, style.marker, **look)
    if matching.slope is None:
        axes.plot([], [], style.marker, color=style.color, label=label)
        return
    fitted = [0, last * matching.slope]
    axes.plot([0, last], fitted, style.line, color=style.color, linewidth=1.8, label=label)
    if matching.slope_low is not None and matching.slope_high is not None:
        ends = [0, last * matching.slope_low], [0, last * matching.slope_high]
        axes.fill_between([0, last], *ends, color=style.color, alpha=0.15, linewidth=0)


def _over_seeds(study: StudyRecord) -> str:
    seeds = len(study.seeds)
    return "one seed: no interval over seeds" if seeds == 1 else f"mean and band over {seeds} seeds"


def _legend_below(figure: Figure, axes: Axes, study: StudyRecord) -> None:
    handles, labels = axes.get_legend_handles_labels()
    note = any(study.sees_other_tokens(arm) for arm in study.arms)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 5),
        title=LEAK_NOTE if note else None,
        title_fontsize=9,
    )


def _footnote(figure: Figure, study: StudyRecord) -> None:
    if any(study.sees_other_tokens(arm) for arm in study.arms):
        figure.supxlabel(LEAK_NOTE, fontsize=9)
