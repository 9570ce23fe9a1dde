"""Percentile bootstrap: how far a figure would move had other samples been drawn."""

from collections.abc import Callable

import numpy as np

Interval = tuple[float, float] | tuple[None, None]

DRAWS = 1000
LEVEL = 0.95


def bootstrap_draws(
    count: int, statistic: Callable[[np.ndarray], float], draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """The statistic of ``draws`` resamples of ``count`` samples, float64 [draws].

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


def mean_interval(
    values: np.ndarray, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of ``values`` [N]; (None, None) for fewer than two of them.

    With N below about ten the interval is too narrow (N = 2 covers half of what 95% promises),
    so print N beside it.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return None, None
    means = bootstrap_draws(len(values), lambda chosen: float(values[chosen].mean()), draws, seed)
    return percentile_interval(means, level)


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Percentile interval of sum(numerators) / sum(denominators), both [N] and resampled together.

    For figures counted per item where an item holds several of what is counted (tokens of a
    document, objects of a scene). Resamples whose denominator is zero are left out.
    """
    above = np.asarray(numerators, dtype=np.float64)
    below = np.asarray(denominators, dtype=np.float64)
    if len(above) < 2:
        return None, None

    def ratio(chosen: np.ndarray) -> float:
        total = below[chosen].sum()
        return float(above[chosen].sum() / total) if total else float("nan")

    ratios = bootstrap_draws(len(above), ratio, draws, seed)
    return percentile_interval(ratios[~np.isnan(ratios)], level)
