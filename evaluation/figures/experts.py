"""What the experts of expert-choice arms do with the tokens of each modality, per layer.

Shapes: S seeds, L layers, E experts of a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from evaluation.figures.losses import over_seeds
from evaluation.figures.style import ArmStyle, arm_styles, drawing
from evaluation.store.study_record import StudyRecord

ROUTINGS = ("training", "causal")
LIGHT_TO_DARK = "Blues"  # one hue, so that only the lightness has to be seen
CELLS = 128  # with at most so many cells a heat map has their numbers written in
ROW = 0.21  # inches that a layer's row of a heat map takes
LABELS = 12  # layers of a heat map that are named, at most

Key = tuple[str, str, str]  # routing, modality, arm


@dataclass(frozen=True, eq=False)
class ExpertShares:
    """What the experts of one arm did with the tokens of one modality under one routing.

    Attributes:
        layers: int64 [L], the layers that have experts for this modality.
        unrouted_SL: float64 [S, L], share of the modality's tokens that no expert took, by seed.
        load_LE: float64 [L, E], share of the modality's tokens that each expert took, of the first
            of these seeds: expert 0 of one seed is not that of another, and a mean would mix them.
            Rows need not sum to 1: a token may have several experts, or none.
    """

    layers: np.ndarray
    unrouted_SL: np.ndarray
    load_LE: np.ndarray


def expert_shares(study: StudyRecord, arm: str, modality: str, routing: str) -> ExpertShares | None:
    """The shares of one arm, over the seeds that recorded them; None where none did, or where the
    arm has no experts for the modality, or no causal router.

    Args:
        study: the finished study.
        arm, modality: whose.
        routing: "training" or "causal".

    Raises:
        ValueError: the arm's seeds do not agree on their layers and experts.
    """
    seeds = []
    for recorded in (run.routing for run in study.of_arm(arm) if run.routing is not None):
        rows = [row for row in recorded["experts"] if row["modality"] == modality]
        rows = [row for row in rows if row[f"load_{routing}"] is not None]
        seeds.append(sorted(rows, key=lambda row: row["layer"]))
    shapes = {tuple((row["layer"], len(row[f"load_{routing}"])) for row in rows) for rows in seeds}
    if len(shapes) > 1:
        raise ValueError(f"the seeds of arm {arm!r} differ in their layers or experts: {shapes}")
    if not any(shapes):
        return None
    return ExpertShares(
        layers=np.array([row["layer"] for row in seeds[0]]),
        unrouted_SL=np.array([[row[f"unrouted_{routing}"] for row in rows] for rows in seeds]),
        load_LE=np.array([row[f"load_{routing}"] for row in seeds[0]]),
    )


def unrouted_shares(study: StudyRecord, modality: str | None = None) -> Figure:
    """Share of the tokens that no expert took, over layers: mean over seeds, least to most.

    A column per modality (or the one asked for), a row per routing.

    Raises:
        ValueError: no arm has experts for the modality, or they were not recorded.
    """
    found = _all_shares(study, modality)
    routings, modalities = _named(found, 0), _named(found, 1)
    styles = arm_styles(list(study.arms))
    with drawing():
        size = 1.4 + max(3.6 * len(modalities), 4.2), 1.2 + 2.5 * len(routings)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(
            len(routings), len(modalities), sharex=True, sharey=True, squeeze=False
        )
        for (routing, of, arm), shares in found.items():
            axes = grid[routings.index(routing), modalities.index(of)]
            axes.set_title(f"{of} tokens, {routing} routing")
            _draw_unrouted(axes, shares, styles[arm], arm)
        for axes in grid[:, 0]:
            axes.set_ylabel("tokens without an expert (%)")
        for axes in grid[-1]:
            axes.set_xlabel("layer")
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        grid[0, 0].set_ylim(bottom=0)
        grid[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        figure.suptitle(f"Tokens that no expert took,\n{over_seeds(study)}{_missing(study)}")
        handles = {
            label: handle
            for axes in grid.flat
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        ordered = {arm: handles[arm] for arm in study.arms if arm in handles}
        columns = min(len(ordered), 5)
        figure.legend(ordered.values(), ordered, loc="outside lower center", ncols=columns)
    return figure


def expert_load(study: StudyRecord, modality: str | None = None) -> Figure:
    """Share of a modality's tokens that each expert took, as heat maps of layers by experts.

    A row per arm, a column per modality (or the one asked for) and routing; of the first seed.

    Raises:
        ValueError: no arm has experts for the modality, or they were not recorded.
    """
    found = _all_shares(study, modality)
    arms = [arm for arm in study.arms if arm in _named(found, 2)]
    columns = [(of, routing) for of in _named(found, 1) for routing in _named(found, 0)]
    layers = {
        arm: max(len(one.layers) for key, one in found.items() if key[2] == arm) for arm in arms
    }
    heights = [max(1.8, 0.85 + ROW * layers[arm]) for arm in arms]
    width = 2.4 + 2.1 * len(columns)
    top = max(one.load_LE.max() for one in found.values())
    written = all(one.load_LE.size <= CELLS for one in found.values())
    with drawing():
        figure = Figure(figsize=(width, 1.2 + sum(heights)), layout="constrained")
        grid = figure.subplots(len(arms), len(columns), squeeze=False, height_ratios=heights)
        for row, arm in zip(grid, arms, strict=True):
            for axes, (of, routing) in zip(row, columns, strict=True):
                _draw_load(axes, found.get((routing, of, arm)), top, written)
            row[0].set_ylabel(f"{arm}\nlayer")
        for axes, (of, routing) in zip(grid[0], columns, strict=True):
            axes.set_title(f"{of} tokens,\n{routing} routing")
        figure.colorbar(
            ScalarMappable(Normalize(0, top), LIGHT_TO_DARK),
            ax=grid,
            label="% of the modality's tokens",
            format=PercentFormatter(1.0, symbol=""),
            fraction=0.05,
            pad=0.02,
        )
        figure.suptitle(f"Tokens that each expert took, first seed{_missing(study)}")
    return figure


def _all_shares(study: StudyRecord, modality: str | None) -> dict[Key, ExpertShares]:
    """By routing, modality and arm, in this order."""
    modalities = study.modalities if modality is None else (modality,)
    found = {
        (routing, of, arm): shares
        for routing in ROUTINGS
        for of in modalities
        for arm in study.arms
        if (shares := expert_shares(study, arm, of, routing)) is not None
    }
    if not found:
        tokens = " or ".join(modalities)
        raise ValueError(
            f"no arm of study {study.name!r} has experts for {tokens} tokens{_missing(study)}"
        )
    return found


def _missing(study: StudyRecord) -> str:
    """A line on the runs with experts whose evaluation, by an older version, has no record."""
    runs = [run for run in study.runs if run.sees_other_tokens and run.routing is None]
    names = ", ".join(f"{run.arm}-seed{run.seed}" for run in runs)
    return f"\n(not recorded, evaluate again: {names})" if names else ""


def _named(found: Mapping[Key, ExpertShares], part: int) -> list[str]:
    return list(dict.fromkeys(key[part] for key in found))


def _draw_unrouted(axes: Axes, shares: ExpertShares, style: ArmStyle, arm: str) -> None:
    look: dict[str, Any] = {"marker": style.marker, "markersize": 5, "linewidth": 1.6}
    mean_L = shares.unrouted_SL.mean(axis=0)
    axes.plot(shares.layers, mean_L, style.line, color=style.color, label=arm, **look)
    least_L, most_L = shares.unrouted_SL.min(axis=0), shares.unrouted_SL.max(axis=0)
    axes.fill_between(shares.layers, least_L, most_L, color=style.color, alpha=0.18, linewidth=0)


def _draw_load(axes: Axes, shares: ExpertShares | None, top: float, written: bool) -> None:
    axes.grid(False)
    if shares is None:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="#555555")
        return
    load_LE = shares.load_LE
    axes.imshow(load_LE, cmap=LIGHT_TO_DARK, vmin=0, vmax=top, aspect="auto")
    axes.set_xticks(range(load_LE.shape[1]))
    axes.set_xlabel("expert")
    every = -(-len(shares.layers) // LABELS)
    axes.set_yticks(range(len(shares.layers))[::every], shares.layers[::every])
    axes.tick_params(length=0)
    axes.spines[:].set(visible=True, color="#bbbbbb")
    if written:
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "in_layout": False}
        for (layer, expert), share in np.ndenumerate(load_LE):
            color = "white" if share > 0.6 * top else "#222222"
            axes.text(expert, layer, f"{100 * share:.0f}", color=color, **look)
