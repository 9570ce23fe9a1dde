"""The figure of step matching, in the layout of the MoT paper's Figure 5."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.losses import (
    AXIS_NAMES,
    AXIS_TITLES,
    CURVE_TITLES,
    arm_label,
    cost_ticks,
    draw_losses,
    leak_note,
    loss_bands,
    loss_unit,
    over_seeds,
)
from evaluation.figures.style import ArmStyle, arm_styles, drawing
from evaluation.matching.comparison import cost_per_step, match_arm
from evaluation.matching.seeds import SeedMatching
from evaluation.matching.steps import Axis
from evaluation.store.study_record import CURVES, StudyRecord

SHOWN = 40  # at most so many points of a seed in a scatter, evenly picked
GREY = "#777777"


def step_matching(
    study: StudyRecord, modality: str, curves: Sequence[str] = CURVES, axis: Axis = "steps"
) -> Figure:
    """A row per loss curve: the losses of all arms, and what each arm needs to match the baseline.

    On the right a point (n, m) says that the arm reached at step m the loss that the baseline had
    at step n; the line through the origin has the fitted slope, the band its interval; points that
    the slope does not cover are hollow. Both sides have the same scale, so the dashed diagonal is
    an arm as fast as the baseline.
    """
    with drawing():
        figure = Figure(figsize=(11.2, 0.8 + 4.0 * len(curves)), layout="constrained")
        grid = figure.subplots(len(curves), 2, squeeze=False)
        for (left, right), curve in zip(grid, curves, strict=True):
            loss = f"{CURVE_TITLES[curve]} loss"
            draw_losses(left, study, loss_bands(study, modality, curve), axis)
            left.set_title(f"{modality} {loss} over {AXIS_NAMES[axis]}")
            left.set_ylabel(f"{loss} ({loss_unit(study, modality)})")
            matchings = {
                arm: match_arm(study, arm, modality, curve, axis)
                for arm in study.arms
                if arm != study.baseline
            }
            _draw_matchings(right, study, matchings, axis)
            right.set_title(
                f"{AXIS_NAMES[axis]} to the {CURVE_TITLES[curve]} loss of {study.baseline}"
            )
        figure.suptitle(
            f"{modality.capitalize()}: {AXIS_NAMES[axis]} to the loss of "
            f"{study.baseline}, {over_seeds(study)}"
        )
        if note := leak_note(study):
            figure.supxlabel(note, fontsize=9)
    return figure


def describe(matching: SeedMatching) -> str:
    """The slope with its interval and the end ratio, as a legend prints them.

    Example: "slope 0.75 [0.71, 0.79], end ratio 0.80".
    """
    if matching.slope is None:
        return "never reached"
    low, high = band_of(matching)
    interval = "(no interval)" if low is None else f"[{low:.3f}, {high:.3f}]"
    if matching.slope_low is None and low is not None:
        interval += " (over points)"
    end = "end loss never reached"
    if matching.end_ratio is not None:
        end = f"end ratio {matching.end_ratio:.3f}"
    elif matching.seeds_reached:
        end = f"end reached by {matching.seeds_reached} of {matching.seeds} seeds"
    return f"slope {matching.slope:.3f} {interval}, {end}"


def band_of(matching: SeedMatching) -> tuple[float, float] | tuple[None, None]:
    """The interval of the slope over seeds; of one seed, the interval over the curves' points."""
    if matching.slope_low is not None and matching.slope_high is not None:
        return matching.slope_low, matching.slope_high
    if matching.points_low is not None and matching.points_high is not None:
        return matching.points_low, matching.points_high
    return None, None


def _draw_matchings(
    axes: Axes, study: StudyRecord, matchings: Mapping[str, SeedMatching], axis: Axis
) -> None:
    styles = arm_styles(list(study.arms))
    last = study.steps * cost_per_step(study, study.baseline, axis)
    reached = [
        seed.points[:, 1][seed.points[:, 1] > 0].max(initial=0.0)
        for matching in matchings.values()
        for seed in matching.per_seed
    ]
    end = 1.02 * max([last, *reached])
    axes.plot([0, end], [0, end], "--", color=GREY, linewidth=1)
    handles = [
        Line2D([], [], color=styles[study.baseline].color, label=f"{study.baseline} (baseline)"),
        Line2D([], [], color=GREY, linestyle="--", label=f"as fast as {study.baseline}"),
    ]
    for arm, matching in matchings.items():
        _draw_matching(axes, matching, styles[arm], last)
        label = f"{arm_label(study, arm)}\n" + describe(matching).replace(", end", "\nend")
        look: dict[str, Any] = {
            "marker": styles[arm].marker,
            "markersize": 5,
            "linestyle": styles[arm].line,
        }
        handles.append(Line2D([], [], color=styles[arm].color, label=label, **look))
    unit = AXIS_TITLES[axis]
    axes.set(
        xlabel=f"{study.baseline}: {unit} to a loss",
        ylabel=f"arm: {unit} to that loss",
        xlim=(0, end),
        ylim=(0, end),
        box_aspect=1,
    )
    for along in (axes.xaxis, axes.yaxis):
        cost_ticks(along, axis)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.02), labelspacing=0.7)


def _draw_matching(axes: Axes, matching: SeedMatching, style: ArmStyle, last: float) -> None:
    if matching.slope is None:
        return
    low, high = band_of(matching)
    if low is not None and high is not None:  # a slope is never below 0, its interval may be
        ends = [0, last * max(low, 0.0)], [0, last * high]
        axes.fill_between([0, last], *ends, color=style.color, alpha=0.13, linewidth=0)
    look: dict[str, Any] = {"color": style.color, "markersize": 3.5, "markeredgewidth": 0.8}
    for seed in matching.per_seed:
        known = seed.points[~np.isnan(seed.points[:, 1])]
        every = -(-len(seed.points) // SHOWN)
        covered, beyond = known[: seed.points_reached], known[seed.points_reached :]
        axes.plot(*covered[::every].T, style.marker, alpha=0.45, **look)
        axes.plot(*beyond[::every].T, style.marker, alpha=0.45, markerfacecolor="none", **look)
    fitted = [0, last * matching.slope]
    axes.plot([0, last], fitted, style.line, color=style.color, linewidth=1.8)
