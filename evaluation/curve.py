"""A loss over optimiser steps, checked when it is made."""

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import isotonic_regression


@dataclass(frozen=True, eq=False)
class Curve:
    """A loss over optimiser steps.

    Attributes:
        steps: float64 [P], rising, not negative.
        values: float64 [P], the loss at each step.
        name: how error messages call the curve.

    Raises:
        ValueError: fewer than two points, lengths differ, a value is NaN or infinite, steps do not
            rise; each with the position.
    """

    steps: np.ndarray
    values: np.ndarray
    name: str = "curve"

    def __post_init__(self) -> None:
        steps = np.array(self.steps, dtype=np.float64)
        values = np.array(self.values, dtype=np.float64)
        if steps.ndim != 1 or steps.shape != values.shape:
            raise ValueError(
                f"{self.name}: {steps.shape} steps and {values.shape} values; "
                "a curve needs one value for each step"
            )
        if len(steps) < 2:
            raise ValueError(f"{self.name}: {len(steps)} points; a curve needs at least two")
        for what, array in (("step", steps), ("value", values)):
            if not np.isfinite(array).all():
                place = int(np.flatnonzero(~np.isfinite(array))[0])
                raise ValueError(
                    f"{self.name}: the {what} at position {place} (step {steps[place]:g}) is "
                    f"{array[place]}; leave out what was not measured, or find why it diverged"
                )
        if steps[0] < 0:
            raise ValueError(f"{self.name}: the first step is {steps[0]:g}, below zero")
        if (np.diff(steps) <= 0).any():
            place = int(np.flatnonzero(np.diff(steps) <= 0)[0])
            raise ValueError(
                f"{self.name}: step {steps[place + 1]:g} at position {place + 1} follows step "
                f"{steps[place]:g}; sort the points and keep one per step"
            )
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "values", values)


def monotone(curve: Curve) -> np.ndarray:
    """The non-increasing curve nearest to ``curve`` in squares, at its own steps, float64 [P]."""
    return isotonic_regression(curve.values, increasing=False)
