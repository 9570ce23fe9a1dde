"""One measured figure, with what is needed to read it honestly."""

import math
from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import percentile_interval

DIGITS = 6  # significant ones of a stored bootstrap draw


@dataclass(frozen=True)
class Metric:
    """A figure with its extractor, its sample size, its interval and the two ends of its scale.

    Attributes:
        name: what was measured, in words a table can print ("CLIP score", "CIDEr").
        value: the figure, or None where it is not available; ``note`` then says why.
        low, high: ends of the 95% bootstrap interval over samples; None where there is none.
        n: number of samples behind the value (pictures, captions, tokens: the note says which).
        extractor: what turned the samples into numbers: a network, a tokenizer, a checker.
        ceiling: the same figure for held-out real samples: what a perfect model would get.
        floor: the same figure where captions do not belong to pictures: what no skill gets.
        note: one sentence for the reader of the table; empty where nothing needs saying.
        draws: the bootstrap draws behind the interval, to ``DIGITS`` significant digits. Metrics
            over the same samples have draws at the same positions, so that a difference of arms
            or a mean over seeds has an interval over samples too: that of the draws' difference
            or mean, draw by draw. Empty where there are none.

    Raises:
        ValueError: a figure or draw is NaN or infinite, the interval is reversed or half given, or
            a value is missing without a note.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    extractor: str
    ceiling: float | None
    floor: float | None
    note: str = ""
    draws: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "draws", tuple(self.draws))
        if not np.isfinite(self.draws).all():
            place = int(np.flatnonzero(~np.isfinite(self.draws))[0])
            raise ValueError(
                f"bootstrap draw {place} of the metric {self.name!r} is {self.draws[place]}"
            )
        for field in ("value", "low", "high", "ceiling", "floor"):
            figure = getattr(self, field)
            if figure is not None and not math.isfinite(figure):
                raise ValueError(f"{field} of the metric {self.name!r} is {figure}: not a number")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"the metric {self.name!r} has half an interval: give both ends")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval of {self.name!r} is reversed: {self.low} > {self.high}")
        if self.value is None and not self.note:
            raise ValueError(f"the metric {self.name!r} has no value: its note must say why")

    @classmethod
    def sampled(
        cls,
        name: str,
        value: float | None,
        draws: np.ndarray,
        n: int,
        extractor: str,
        ceiling: float | None,
        floor: float | None,
        note: str = "",
    ) -> "Metric":
        """The metric with the interval of its bootstrap draws, float [draws] or none [0]."""
        kept = tuple(float(f"{draw:.{DIGITS}g}") for draw in draws)
        low, high = percentile_interval(np.array(kept)) if kept else (None, None)
        return cls(name, value, low, high, n, extractor, ceiling, floor, note, kept)


def not_available(name: str, extractor: str, why: str) -> Metric:
    """A metric that could not be measured, printed as such instead of being left out."""
    return Metric(name, None, None, None, 0, extractor, None, None, note=why)
