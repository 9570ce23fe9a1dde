"""How far the noise of two loss curves moves the slope between them: a residual bootstrap.

Letters: P points of a curve, D draws.

Monotone curves swallow noise that is smaller than their fall from point to point, so their
residuals say nothing of it. Here each curve is fitted by a low polynomial in log step over the part
that can move the slope; the residuals are taken for AR(1) noise, whose coefficient is corrected for
the bias that a fit of few points gives it; the bootstrap redraws the innovations (the sieve
bootstrap: Bühlmann, "Sieve bootstrap for time series", Bernoulli 3, 1997), adds the noise to the
fits, makes both curves monotone again and matches them again. Where both curves have the same
steps the innovations are drawn at the same positions: arms share the order of their data, and with
it much of the noise of their training losses.

Moving blocks of residuals were tried first: of the 95% they promise they covered 73 to 92% with the
30 points of a short run; AR(1) noise covers 93 to 99% (``test_simulation.py``).
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from scipy.stats import t as student_t

from evaluation.bootstrap import LEVEL, Interval
from evaluation.curve import Curve
from evaluation.matching.reaching import falling, first_reached, fit_slopes

DRAWS = 200
BINS = 200  # a longer curve is averaged over this many stretches of its points before the bootstrap
EARLY = 0.1  # the first tenth of the steps weighs a thousandth of the slope, and is steep
FEWEST = 8  # points of a curve from which noise is estimated
POINTS_PER_TERM, MOST_TERMS = 6, 9
BURN_IN = 30
PHI_BETWEEN = -0.5, 0.9


@dataclass(frozen=True, eq=False)
class SlopeNoise:
    """Errors of one slope, float64 [D], and the degrees of freedom of their estimate."""

    errors: np.ndarray
    freedom: int


@dataclass(frozen=True, eq=False)
class _Noise:
    """A smooth fit to part of a curve, float64 [P], and the noise about it."""

    fit: np.ndarray
    phi: float
    innovations: np.ndarray
    freedom: int

    def draw(self, draws: int, seed: tuple[int, ...]) -> np.ndarray:
        """Noise like that of the curve, float64 [D, P]."""
        size = (draws, BURN_IN + len(self.fit))
        chosen = np.random.default_rng(seed).integers(len(self.innovations), size=size)
        return lfilter([1.0], [1.0, -self.phi], self.innovations[chosen], axis=1)[:, BURN_IN:]


def slope_noise(
    baseline: Curve, arm: Curve, warmup: float, draws: int = DRAWS, seed: tuple[int, ...] = (0,)
) -> SlopeNoise | None:
    """Errors of the slope between two curves, drawn from their noise.

    Returns None where the curves have no slope, or fewer than ``FEWEST`` points that move it.
    """
    baseline, arm = _binned(baseline), _binned(arm)
    start = _first_step_that_matters(baseline, arm, warmup)
    if start is None:
        return None
    part_B, part_A = baseline.steps >= start, arm.steps >= start
    if min(part_B.sum(), part_A.sum()) < FEWEST:
        return None
    noise_B, noise_A = _noise(baseline.values, part_B), _noise(arm.values, part_A)
    shared = np.array_equal(baseline.steps[part_B], arm.steps[part_A])
    slopes = fit_slopes(
        baseline.steps,
        falling(_redrawn(baseline, part_B, noise_B, draws, (*seed, 0))),
        arm.steps,
        falling(_redrawn(arm, part_A, noise_A, draws, (*seed, 0 if shared else 1))),
        warmup,
    )[0]
    errors = slopes[1:] - slopes[0]
    errors = errors[~np.isnan(errors)]
    if len(errors) < draws / 2:
        return None
    return SlopeNoise(errors, min(noise_B.freedom, noise_A.freedom))


def points_interval(slope: float, noises: list[SlopeNoise]) -> Interval:
    """95% interval of a slope, or of the mean of several, over the points of its curves.

    The slope ± the t quantile times the standard deviation of its errors: those of several slopes,
    of as many seeds, are independent and average out. (None, None) without noises.
    """
    if not noises:
        return None, None
    variance = sum(float(one.errors.var(ddof=1)) for one in noises) / len(noises) ** 2
    half = student_t.ppf((1 + LEVEL) / 2, sum(one.freedom for one in noises)) * np.sqrt(variance)
    return float(slope - half), float(slope + half)


def _binned(curve: Curve) -> Curve:
    if len(curve.steps) <= BINS:
        return curve
    edges = np.linspace(0, len(curve.steps), BINS + 1).astype(int)
    count = np.diff(edges)
    steps = np.add.reduceat(curve.steps, edges[:-1]) / count
    return Curve(steps, np.add.reduceat(curve.values, edges[:-1]) / count, curve.name)


def _first_step_that_matters(baseline: Curve, arm: Curve, warmup: float) -> float | None:
    """From which step on the noise of either curve can move the slope; None without a slope."""
    needed_B = first_reached(
        baseline.steps, falling(baseline.values[None]), arm.steps, falling(arm.values[None])
    )[0]
    known = ~np.isnan(needed_B) & (baseline.steps > warmup)
    if not known.any():
        return None
    matters = known & (baseline.steps >= EARLY * baseline.steps[known][-1])
    return float(min(baseline.steps[matters][0], needed_B[matters].min()))


def _noise(values: np.ndarray, part: np.ndarray) -> _Noise:
    values_P = values[part]
    points = len(values_P)
    terms = int(np.clip(points // POINTS_PER_TERM + 1, 2, MOST_TERMS))
    # The log of the point's number: of the step, where points are even. On an axis of seconds the
    # fit must not take a pause of the machine for a jump of the loss.
    number_P = np.log(np.flatnonzero(part) + 1.0)
    place_P = np.interp(number_P, number_P[[0, -1]], [-1.0, 1.0])
    basis_PT = np.linalg.qr(np.polynomial.chebyshev.chebvander(place_P, terms - 1))[0]
    fit_P = basis_PT @ (basis_PT.T @ values_P)
    rest_P = values_P - fit_P
    freedom = points - terms
    # A fit of T terms lowers the lag-1 correlation by about (T + (T + 2) phi) / P (Kendall, 1954,
    # for T = 1; of trends, the same expansion).
    square = rest_P @ rest_P
    measured = (rest_P[1:] @ rest_P[:-1]) / square if square > 0 else 0.0
    phi = (measured + terms / points) / (1 - (terms + 2) / points)
    phi = float(np.clip(phi, *PHI_BETWEEN))
    innovations = rest_P[1:] - phi * rest_P[:-1]
    innovations = (innovations - innovations.mean()) * np.sqrt(points / freedom)
    return _Noise(fit_P, phi, innovations, freedom)


def _redrawn(
    curve: Curve, part: np.ndarray, noise: _Noise, draws: int, seed: tuple[int, ...]
) -> np.ndarray:
    """The curve with its smooth fit in that part, and below it with redrawn noise, [1 + D, P]."""
    values = np.tile(curve.values, (1 + draws, 1))
    values[:, part] = noise.fit
    values[1:, part] += noise.draw(draws, seed)
    return values
