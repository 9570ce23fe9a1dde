"""Step, FLOP and time matching of curves that were measured elsewhere."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.matching.measured_curve import MeasuredCurve
from evaluation.matching.seeds import SeedMatching, match_over_seeds
from evaluation.matching.steps import AXES, Axis


def match_measured(
    baselines: Sequence[MeasuredCurve], arms: Sequence[MeasuredCurve], warmup: float = 0.0
) -> dict[Axis, SeedMatching | None]:
    """Matches every axis that all curves are known on; None on the others.

    FLOPs and seconds are matched as they were measured, point by point: a step need not cost the
    same all along.

    Args:
        baselines, arms: one curve per seed, the same seeds in the same order.
        warmup: baseline steps up to this one are left out of the slope, on every axis.

    Raises:
        ValueError: not one of each per seed, or nothing is left past the warm-up.
    """
    every = [*baselines, *arms]
    return {
        axis: match_over_seeds(
            [one.on(axis) for one in baselines],
            [one.on(axis) for one in arms],
            [_warmup_on(one, axis, warmup) for one in baselines],
        )
        if all(axis in one.positions for one in every)
        else None
        for axis in AXES
    }


def _warmup_on(baseline: MeasuredCurve, axis: Axis, warmup: float) -> float:
    """Where on the axis the baseline's last point of the warm-up lies."""
    within = baseline.positions["steps"] <= warmup
    return float(baseline.positions[axis][within][-1]) if within.any() else 0.0


def axis_summary(matching: SeedMatching | None) -> dict[str, Any] | None:
    """What is printed of one axis.

    ``slope_low`` and ``slope_high`` are the interval over seeds, and with one seed that over the
    points of the curves: ``interval_over`` says which, None where there is neither.
    """
    if matching is None:
        return None
    low, high, over = matching.slope_low, matching.slope_high, "seeds"
    if low is None:
        low, high, over = matching.points_low, matching.points_high, "points"
    return {
        "slope": matching.slope,
        "slope_low": low,
        "slope_high": high,
        "interval_over": None if low is None else over,
        "points_low": matching.points_low,
        "points_high": matching.points_high,
        "end_ratio": matching.end_ratio,
        "end_ratio_low": matching.end_ratio_low,
        "end_ratio_high": matching.end_ratio_high,
        "reached": matching.reached,
        "seeds_reached": matching.seeds_reached,
        "seeds": matching.seeds,
        "points_reached": sum(one.points_reached for one in matching.per_seed),
        "points_total": sum(one.points_total for one in matching.per_seed),
    }


def stated_seconds(steps: SeedMatching | None, ratio: float | None) -> dict[str, Any] | None:
    """What is printed of time had a step of the arm taken ``ratio`` times one of the baseline.

    Returns None without matching in steps, or without a ratio.

    Raises:
        ValueError: a ratio that is not above 0.
    """
    if steps is None or ratio is None:
        return None
    if not (np.isfinite(ratio) and ratio > 0):
        raise ValueError(f"--step-time-ratio {ratio} must be above 0")
    summary = axis_summary(steps.on_axis(1.0, ratio))
    assert summary is not None
    return {**summary, "step_time_ratio": ratio}


def curve_summary(role: str, curve: MeasuredCurve) -> dict[str, Any]:
    """What is printed of one curve: where it is from, how long it is, what is not in it."""
    steps = curve.positions["steps"]
    return {
        "role": role,
        "source": curve.source,
        "points": len(steps),
        "first_step": float(steps[0]),
        "last_step": float(steps[-1]),
        "final_value": float(curve.values[-1]),
        "left_out_not_finite": curve.left_out,
        "lines_without_the_metric": curve.unlogged,
        "axes": [axis for axis in AXES if axis in curve.positions],
        "notes": list(curve.notes),
    }


def uneven_ends(baselines: Sequence[MeasuredCurve], arms: Sequence[MeasuredCurve]) -> list[str]:
    """A sentence for each pair whose runs do not end at the same step."""
    said = []
    for baseline, arm in zip(baselines, arms, strict=True):
        ends = [float(np.max(one.positions["steps"])) for one in (baseline, arm)]
        if ends[0] != ends[1]:
            said.append(
                f"{baseline.source} ends at step {ends[0]:g} and {arm.source} at {ends[1]:g}: "
                "under a schedule that decays to the end of the run, only runs of the same length "
                "compare"
            )
    return said
