"""Step matching: what fraction of the baseline's steps, FLOPs or seconds does an arm need?

Both curves are made monotone alike (isotonic regression) and read with straight lines between
their points. n_a(n) is the first step at which the arm reaches the baseline's loss at step n.
The slope is the least-squares slope through the origin of n_a over n past the warm-up; the end
ratio is n_a(N) / N at the baseline's last step N.

Three cases that this sentence leaves open, and how they are settled:

* Isotonic regression makes flat stretches. Where the arm is flat at exactly the level asked for,
  the baseline's flat stretch is laid onto the arm's, position by position: a curve matched with
  itself then gives n_a(n) = n everywhere. Taking the first step of the arm's stretch instead would
  give a curve matched with itself a slope below 1, and taking the first step in both curves
  overstates the slope of noisy curves by 1 to 4%. Between two different runs exact ties do not
  happen and nothing changes.
* A level that the arm is already below at its first logged point was reached at an unknown earlier
  step. There is no extrapolation below what was logged: such points have no n_a and are not in the
  slope; should it be the final loss, the end ratio takes the first logged step, an upper bound.
* A level that the arm never reaches has no n_a either. The slope covers the other points, and how
  many of how many they are is part of the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.bootstrap import mean_interval
from evaluation.curve import Curve, monotone

Axis = Literal["steps", "flops", "seconds"]
AXES: tuple[Axis, ...] = ("steps", "flops", "seconds")


@dataclass(frozen=True, eq=False)
class Matching:
    """One arm against one baseline, on one axis.

    Attributes:
        slope: least squares through the origin; None where no n_a is known.
        end_ratio: n_a(N) / N; None where the arm never reaches the baseline's final loss.
        reached: whether the arm reaches the baseline's final loss.
        points: float64 [P, 2], the baseline's step n past warm-up and the arm's n_a(n), which is
            NaN where the level is never reached, or was before the arm's first logged point.
        points_reached, points_total: how many of the points have an n_a: those the slope covers.
        units_per_step: what one baseline step and one arm step cost on this axis; (1, 1) for steps.
    """

    slope: float | None
    end_ratio: float | None
    reached: bool
    points: np.ndarray
    points_reached: int
    points_total: int
    units_per_step: tuple[float, float] = (1.0, 1.0)

    def on_axis(self, baseline_per_step: float, arm_per_step: float) -> "Matching":
        """The same matching in FLOPs or seconds, from what one step costs each of the two.

        Raises:
            ValueError: a cost is not a positive number.
        """
        for cost in (baseline_per_step, arm_per_step):
            if not (np.isfinite(cost) and cost > 0):
                raise ValueError(f"a step costs {cost}: FLOPs or seconds per step must be above 0")
        ratio = arm_per_step / baseline_per_step
        return Matching(
            slope=None if self.slope is None else self.slope * ratio,
            end_ratio=None if self.end_ratio is None else self.end_ratio * ratio,
            reached=self.reached,
            points=self.points * np.array([baseline_per_step, arm_per_step]),
            points_reached=self.points_reached,
            points_total=self.points_total,
            units_per_step=(baseline_per_step, arm_per_step),
        )


def step_matching(baseline: Curve, arm: Curve, warmup: float = 0.0) -> Matching:
    """Matches one arm with one baseline, in steps.

    Args:
        baseline, arm: losses of the same modality under the same schedule; evaluated at the same
            steps unless a run was cut short. The slope may exceed 1.
        warmup: baseline points up to and including this step are left out of the slope.

    Raises:
        ValueError: no baseline point lies past the warm-up.

    Example:
        >>> steps = np.arange(1.0, 101.0)
        >>> step_matching(Curve(steps, 10 - 0.01 * steps), Curve(steps, 10 - 0.02 * steps)).slope
        0.5
    """
    past_warmup = baseline.steps > warmup
    if not past_warmup.any():
        raise ValueError(
            f"{baseline.name}: the last step is {baseline.steps[-1]:g}, the warm-up ends at "
            f"{warmup:g}; nothing is left to match"
        )
    levels_B, levels_A = monotone(baseline), monotone(arm)
    needed = _first_reached(baseline.steps, levels_B, arm.steps, levels_A)
    n, n_a = baseline.steps[past_warmup], needed[past_warmup]
    known = ~np.isnan(n_a)
    reached = bool(levels_A[-1] <= levels_B[-1])
    end = n_a[-1] if known[-1] else arm.steps[0]
    return Matching(
        slope=float(n[known] @ n_a[known] / (n[known] @ n[known])) if known.any() else None,
        end_ratio=float(end / n[-1]) if reached else None,
        reached=reached,
        points=np.stack([n, n_a], axis=1),
        points_reached=int(known.sum()),
        points_total=len(n),
    )


def _first_reached(
    steps_B: np.ndarray, levels_B: np.ndarray, steps_A: np.ndarray, levels_A: np.ndarray
) -> np.ndarray:
    """n_a for each of the B baseline points from the arm's A points; NaN where there is none."""
    known = (levels_A[0] >= levels_B) & (levels_B >= levels_A[-1])
    after = np.minimum(np.searchsorted(-levels_A, -levels_B, side="left"), len(levels_A) - 1)
    before = np.maximum(after - 1, 0)
    drop = levels_A[before] - levels_A[after]
    part = np.divide(levels_A[before] - levels_B, drop, out=np.ones_like(drop), where=drop > 0)
    crossing = steps_A[before] + part * (steps_A[after] - steps_A[before])

    # Where the arm is flat at this very level: the same place within both flat stretches.
    tied = levels_A[after] == levels_B
    first_B, last_B = _flat_stretch(levels_B, levels_B)
    first_A, last_A = _flat_stretch(levels_A, levels_B)
    width = steps_B[last_B] - steps_B[first_B]
    place = np.divide(steps_B - steps_B[first_B], width, out=np.zeros_like(width), where=width > 0)
    last_A = np.maximum(last_A, first_A)
    laid = steps_A[first_A] + place * (steps_A[last_A] - steps_A[first_A])
    return np.where(known, np.where(tied, laid, crossing), np.nan)


