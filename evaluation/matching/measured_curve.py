"""A loss that somebody measured: over steps and, where they are known, over FLOPs and seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from evaluation.curve import Curve, monotone
from evaluation.matching.steps import Axis


@dataclass(frozen=True)
class Row:
    """One measured loss; ``place`` is where it stands, such as "line 7"."""

    place: str
    step: float
    value: float
    costs: Mapping[str, float]  # cumulative "flops" and "seconds", where the row has them


@dataclass(frozen=True, eq=False)
class MeasuredCurve:
    """One loss of one run, on every axis it is known on.

    Attributes:
        source: the file or run it was read from.
        values: float64 [P].
        positions: for "steps", and where they are known "flops" and "seconds", float64 [P].
        left_out: points whose value was not finite, as the source says, and which are not in it.
        unlogged: lines of a file that hold no value of this loss.
        notes: what else a reader should know.
    """

    source: str
    values: np.ndarray
    positions: Mapping[Axis, np.ndarray]
    left_out: int
    unlogged: int
    notes: tuple[str, ...]

    def on(self, axis: Axis) -> Curve:
        """The curve over that axis."""
        return Curve(self.positions[axis], self.values, f"{self.source} over {axis}")


def measured_curve(
    source: str,
    metric: str,
    rows: Sequence[Row],
    left_out: int = 0,
    unlogged: int = 0,
    notes: Sequence[str] = (),
) -> MeasuredCurve:
    """The curve of these rows, which must be in the order of their steps.

    Raises:
        ValueError: fewer than two rows; a step or value is not finite; steps do not rise; FLOPs or
            seconds do not rise; the loss never falls. Each with the place.
    """
    if len(rows) < 2:
        raise ValueError(
            f"{source}: {len(rows)} values of {metric!r}; a curve needs at least two"
            + (f" ({left_out} more are not finite)" if left_out else "")
        )
    _check(source, metric, rows)
    said = list(notes)
    positions: dict[Axis, np.ndarray] = {"steps": np.array([row.step for row in rows])}
    costs: tuple[Axis, ...] = ("flops", "seconds")
    for cost in costs:
        lacking = [row for row in rows if cost not in row.costs]
        if not lacking:
            positions[cost] = np.array([row.costs[cost] for row in rows])
        elif len(lacking) < len(rows):
            said.append(
                f"{cost} is not used: {len(lacking)} of {len(rows)} values of {metric!r} have "
                f"none beside them, the first at {lacking[0].place}"
            )
    curve = MeasuredCurve(
        source,
        np.array([row.value for row in rows]),
        positions,
        left_out,
        unlogged,
        tuple(said),
    )
    levels = monotone(curve.on("steps"))
    if levels[0] == levels[-1]:
        raise ValueError(
            f"{source}: {metric!r} does not fall from its first to its last step; matching needs a "
            "loss, which does"
        )
    return curve


def _check(source: str, metric: str, rows: Sequence[Row]) -> None:
    for row in rows:
        for what, number in ((metric, row.value), ("step", row.step), *row.costs.items()):
            if not np.isfinite(number):
                raise ValueError(
                    f"{source}, {row.place}: {what} is {number}; if that point was not measured "
                    "delete it, and if the run diverged there match only what came before"
                )
        if row.step < 0:
            raise ValueError(f"{source}, {row.place}: step {row.step:g} is below zero")
    for before, row in pairwise(rows):
        if row.step == before.step:
            raise ValueError(
                f"{source}, {row.place}: step {row.step:g} again, it is also at {before.place}; "
                "keep one value per step"
            )
        if row.step < before.step:
            raise ValueError(
                f"{source}, {row.place}: step {row.step:g} follows step {before.step:g} of "
                f"{before.place}; sort the lines by step"
            )
        for cost in row.costs.keys() & before.costs.keys():
            if row.costs[cost] <= before.costs[cost]:
                raise ValueError(
                    f"{source}, {row.place}: {cost} {row.costs[cost]:g} is not above the "
                    f"{before.costs[cost]:g} of {before.place}; {cost} count from the start of "
                    "the run"
                )
