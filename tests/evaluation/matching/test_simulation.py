"""Simulation study: do the intervals of a slope cover the truth as often as they say?

The curves are like those of the demo (`experiments/openmoji/transfusion.yaml`: a validation every
50 of 1,500 steps). Past the warm-up its text loss falls from 3.37 to 2.52 and its image loss from
1.02 to 0.35 as power laws do, with noise of 0.009 and 0.007 about a smooth curve from one
validation to the next, without autocorrelation that 30 points could show; training losses, every
10 steps, have noise of 0.055 (image). Two seeds differed by 4 to 8% in their slopes. An arm of
slope s has at step n the baseline's loss of step n / s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.signal import lfilter

from evaluation.curve import Curve
from evaluation.matching.seeds import SeedMatching, match_over_seeds

DRAWS = 200
SEED_SPREAD = 0.04  # standard deviation of a seed's slope, as a share of it


@dataclass(frozen=True)
class Loss:
    """A power law ``low + height * n ** -power`` with AR(1) noise, logged every so many steps."""

    low: float
    height: float
    power: float
    noise: float
    phi: float = 0.0
    every: int = 50
    last: int = 1500
    warmup: int = 100

    def curve(self, slope: float, generator: np.random.Generator) -> Curve:
        steps = np.arange(self.every, self.last + 1.0, self.every)
        white = generator.normal(0, np.sqrt(1 - self.phi**2), len(steps) + 50)
        noise = self.noise * lfilter([1.0], [1.0, -self.phi], white)[50:]
        return Curve(steps, self.low + self.height * (steps / slope) ** -self.power + noise)


TEXT = Loss(low=1.9, height=6.0, power=0.31, noise=0.009)
IMAGE = Loss(low=0.05, height=4.6, power=0.36, noise=0.007)
AUTOCORRELATED = Loss(low=1.9, height=6.0, power=0.31, noise=0.009, phi=0.5)
TRAINING = Loss(low=0.05, height=4.6, power=0.36, noise=0.055, every=10)
LONG = Loss(1.9, 6.0, 0.31, noise=0.06, phi=0.3, every=20, last=20_000, warmup=1000)


def simulate(
    loss: Loss, slopes_of_draws: Sequence[Sequence[float]], noise: bool
) -> list[SeedMatching]:
    """One study per draw, with the slope of each of its seeds."""
    found = []
    for draw, slopes in enumerate(slopes_of_draws):
        generator = np.random.default_rng([7, draw])
        pairs = [(loss.curve(1.0, generator), loss.curve(slope, generator)) for slope in slopes]
        baselines, arms = zip(*pairs, strict=True)
        found.append(match_over_seeds(baselines, arms, loss.warmup, noise))
    return found


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("loss", "slope"), [(TEXT, 0.5), (TEXT, 0.85), (IMAGE, 1.0), (IMAGE, 1.5)])
def test_the_interval_over_seeds_covers_the_truth(loss, slope, seeds):
    generator = np.random.default_rng(seeds)
    slopes = generator.normal(slope, SEED_SPREAD * slope, (DRAWS, seeds))
    found = simulate(loss, slopes, noise=False)
    covered = np.mean([one.slope_low <= slope <= one.slope_high for one in found])
    assert 0.90 <= covered <= 0.99
    assert np.mean([one.slope for one in found]) == pytest.approx(slope, rel=0.01)


@pytest.mark.parametrize(
    ("loss", "slope"),
    [
        *((TEXT, slope) for slope in (0.5, 0.85, 1.0, 1.3, 2.0)),
        *((IMAGE, slope) for slope in (0.85, 1.3)),
        *((AUTOCORRELATED, slope) for slope in (0.5, 1.0, 2.0)),
        *((TRAINING, slope) for slope in (0.7, 1.3)),
    ],
)
def test_the_interval_over_points_covers_the_truth(loss, slope):
    found = simulate(loss, [[slope]] * DRAWS, noise=True)
    assert all(one.slope_low is None for one in found)
    covered = np.mean([one.points_low <= slope <= one.points_high for one in found])
    assert 0.90 <= covered <= 0.99
    assert np.mean([one.slope for one in found]) == pytest.approx(slope, rel=0.04)


@pytest.mark.parametrize("slope", [0.7, 1.4])
def test_it_does_so_on_long_curves_that_it_averages_first(slope):
    found = simulate(LONG, [[slope]] * DRAWS, noise=True)
    covered = np.mean([one.points_low <= slope <= one.points_high for one in found])
    assert 0.90 <= covered <= 0.99
    assert np.mean([one.slope for one in found]) == pytest.approx(slope, rel=0.03)


def test_over_points_the_seeds_are_held_as_they_are():
    # The truth is then the mean of these very slopes, however far apart they are.
    slopes = np.random.default_rng(0).normal(0.85, 0.1, (DRAWS, 3))
    found = simulate(TEXT, slopes, noise=True)
    truths = slopes.mean(axis=1)
    pairs = list(zip(found, truths, strict=True))
    covered = np.mean([one.points_low <= truth <= one.points_high for one, truth in pairs])
    assert 0.90 <= covered <= 0.99
    assert np.mean([one.points_high - one.points_low for one in found]) < 0.06
    assert np.mean([one.slope_high - one.slope_low for one in found]) > 0.3
