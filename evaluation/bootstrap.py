"""How far a figure would move had other samples, or other seeds, been drawn.

Over samples (hundreds and more) the percentile bootstrap: ``mean_draws`` and ``ratio_draws`` make
the resampled figures, ``percentile_interval`` cuts their tails. Two figures over the same N samples
with the same seed are resampled at the same positions, so their draws can be subtracted, or
averaged over seeds, draw by draw.

Over seeds (two to ten) ``seed_interval``: percentiles of so few values cannot reach beyond the
values themselves, and cover far less than they promise.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import t as student_t

Interval = tuple[float, float] | tuple[None, None]

DRAWS = 1000
LEVEL = 0.95
AT_ONCE = 1 << 20  # resampled positions held in memory at a time


def mean_draws(values: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """The means of ``draws`` resamples of ``values`` [N], float64 [draws].

    Empty for fewer than two values: nothing can be resampled.
    """
    values_N = np.asarray(values, dtype=np.float64)
    if len(values_N) < 2:
        return np.empty(0)
    generator = np.random.default_rng(seed)
    blocks = _resamples(len(values_N), draws, generator)
    return np.concatenate([values_N[chosen].mean(axis=1) for chosen in blocks])


def ratio_draws(
    numerators: np.ndarray, denominators: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """sum(numerators) / sum(denominators) of resamples of both [N] together, float64 [draws].

    For figures counted per item where an item holds several of what is counted (tokens of a
    document, objects of a scene). A resample whose denominator is zero has no ratio and is drawn
    again. Empty for fewer than two items.

    Raises:
        ValueError: the lengths differ, a denominator is below zero, or all are zero.
    """
    above_N = np.asarray(numerators, dtype=np.float64)
    below_N = np.asarray(denominators, dtype=np.float64)
    if above_N.shape != below_N.shape:
        raise ValueError(f"{len(above_N)} numerators and {len(below_N)} denominators: give pairs")
    if len(above_N) < 2:
        return np.empty(0)
    if (below_N < 0).any() or not below_N.any():
        raise ValueError("the denominators of a ratio must be 0 or more, and not all 0")
    generator = np.random.default_rng(seed)
    sums = [
        np.stack([above_N[chosen].sum(axis=1), below_N[chosen].sum(axis=1)])
        for chosen in _resamples(len(above_N), draws, generator)
    ]
    above, below = np.concatenate(sums, axis=1)
    while (below == 0).any():
        for place in np.flatnonzero(below == 0):
            chosen = generator.integers(len(above_N), size=len(above_N))
            above[place], below[place] = above_N[chosen].sum(), below_N[chosen].sum()
    return above / below


def _resamples(count: int, draws: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Positions of ``draws`` resamples of ``count`` samples, in blocks [some draws, count]."""
    rows = max(AT_ONCE // count, 1)
    for start in range(0, draws, rows):
        yield generator.integers(count, size=(min(rows, draws - start), count), dtype=np.uint32)


def bootstrap_draws(
    count: int, statistic: Callable[[np.ndarray], float], draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """The statistic of ``draws`` resamples of ``count`` samples, float64 [draws].

    For statistics that are no mean or ratio; the positions are those of ``mean_draws``.

    Args:
        count: number of samples N.
        statistic: takes the positions of one resample, int [N] with repeats, to a figure.
    """
    generator = np.random.default_rng(seed)
    return np.array([statistic(generator.integers(count, size=count)) for _ in range(draws)])


def percentile_interval(figures: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The central ``level`` of resampled figures."""
    tail = (1 - level) / 2
    low, high = np.quantile(figures, [tail, 1 - tail])
    return float(low), float(high)


def seed_interval(values: np.ndarray) -> Interval:
    """95% interval of a mean over seeds; (None, None) for fewer than two values.

    mean ± t(S-1, 0.975) s / sqrt(S) over S values of standard deviation s: the standard error of
    the ideal bootstrap, sqrt((S-1)/S) s / sqrt(S), times sqrt(S/(S-1)) against its narrowness
    bias, with the t quantile in place of the normal one (Hesterberg, "What Teachers Should Know
    About the Bootstrap", The American Statistician 69, 2015). Percentiles of resampled seeds are
    no choice here: of the 95% they promise they cover 50, 75 and 82% with 2, 3 and 5 seeds
    (measured in ``tests/evaluation/test_bootstrap.py``).

    Of a difference between two arms: ``paired_difference``.
    """
    values_S = np.asarray(values, dtype=np.float64)
    seeds = len(values_S)
    if seeds < 2:
        return None, None
    half = student_t.ppf((1 + LEVEL) / 2, seeds - 1) * values_S.std(ddof=1) / np.sqrt(seeds)
    return float(values_S.mean() - half), float(values_S.mean() + half)


def paired_difference(arm: np.ndarray, baseline: np.ndarray) -> tuple[float, Interval]:
    """Mean of arm - baseline over the seeds both share, and its interval over seeds.

    Pairing takes out what a seed does to both arms alike (data order, initial weights).

    Args:
        arm, baseline: one value per seed [S], the same seeds in the same order.

    Raises:
        ValueError: not one of each per seed.
    """
    arm_S, baseline_S = np.asarray(arm, dtype=float), np.asarray(baseline, dtype=float)
    if not len(arm_S) or arm_S.shape != baseline_S.shape:
        raise ValueError(
            f"{len(arm_S)} values of the arm and {len(baseline_S)} of the baseline: "
            "a paired difference needs one of each per seed"
        )
    return float((arm_S - baseline_S).mean()), seed_interval(arm_S - baseline_S)
