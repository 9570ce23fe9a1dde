"""Points with intervals along a horizontal axis, shared by the figures that compare slopes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.typing import FillStyleType

from evaluation.figures.style import ArmStyle

ROOM = 0.6  # an interval may widen the axis by so much of the range of the points


@dataclass(frozen=True)
class Estimate:
    """One figure with its interval, at a height; ``None`` is a figure that there is not."""

    height: float
    value: float | None
    low: float | None
    high: float | None
    style: ArmStyle
    fill: FillStyleType = "full"


def main_interval(row: Mapping[str, Any]) -> tuple[float | None, float | None, str | None]:
    """Low and high of a slope and over what: over seeds, or, with one seed, over points."""
    if row["slope_low"] is not None:
        return row["slope_low"], row["slope_high"], "seeds"
    if row["points_low"] is not None:
        return row["points_low"], row["points_high"], "points"
    return None, None, None


def draw_estimates(axes: Axes, estimates: Sequence[Estimate], at_least: Sequence[float]) -> None:
    """Draws them with an axis fitted to the points.

    An interval much wider than the points' range is cut off at the frame, and an arrowhead there
    says that it goes on; a missing figure is a cross on the right edge.

    Args:
        axes: where to draw.
        estimates: what to draw.
        at_least: values that the axis must show besides.
    """
    left, right = fitted_limits(estimates, at_least)
    axes.set_xlim(left, right)
    for one in estimates:
        look: dict[str, Any] = {"color": one.style.color, "clip_on": False, "in_layout": False}
        if one.value is None:
            edge = axes.get_yaxis_transform()
            axes.plot(1.0, one.height, "x", transform=edge, markersize=6, **look)
            continue
        if one.low is not None and one.high is not None:
            ends = max(one.low, left), min(one.high, right)
            axes.hlines(one.height, *ends, color=one.style.color, linewidth=1.6, alpha=0.8)
            for end, limit, arrow in ((one.low, left, "<"), (one.high, right, ">")):
                if (end < limit) if arrow == "<" else (end > limit):
                    axes.plot(limit, one.height, arrow, markersize=4, **look)
        face: dict[str, Any] = {"fillstyle": one.fill, "markerfacecoloralt": "white"}
        axes.plot(one.value, one.height, one.style.marker, markersize=6, **face, **look)


def fitted_limits(estimates: Sequence[Estimate], at_least: Sequence[float]) -> tuple[float, float]:
    """Least and most of an axis that shows all points, and intervals as far as there is room."""
    values = [one.value for one in estimates if one.value is not None] + list(at_least)
    least, most = min(values, default=0.0), max(values, default=1.0)
    room = ROOM * (most - least) or 0.5 * abs(most) or 1.0
    low = min([one.low for one in estimates if one.low is not None], default=least)
    high = max([one.high for one in estimates if one.high is not None], default=most)
    margin = 0.1 * room
    return min(least, max(low, least - room)) - margin, max(most, min(high, most + room)) + margin
