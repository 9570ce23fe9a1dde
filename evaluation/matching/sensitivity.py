"""What each slope would be had it been made otherwise: smoothing, warm-up cut, fit or end point.

One choice is changed at a time, the others stay at the report's defaults. Both curves are always
smoothed alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from evaluation.bootstrap import seed_interval
from evaluation.curve import Curve, monotone
from evaluation.matching.steps import Matching, step_matching
from evaluation.store.study_record import CURVES, StudyRecord

Estimate = Literal["fit", "end"]
DEFAULT = "isotonic"
CUTS = (0.1, 0.2)  # warm-up cuts tried as shares of the baseline's steps


@dataclass(frozen=True)
class SlopeVariant:
    """One arm's matching in steps, made with one set of choices.

    Attributes:
        arm, modality, curve: what is matched; ``curve`` is "train" or "val".
        smoothing: what made both curves fall, in words.
        warmup_steps: baseline steps up to this one are left out of the slope.
        estimate: "fit" is the slope over all points, "end" the end ratio, n_a(N) / N.
        value: mean over seeds; None where a fit has no point, or an end was not always reached.
        low, high: 95% interval over seeds (``seed_interval``); None with one seed.
        is_default: whether this is the figure that the report's tables give.
    """

    arm: str
    modality: str
    curve: str
    smoothing: str
    warmup_steps: float
    estimate: Estimate
    value: float | None
    low: float | None
    high: float | None
    is_default: bool


def sensitivity(study: StudyRecord) -> list[SlopeVariant]:
    """Every arm's variants but the baseline's, for every modality and curve."""
    return [
        variant
        for modality in study.modalities
        for curve in CURVES
        for variant in _of_curve(study, modality, curve)
    ]


def _of_curve(study: StudyRecord, modality: str, curve: str) -> list[SlopeVariant]:
    warmups = warmup_cuts(study, modality, curve)
    default = (DEFAULT, float(study.warmup_steps))
    tried = [(name, default[1]) for name in smoothings()] + [
        (DEFAULT, warmup) for warmup in warmups if warmup != default[1]
    ]
    found = []
    for smoothing, warmup in tried:
        smooth = _once_per_curve(smoothings()[smoothing])
        baselines = study.curves(study.baseline, modality, curve)
        for arm in (arm for arm in study.arms if arm != study.baseline):
            arms = study.curves(arm, modality, curve)
            matchings = [
                step_matching(one, other, warmup, smooth)
                for one, other in zip(baselines, arms, strict=True)
            ]
            # the end ratio does not depend on the warm-up
            estimates: Sequence[Estimate] = ("fit", "end") if warmup == default[1] else ("fit",)
            for estimate in estimates:
                figures = _over_seeds(matchings, estimate)
                is_default = estimate == "fit" and (smoothing, warmup) == default
                found.append(
                    SlopeVariant(
                        arm, modality, curve, smoothing, warmup, estimate, *figures, is_default
                    )
                )
    return sorted(found, key=lambda one: list(study.arms).index(one.arm))


def warmup_cuts(study: StudyRecord, modality: str, curve: str) -> list[float]:
    """Warm-up cuts to try: none, the study's, twice it, and shares of the baseline's steps.

    Those that would leave a baseline curve no point are not tried.
    """
    last = min(one.steps[-1] for one in study.curves(study.baseline, modality, curve))
    default = float(study.warmup_steps)
    cuts = {0.0, default, 2 * default, *(share * last for share in CUTS)}
    return sorted(float(cut) for cut in cuts if cut < last)


def smoothings() -> dict[str, Callable[[Curve], np.ndarray]]:
    """Every smoothing by its name in a table; each makes a curve non-increasing, float64 [P]."""
    averages = {
        f"moving average of {100 * share:g}% of the steps": partial(moving_average, share=share)
        for share in (0.01, 0.05, 0.1)
    }
    return {
        DEFAULT: monotone,
        "none + running minimum": running_minimum,
        **averages,
        "exponential average over 5% of the steps": partial(exponential_average, share=0.05),
    }


def running_minimum(curve: Curve) -> np.ndarray:
    """The least loss so far at each step."""
    return np.minimum.accumulate(curve.values)


def moving_average(curve: Curve, share: float) -> np.ndarray:
    """Running minimum of the mean over a window of ``share`` of the steps, centred at each point.

    Near the ends the window narrows on both sides alike, so that it leans neither way.
    """
    steps = curve.steps
    half = np.minimum(share * steps[-1] / 2, np.minimum(steps - steps[0], steps[-1] - steps))
    first = np.searchsorted(steps, steps - half, side="left")
    last = np.searchsorted(steps, steps + half, side="right")
    total = np.concatenate([[0.0], np.cumsum(curve.values)])
    return np.minimum.accumulate((total[last] - total[first]) / (last - first))


def exponential_average(curve: Curve, share: float) -> np.ndarray:
    """Running minimum of the exponential average that forgets over ``share`` of the steps.

    A loss counts exp(-d / (share N)) as much d steps later; the weights at each point add up to
    one, the first few included.
    """
    keep = np.exp(-np.diff(curve.steps, prepend=curve.steps[0]) / (share * curve.steps[-1]))
    above, below, averages = 0.0, 0.0, []
    for kept, value in zip(keep.tolist(), curve.values.tolist(), strict=True):
        above, below = kept * above + value, kept * below + 1.0
        averages.append(above / below)
    return np.minimum.accumulate(averages)


def _once_per_curve(smooth: Callable[[Curve], np.ndarray]) -> Callable[[Curve], np.ndarray]:
    """Remembers what it has smoothed: a baseline is matched with every arm."""
    done: dict[int, np.ndarray] = {}

    def remembered(curve: Curve) -> np.ndarray:
        if id(curve) not in done:
            done[id(curve)] = smooth(curve)
        return done[id(curve)]

    return remembered


def _over_seeds(
    matchings: Sequence[Matching], estimate: Estimate
) -> tuple[float | None, float | None, float | None]:
    """Mean and interval over seeds, of the figures that ``match_over_seeds`` takes the mean of."""
    every = [one.slope if estimate == "fit" else one.end_ratio for one in matchings]
    known = [figure for figure in every if figure is not None]
    if not known or (estimate == "end" and len(known) < len(every)):
        return None, None, None
    return float(np.mean(known)), *seed_interval(np.array(known))
