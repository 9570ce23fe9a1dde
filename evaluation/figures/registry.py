"""Every figure there is, by name: a report draws them all, ``mot-lab plot`` draws one alone.

The modules that draw are imported when they draw, so that a help text can list the figures without
loading matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evaluation.store.study_record import StudyRecord

    Numbers = Callable[[], Mapping[str, Any]]  # gives the content of report.json when it is needed
    Make = Callable[[StudyRecord, Numbers, "View"], Figure]


@dataclass(frozen=True)
class View:
    """Which part of a figure is drawn; None is every part of it."""

    modality: str | None = None
    curve: str | None = None  # "train" or "val"
    axis: str | None = None  # "steps", "flops" or "seconds"


@dataclass(frozen=True)
class FigureKind:
    """One kind of figure.

    Attributes:
        shows: what it shows, as a help text says it.
        make: draws the part that a view asks for.
        takes: the fields of a view that it can be narrowed by.
        per_modality: whether it is always of one modality.
        alone: the view that stands for what is not asked for, where the figure is made alone.
    """

    shows: str
    make: Make
    takes: tuple[str, ...] = ()
    per_modality: bool = False
    alone: View = View()


def _loss(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.losses import loss_curves

    return loss_curves(study, _modality(view), _curves(view), _axes(view))


def _step_matching(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.matching import step_matching

    return step_matching(study, _modality(view), _curves(view), _axes(view)[0])


def _slopes(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.slopes import slopes_figure

    return slopes_figure(numbers(), view.modality, _curves(view), _axes(view)[0])


def _wall_clock(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.wall_clock import wall_clock

    return wall_clock(study, numbers(), view.modality, view.curve or "val")


def _metrics(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.samples import metrics_figure

    return metrics_figure(numbers())


def _generated(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.samples import generated_pictures

    return generated_pictures(study)


def _unrouted(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.experts import unrouted_shares

    return unrouted_shares(study, view.modality)


def _expert_load(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.experts import expert_load

    return expert_load(study, view.modality)


def _sensitivity(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.figures.sensitivity import sensitivity_figure

    return sensitivity_figure(numbers(), view.modality, view.curve or "val")


def _paper_slopes(study: StudyRecord, numbers: Numbers, view: View) -> Figure:
    from evaluation.paper.figure import paper_slopes_figure

    return paper_slopes_figure(numbers())


FIGURES = {
    "loss": FigureKind(
        "losses of one modality over steps, FLOPs and seconds",
        _loss,
        ("modality", "curve", "axis"),
        per_modality=True,
    ),
    "step_matching": FigureKind(
        "loss of one modality and the steps to the baseline's loss, as the paper's Figure 5",
        _step_matching,
        ("modality", "curve", "axis"),
        per_modality=True,
        alone=View(curve="train"),
    ),
    "slopes": FigureKind(
        "slopes of every arm per modality, as the paper's Figures 14 and 15",
        _slopes,
        ("modality", "curve", "axis"),
    ),
    "wall_clock": FigureKind(
        "losses over seconds and time matching, as the paper's Figure 19",
        _wall_clock,
        ("modality", "curve"),
    ),
    "metrics": FigureKind("every metric between its floor and its ceiling", _metrics),
    "generated": FigureKind("generated pictures beside real ones", _generated),
    "unrouted": FigureKind("share of tokens that no expert took", _unrouted, ("modality",)),
    "expert_load": FigureKind("share of tokens each expert took", _expert_load, ("modality",)),
    "sensitivity": FigureKind(
        "slopes under other smoothings, warm-ups and estimates",
        _sensitivity,
        ("modality", "curve"),
    ),
    "paper_slopes": FigureKind("slopes beside the paper's", _paper_slopes),
}


def figure_makers(
    study: StudyRecord, numbers: Mapping[str, Any]
) -> dict[str, Callable[[], Figure]]:
    """What draws each figure of a report, by the name of its file: ``loss_text``, ``metrics``."""
    makers: dict[str, Callable[[], Figure]] = {}
    for name, kind in FIGURES.items():
        for modality in study.modalities if kind.per_modality else [None]:
            file = f"{name}_{modality}" if modality else name
            makers[file] = partial(kind.make, study, lambda: numbers, View(modality))
    return makers


def find_figure(name: str, view: View) -> FigureKind:
    """The kind of that name, which can be narrowed as ``view`` asks.

    Raises:
        ValueError: no such figure, or it has no such part; with what there is.
    """
    if name not in FIGURES:
        raise ValueError(f"no figure {name!r}; the figures: {', '.join(FIGURES)}")
    kind = FIGURES[name]
    for field in fields(View):
        if getattr(view, field.name) is not None and field.name not in kind.takes:
            having = [other for other, one in FIGURES.items() if field.name in one.takes]
            raise ValueError(
                f"the figure {name!r} is not drawn by {field.name}; these are: {', '.join(having)}"
            )
    return kind


def draw_figure(study: StudyRecord, name: str, view: View) -> Figure:
    """One figure of a report, alone.

    Args:
        study: the finished study.
        name: one of ``FIGURES``.
        view: the part to draw.

    Raises:
        ValueError: no such figure, or no such modality, curve or axis; with the valid ones. Or
            the study has nothing to draw in it.
    """
    from evaluation.matching.steps import AXES
    from evaluation.numbers.study import report_numbers
    from evaluation.store.study_record import CURVES

    kind = find_figure(name, view)
    if kind.per_modality and view.modality is None:
        raise ValueError(
            f"the figure {name!r} is of one modality: name one of {', '.join(study.modalities)}"
        )
    valid = {"modality": study.modalities, "curve": CURVES, "axis": AXES}
    for field, known in valid.items():
        if (asked := getattr(view, field)) not in (None, *known):
            raise ValueError(f"no {field} {asked!r} in {study.name!r}; it has {', '.join(known)}")
    asked_for = {k: v for k, v in vars(view).items() if v is not None}
    return kind.make(study, lambda: report_numbers(study), replace(kind.alone, **asked_for))


def _modality(view: View) -> str:
    assert view.modality is not None, "draw_figure and figure_makers name one"
    return view.modality


def _curves(view: View) -> tuple[str, ...]:
    from evaluation.store.study_record import CURVES

    return (view.curve,) if view.curve else CURVES


def _axes(view: View) -> tuple[Any, ...]:
    from evaluation.matching.steps import AXES

    return (view.axis,) if view.axis else AXES
