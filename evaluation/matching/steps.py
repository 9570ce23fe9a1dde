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

Where the arm falls short, noise decides near its end which levels it reaches: a dip of its last
points, or a bump of the baseline's, lets it reach levels of much later steps, always in its favour.
A slope over all of them reads an arm that needs twice the steps as one that needs 1.4 times (20,000
noisy training losses), so it covers the levels that the arm's run is long enough for: baseline
points up to r N_a, where N_a is the arm's last step and r the slope of the reverse matching (the
baseline's steps to the arm's losses), which nothing cuts short. That leaves 1.97 of the 2 and
changes nothing where the arm ends ahead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.curve import Curve, monotone
from evaluation.matching.reaching import fit_slopes

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
        points_reached, points_total: how many of the points the slope covers: those with an n_a
            that the arm's run is long enough for.
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


def step_matching(
    baseline: Curve,
    arm: Curve,
    warmup: float = 0.0,
    smooth: Callable[[Curve], np.ndarray] = monotone,
) -> Matching:
    """Matches one arm with one baseline, in steps.

    Args:
        baseline, arm: losses of the same modality under the same schedule; evaluated at the same
            steps unless a run was cut short. The slope may exceed 1.
        warmup: baseline points up to and including this step are left out of the slope.
        smooth: what makes either curve non-increasing, float64 [P] at its own steps.

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
    levels_B, levels_A = smooth(baseline), smooth(arm)
    slope, needed, covered = (
        found[0]
        for found in fit_slopes(baseline.steps, levels_B[None], arm.steps, levels_A[None], warmup)
    )
    n, n_a = baseline.steps[past_warmup], needed[past_warmup]
    reached = bool(levels_A[-1] <= levels_B[-1])
    end = arm.steps[0] if np.isnan(n_a[-1]) else n_a[-1]
    return Matching(
        slope=float(slope) if covered.any() else None,
        end_ratio=float(end / n[-1]) if reached else None,
        reached=reached,
        points=np.stack([n, n_a], axis=1),
        points_reached=int(covered.sum()),
        points_total=len(n),
    )
