"""The paper's slopes as records, by the names that a study gives its figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from evaluation.paper.tables import FIGURES
from mot_lab.paper_figures import parse_paper_figure

KEYS = ("size", "curve", "modality", "detail")
NONE = "-"


@dataclass(frozen=True)
class PaperSlope:
    """One slope that the paper prints.

    Attributes:
        figure: of the paper, like ``figure_6``.
        size: of its models, like ``443M``.
        detail: held-out set, or how the model was trained; may be empty.
        curve: ``train`` or ``val``.
        axis: ``steps`` or ``seconds``.
        modality, arm: as in our studies.
        slope: share of the dense baseline's steps or seconds.
    """

    figure: str
    size: str
    detail: str
    curve: str
    axis: str
    modality: str
    arm: str
    slope: float


def paper_slopes(names: Sequence[str]) -> list[PaperSlope]:
    """The slopes of some figures, in the paper's order.

    Args:
        names: like ``figure_6`` (every size) or ``figure_6/443M``.

    Raises:
        ValueError: no such figure or size.
    """
    found = []
    for name in names:
        figure, sizes = parse_paper_figure(name)
        found += [slope for slope in _slopes_of(figure) if slope.size in sizes]
    return found


@cache
def _slopes_of(figure: str) -> tuple[PaperSlope, ...]:
    of = FIGURES[figure]
    header, *lines = [line.split() for line in of.table.splitlines() if line.strip()] or [[*KEYS]]
    assert tuple(header[: len(KEYS)]) == KEYS, f"{figure}: {header}"
    slopes = []
    for line in lines:
        size, curve, modality, detail = line[: len(KEYS)]
        said = "" if detail == NONE else detail.replace("_", " ")
        for arm, value in zip(header[len(KEYS) :], line[len(KEYS) :], strict=True):
            if value != NONE:
                place = (figure, size, said, curve, of.axis, modality, arm)
                slopes.append(PaperSlope(*place, float(value)))
    return tuple(slopes)