def _flat_stretch(falling: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last position at which ``falling`` equals each level, where it does."""
    first = np.searchsorted(-falling, -levels, side="left")
    last = np.searchsorted(-falling, -levels, side="right") - 1
    return np.clip(first, 0, len(falling) - 1), np.clip(last, 0, len(falling) - 1)


@dataclass(frozen=True, eq=False)
class SeedMatching:
    """An arm against the baseline over several seeds, paired by seed.

    Attributes:
        slope: mean over the seeds that have one; None where none has.
        slope_low, slope_high: 95% bootstrap interval over those seeds; None with one seed.
        end_ratio: mean over the seeds; None unless every seed reached the baseline's final loss.
        end_ratio_low, end_ratio_high: its interval.
        reached: whether every seed reached the baseline's final loss.
        seeds_reached, seeds: how many did, of how many.
        per_seed: the matching of each seed, in the order given.
    """

    slope: float | None
    slope_low: float | None
    slope_high: float | None
    end_ratio: float | None
    end_ratio_low: float | None
    end_ratio_high: float | None
    reached: bool
    seeds_reached: int
    seeds: int
    per_seed: tuple[Matching, ...]


def match_over_seeds(
    baselines: Sequence[Curve],
    arms: Sequence[Curve],
    warmup: float = 0.0,
    baseline_per_step: float = 1.0,
    arm_per_step: float = 1.0,
    bootstrap_seed: int = 0,
) -> SeedMatching:
    """Matches seed by seed and summarises: mean and bootstrap interval.

    Args:
        baselines, arms: one curve per seed, the same seeds in the same order.
        warmup: as in ``step_matching``.
        baseline_per_step, arm_per_step: what a step costs in FLOPs or seconds; leave both out to
            match steps.
        bootstrap_seed: seed of the resampling.

    Raises:
        ValueError: no curves, or not one of each per seed.
    """
    if not baselines or len(baselines) != len(arms):
        raise ValueError(
            f"{len(baselines)} baseline curves and {len(arms)} arm curves: "
            "matching pairs them by seed, so give one of each per seed"
        )
    per_seed = tuple(
        step_matching(baseline, arm, warmup).on_axis(baseline_per_step, arm_per_step)
        for baseline, arm in zip(baselines, arms, strict=True)
    )
    slopes = np.array([one.slope for one in per_seed if one.slope is not None])
    ratios = np.array([one.end_ratio for one in per_seed if one.end_ratio is not None])
    reached = len(ratios) == len(per_seed)
    slope_low, slope_high = mean_interval(slopes, seed=bootstrap_seed)
    low, high = mean_interval(ratios, seed=bootstrap_seed) if reached else (None, None)
    return SeedMatching(
        slope=float(slopes.mean()) if len(slopes) else None,
        slope_low=slope_low,
        slope_high=slope_high,
        end_ratio=float(ratios.mean()) if reached else None,
        end_ratio_low=low,
        end_ratio_high=high,
        reached=reached,
        seeds_reached=len(ratios),
        seeds=len(per_seed),
        per_seed=per_seed,
    )
