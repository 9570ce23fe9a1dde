"""When a falling curve first reaches the levels of another, and the slope of it, for many draws.

Letters: D draws (1 for the measured curves), B points of the baseline, A points of the arm. The
draws lie one below the other in a single falling sequence, so that one search serves them all.
"""

import numpy as np
from sklearn.isotonic import isotonic_regression

ROUNDING = 1e-9  # a level reached at the arm's very last step is reached


def falling(values_DP: np.ndarray) -> np.ndarray:
    """Per draw the non-increasing curve nearest in squares, float64 [D, P]."""
    offset_D1 = _offsets(values_DP)
    chain = isotonic_regression((values_DP - offset_D1).ravel(), increasing=False)
    return chain.reshape(values_DP.shape) + offset_D1


def fit_slopes(
    steps_B: np.ndarray,
    levels_DB: np.ndarray,
    steps_A: np.ndarray,
    levels_DA: np.ndarray,
    warmup: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least-squares slope through the origin of n_a over n, and what it was fitted to.

    Returns:
        slope_D: NaN where no n_a is known.
        needed_DB: n_a of every baseline point; NaN where there is none.
        covered_DB: whether the slope covers the point: past the warm-up, with an n_a, and of a
            level that the arm's run was long enough for (``evaluation.matching.steps`` says why).
    """
    needed_DB = first_reached(steps_B, levels_DB, steps_A, levels_DA)
    backward_D = _slopes(steps_A, first_reached(steps_A, levels_DA, steps_B, levels_DB), warmup)
    longest_D = np.where(np.isnan(backward_D), np.inf, backward_D * steps_A[-1] * (1 + ROUNDING))
    covered_DB = (steps_B > warmup) & ~np.isnan(needed_DB) & (steps_B <= longest_D[:, None])
    return _slopes(steps_B, np.where(covered_DB, needed_DB, np.nan), warmup), needed_DB, covered_DB


def _slopes(steps_P: np.ndarray, needed_DP: np.ndarray, warmup: float) -> np.ndarray:
    known_DP = (steps_P > warmup) & ~np.isnan(needed_DP)
    above_D = np.where(known_DP, needed_DP, 0.0) @ steps_P
    below_D = known_DP @ (steps_P * steps_P)
    return np.divide(above_D, below_D, out=np.full(len(below_D), np.nan), where=below_D > 0)


def first_reached(
    steps_B: np.ndarray, levels_DB: np.ndarray, steps_A: np.ndarray, levels_DA: np.ndarray
) -> np.ndarray:
    """n_a for each baseline point, float64 [D, B]; NaN where there is none.

    Args:
        steps_B, levels_DB: the baseline's steps and non-increasing levels.
        steps_A, levels_DA: the arm's.
    """
    known_DB = (levels_DA[:, :1] >= levels_DB) & (levels_DB >= levels_DA[:, -1:])
    offset_D1 = _offsets(np.concatenate([levels_DB, levels_DA], axis=1))
    chain_B, chain_A = (levels_DB - offset_D1).ravel(), (levels_DA - offset_D1).ravel()
    draws = len(levels_DB)
    at_B, at_A = np.tile(steps_B, draws), np.tile(steps_A, draws)
    start = np.repeat(np.arange(draws) * len(steps_A), len(steps_B))

    after = np.searchsorted(-chain_A, -chain_B, side="left")
    after = np.clip(after, start, start + len(steps_A) - 1)
    before = np.maximum(after - 1, start)
    drop = chain_A[before] - chain_A[after]
    part = np.divide(chain_A[before] - chain_B, drop, out=np.ones_like(drop), where=drop > 0)
    reached = at_A[before] + part * (at_A[after] - at_A[before])

    # Where the arm is flat at this very level: the same place within both flat stretches.
    tied = np.flatnonzero((chain_A[after] == chain_B) & known_DB.ravel())
    first_B = np.searchsorted(-chain_B, -chain_B[tied], side="left")
    last_B = np.searchsorted(-chain_B, -chain_B[tied], side="right") - 1
    last_A = np.searchsorted(-chain_A, -chain_B[tied], side="right") - 1
    width = at_B[last_B] - at_B[first_B]
    place = np.divide(at_B[tied] - at_B[first_B], width, out=np.zeros_like(width), where=width > 0)
    from_A = at_A[after[tied]]
    reached[tied] = from_A + place * (at_A[last_A] - from_A)
    return np.where(known_DB, reached.reshape(levels_DB.shape), np.nan)


def _offsets(values_DP: np.ndarray) -> np.ndarray:
    """What to take off each draw so that it lies below the draw before, [D, 1]; first: nothing."""
    gap = values_DP.max() - values_DP.min() + 1.0
    return gap * np.arange(len(values_DP))[:, None]
