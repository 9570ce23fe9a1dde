"""Step matching over several seeds: paired seed by seed, with two intervals for each slope.

Over the seeds: what another set of seeds would give; there is none with one seed. Over the points
of the curves: what other noise of the same curves would give, the seeds held as they are; it is
there with one seed too, and says nothing of how much seeds differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.bootstrap import Interval, seed_interval
from evaluation.curve import Curve
from evaluation.matching.slope_noise import points_interval, slope_noise
from evaluation.matching.steps import Matching, step_matching


@dataclass(frozen=True, eq=False)
class SeedMatching:
    """An arm against the baseline over several seeds, paired by seed.

    Attributes:
        slope: mean over the seeds that have one; None where none has.
        slope_low, slope_high: its 95% interval over those seeds (``seed_interval``); None with one.
        points_low, points_high: its 95% interval over the points of the curves (``slope_noise``);
            None where a curve has too few.
        end_ratio: mean over the seeds; None unless every seed reached the baseline's final loss.
        end_ratio_low, end_ratio_high: its interval over seeds.
        reached: whether every seed reached the baseline's final loss.
        seeds_reached, seeds: how many did, of how many.
        per_seed: the matching of each seed, in the order given.
    """

    slope: float | None
    slope_low: float | None
    slope_high: float | None
    points_low: float | None
    points_high: float | None
    end_ratio: float | None
    end_ratio_low: float | None
    end_ratio_high: float | None
    reached: bool
    seeds_reached: int
    seeds: int
    per_seed: tuple[Matching, ...]

    def on_axis(self, baseline_per_step: float, arm_per_step: float) -> "SeedMatching":
        """The same matching in FLOPs or seconds, from what one step costs each of the two.

        Raises:
            ValueError: a cost is not a positive number.
        """
        per_seed = tuple(one.on_axis(baseline_per_step, arm_per_step) for one in self.per_seed)

        def scaled(figure: float | None) -> float | None:
            return None if figure is None else figure * arm_per_step / baseline_per_step

        return replace(
            self,
            slope=scaled(self.slope),
            slope_low=scaled(self.slope_low),
            slope_high=scaled(self.slope_high),
            points_low=scaled(self.points_low),
            points_high=scaled(self.points_high),
            end_ratio=scaled(self.end_ratio),
            end_ratio_low=scaled(self.end_ratio_low),
            end_ratio_high=scaled(self.end_ratio_high),
            per_seed=per_seed,
        )


def match_over_seeds(
    baselines: Sequence[Curve],
    arms: Sequence[Curve],
    warmup: float | Sequence[float] = 0.0,
    noise: bool = True,
) -> SeedMatching:
    """Matches seed by seed and summarises: means and intervals.

    Args:
        baselines, arms: one curve per seed, the same seeds in the same order.
        warmup: as in ``step_matching``; or one for each seed.
        noise: whether to give the interval over the points, which takes longest.

    Raises:
        ValueError: no curves, or not one of each per seed.
    """
    if not baselines or len(baselines) != len(arms):
        raise ValueError(
            f"{len(baselines)} baseline curves and {len(arms)} arm curves: "
            "matching pairs them by seed, so give one of each per seed"
        )
    warmups = np.broadcast_to(np.asarray(warmup, dtype=np.float64), len(baselines))
    runs = list(zip(baselines, arms, map(float, warmups), strict=True))
    per_seed = tuple(step_matching(*run) for run in runs)
    slopes = np.array([one.slope for one in per_seed if one.slope is not None])
    ratios = np.array([one.end_ratio for one in per_seed if one.end_ratio is not None])
    slope_low, slope_high = seed_interval(slopes)
    points_low, points_high = _over_points(runs, per_seed) if noise else (None, None)
    reached = len(ratios) == len(per_seed)
    low, high = seed_interval(ratios) if reached else (None, None)
    return SeedMatching(
        slope=float(slopes.mean()) if len(slopes) else None,
        slope_low=slope_low,
        slope_high=slope_high,
        points_low=points_low,
        points_high=points_high,
        end_ratio=float(ratios.mean()) if reached else None,
        end_ratio_low=low,
        end_ratio_high=high,
        reached=reached,
        seeds_reached=len(ratios),
        seeds=len(per_seed),
        per_seed=per_seed,
    )


def _over_points(
    runs: Sequence[tuple[Curve, Curve, float]], per_seed: Sequence[Matching]
) -> Interval:
    slopes, noises = [], []
    for place, (run, matching) in enumerate(zip(runs, per_seed, strict=True)):
        if matching.slope is not None:
            noise = slope_noise(*run, seed=(place,))
            if noise is None:
                return None, None
            slopes.append(matching.slope)
            noises.append(noise)
    return points_interval(float(np.mean(slopes)), noises) if slopes else (None, None)
