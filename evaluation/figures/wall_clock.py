"""The figure of time: losses over seconds, and time matching measured and at a stated ratio.

The paper's Figure 19 (arXiv 2411.04996) on the machine of the study; a step-time ratio of another
system, such as those that the paper's slopes imply, can be laid beside the measured one.
"""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.intervals import Estimate, draw_estimates, main_interval
from evaluation.figures.losses import (
    CURVE_TITLES,
    arm_label,
    draw_losses,
    leak_note,
    loss_bands,
    loss_unit,
    over_seeds,
)
from evaluation.figures.slopes import other_arms, slope_rows
from evaluation.figures.style import arm_styles, drawing
from evaluation.store.study_record import StudyRecord
from evaluation.wording import Numbers, marked, show

APART = 0.18  # of a measured and a stated slope, in lines


def wall_clock(
    study: StudyRecord, numbers: Numbers, modality: str | None = None, curve: str = "val"
) -> Figure:
    """A row per modality: its loss over seconds, and the share of the baseline's time per arm.

    Args:
        study: the finished study.
        numbers: its ``report.json``, with time matching measured and at stated ratios.
        modality: the one to draw; None draws all.
        curve: of which loss, "train" or "val".

    Raises:
        ValueError: the study has no arm beside its baseline.
    """
    modalities = numbers["modalities"] if modality is None else [modality]
    arms = other_arms(numbers)
    if not arms:
        raise ValueError(f"study {study.name!r} has no arm beside {study.baseline!r}")
    with drawing():
        height = max(2.4, 0.9 + 0.42 * len(arms))
        figure = Figure(figsize=(9.6, 1.3 + height * len(modalities)), layout="constrained")
        grid = figure.subplots(len(modalities), 2, squeeze=False)
        for (left, right), of in zip(grid, modalities, strict=True):
            draw_losses(left, study, loss_bands(study, of, curve), "seconds")
            left.set_title(f"{of}, {CURVE_TITLES[curve]} loss")
            left.set_ylabel(f"loss ({loss_unit(study, of)})")
            _draw_shares(right, numbers, of, curve)
            right.set_title(f"{of}, time to the same loss")
            right.set_xlabel(f"share of the seconds of {study.baseline}")
        figure.suptitle(f"Wall clock, {over_seeds(study)}")
        figure.legend(
            handles=_handles(study, stated=bool(numbers["matching_at_ratio"])),
            loc="outside lower center",
            ncols=5,
            title=leak_note(study),
            title_fontsize=9,
        )
    return figure


def _draw_shares(axes: Axes, numbers: Numbers, modality: str, curve: str) -> None:
    """Filled markers are measured; hollow ones below them, with their ratio, are stated."""
    arms, styles = other_arms(numbers), arm_styles(list(numbers["arms"]))
    measured = slope_rows(numbers["matching"], modality, curve, "seconds")
    stated = slope_rows(numbers["matching_at_ratio"], modality, curve, "seconds")
    estimates = []
    for place, arm in enumerate(arms):
        height = place - APART * (arm in stated)
        row = measured[arm]
        estimates.append(Estimate(height, row["slope"], *main_interval(row)[:2], styles[arm]))
        if arm in stated:
            row, height = stated[arm], place + APART
            estimates.append(
                Estimate(height, row["slope"], *main_interval(row)[:2], styles[arm], "none")
            )
            edge = axes.get_yaxis_transform()
            said = f"at {show(row['ratio'])}x"
            axes.text(1.04, height, said, transform=edge, va="center", fontsize=8.5)
    axes.axvline(1, linestyle="--", color="#777777", linewidth=1)
    draw_estimates(axes, estimates, at_least=[1.0])
    axes.set_yticks(range(len(arms)), [marked(numbers, arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _handles(study: StudyRecord, stated: bool) -> list[Line2D]:
    styles = arm_styles(list(study.arms))
    looks: dict[str, dict[str, Any]] = {
        arm: {"color": style.color, "linestyle": style.line} for arm, style in styles.items()
    }
    handles = [Line2D([], [], label=arm_label(study, arm), **look) for arm, look in looks.items()]
    grey: dict[str, Any] = {"color": "#444444", "marker": "o", "linestyle": ""}
    handles.append(Line2D([], [], label="measured", **grey))
    if stated:
        handles.append(Line2D([], [], fillstyle="none", label="at a stated step time", **grey))
    return handles
