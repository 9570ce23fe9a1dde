"""The figure of how much each slope depends on the way it is estimated."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.intervals import Estimate, draw_estimates
from evaluation.figures.losses import CURVE_TITLES
from evaluation.figures.style import ArmStyle, arm_styles, drawing
from evaluation.wording import LEAK_NOTE, marked

ESTIMATES = {"fit": "fitted slope", "end": "end ratio"}
Variant = tuple[str, float, str]


def sensitivity_figure(
    numbers: Mapping[str, Any], modality: str | None = None, curve: str = "val"
) -> Figure:
    """A row per way of estimating, a point per arm with its interval, a panel per modality.

    Args:
        numbers: the content of report.json, with its "sensitivity".
        modality: the one to draw; None draws all.
        curve: of which loss, "train" or "val".

    Raises:
        ValueError: there are no such variants.
    """
    modalities = numbers["modalities"] if modality is None else [modality]
    rows = [
        row
        for row in numbers["sensitivity"]
        if row["curve"] == curve and row["modality"] in modalities
    ]
    if not rows:
        of = f"of the {CURVE_TITLES[curve]} loss of {' and '.join(modalities)}"
        raise ValueError(f"study {numbers['study']!r} has no variants {of} to draw")
    variants = sorted({_variant(row): row["is_default"] for row in rows}.items(), key=_place)[::-1]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    styles = arm_styles(list(numbers["arms"]))
    with drawing():
        lines = len(variants) * max(0.26, 0.11 * len(arms))
        figure = Figure(figsize=(3.4 + 3.7 * len(modalities), 1.7 + lines), layout="constrained")
        panels = figure.subplots(1, len(modalities), sharey=True, squeeze=False)[0]
        for axes, of in zip(panels, modalities, strict=True):
            of_panel = [row for row in rows if row["modality"] == of]
            _draw(axes, of_panel, [variant for variant, _ in variants], arms, styles)
            axes.set(title=of, xlabel=f"share of the steps of {numbers['baseline']}")
        panels[0].set_yticks(range(len(variants)), [_label(*one) for one in variants])
        for tick, (_, is_default) in zip(panels[0].get_yticklabels(), variants, strict=True):
            tick.set_fontweight("bold" if is_default else "normal")
        title = f"Slopes of the {CURVE_TITLES[curve]} loss, estimated in other ways"
        figure.suptitle(f"{title}\n(bold: as in the rest of the report)", fontsize=12)
        _legend(figure, numbers, arms, styles, any(row["value"] is None for row in rows))
    return figure


def _variant(row: Mapping[str, Any]) -> Variant:
    return row["smoothing"], row["warmup_steps"], row["estimate"]


def _place(variant: tuple[Variant, bool]) -> tuple[bool, bool]:
    """From the top down: the default, the other fitted slopes, the end ratios."""
    (_, _, estimate), is_default = variant
    return not is_default, estimate != "fit"


def _label(variant: Variant, is_default: bool) -> str:
    smoothing, warmup, estimate = variant
    start = f", past step {warmup:,.0f}" if estimate == "fit" else ""  # an end has no start
    return f"{ESTIMATES[estimate]}, {smoothing}{start}"


def _draw(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    variants: Sequence[Variant],
    arms: Sequence[str],
    styles: Mapping[str, ArmStyle],
) -> None:
    for height in range(0, len(variants), 2):
        axes.axhspan(height - 0.5, height + 0.5, color="#f3f3f3", zorder=0)
    axes.axvline(1, linestyle="--", color="#777777", linewidth=1)
    apart = 0.8 / len(arms)
    estimates = [
        Estimate(
            variants.index(_variant(row)) + 0.4 - apart * (arms.index(row["arm"]) + 0.5),
            row["value"],
            row["low"],
            row["high"],
            styles[row["arm"]],
        )
        for row in rows
    ]
    draw_estimates(axes, estimates, at_least=[1.0])
    axes.set_ylim(-0.5, len(variants) - 0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _legend(
    figure: Figure,
    numbers: Mapping[str, Any],
    arms: Sequence[str],
    styles: Mapping[str, ArmStyle],
    missing: bool,
) -> None:
    handles = [
        Line2D([], [], color=style.color, marker=style.marker, label=marked(numbers, arm))
        for arm, style in ((arm, styles[arm]) for arm in arms)
    ]
    if missing:
        handles.append(
            Line2D([], [], color="#444444", marker="x", linestyle="", label="never reached")
        )
    leaks = any(numbers["arms"][arm]["loss_sees_other_tokens"] for arm in arms)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 6),
        title=LEAK_NOTE if leaks else None,
        title_fontsize=9,
    )
