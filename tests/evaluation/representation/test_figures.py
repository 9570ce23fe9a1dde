"""The figures show the points and scores of the record, arm by arm and layer by layer."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.figures.style import arm_styles
from evaluation.representation.figures import (
    MODALITY_COLORS,
    components_figure,
    separation_figure,
    shown_depths,
)
from evaluation.representation.record import ArmStates, Depth, Representation
from evaluation.representation.separation import MEASURES, Score

TOKENS, DEPTHS = 30, 9


def made(arms: int = 2, modalities: int = 3) -> Representation:
    rng = np.random.default_rng(0)

    def depth(place: int, arm: int) -> Depth:
        points = tuple((float(x), float(y)) for x, y in rng.standard_normal((TOKENS, 2)))
        scores = {name: Score(0.1 * place / DEPTHS + 0.2 * arm, 0.0, 0.9) for name in MEASURES}
        return Depth(f"block {place}", points, (0.5, 0.25), scores)

    states = tuple(
        ArmStates(name, name, "x.ckpt", 5, routing, tuple(depth(i, arm) for i in range(DEPTHS)))
        for arm, (name, routing) in enumerate(
            [("dense", "none"), ("moe_4x", "training"), ("mot", "none")][:arms]
        )
    )
    names = ("text", "image", "speech", "sketch")[:modalities]
    modality = tuple(i % modalities for i in range(TOKENS))
    return Representation("val", 0, False, names, modality, 12, states)


def test_a_panel_per_arm_and_shown_layer_holds_all_its_points() -> None:
    found = made()
    figure = components_figure(found, rows=4)
    panels = figure.axes
    assert len(panels) == 4 * 2
    shown = shown_depths(DEPTHS, 4)
    assert shown == [0, 3, 5, 8]
    for place, axes in enumerate(panels):
        depth = found.arms[place % 2].depths[shown[place // 2]]
        (dots,) = axes.collections
        drawn = {tuple(point) for point in np.round(np.asarray(dots.get_offsets()), 9)}
        assert drawn == {tuple(np.round(point, 9)) for point in depth.points}
        assert len(np.unique(dots.get_facecolors(), axis=0)) == 3
        assert axes.get_title() == "50% + 25% of the variance"
    assert [axes.get_ylabel() for axes in panels[::2]] == [f"block {i}" for i in shown]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{name} (10 tokens)" for name in found.modalities
    ]
    assert "sees other tokens" in legend.get_title().get_text()


def test_every_modality_has_its_colour_with_or_without_others() -> None:
    for modalities in (2, 4):
        (legend,) = components_figure(made(1, modalities), rows=2).legends
        colors = [line.get_color() for line in legend.get_lines()]
        assert colors == list(MODALITY_COLORS[:modalities])


def test_a_line_per_arm_follows_its_scores_over_depth() -> None:
    found = made(3)
    figure = separation_figure(found)
    assert len(figure.axes) == len(MEASURES)
    styles = arm_styles(["dense", "moe_4x", "mot"])
    for axes in figure.axes:
        assert axes.get_ylim() == pytest.approx((0, 1.05 * 0.9))
        for place, (line, arm) in enumerate(zip(axes.lines, found.arms, strict=True)):
            expected = [0.1 * i / DEPTHS + 0.2 * place for i in range(DEPTHS)]
            assert line.get_ydata() == pytest.approx(expected)
            assert line.get_color() == styles[arm.label].color
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["dense", "moe_4x †", "mot"]


def test_layers_of_arms_of_different_depth_stand_in_rows_by_their_names() -> None:
    found = made()
    deep, shallow = found.arms
    short = (*shallow.depths[:4], replace(shallow.depths[4], name="block 8"))
    figure = components_figure(replace(found, arms=(deep, replace(shallow, depths=short))), rows=3)
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["block 0", "block 4", "block 8"]
    assert [axes.get_visible() for axes in figure.axes[1::2]] == [True, False, True]
    drawn = np.asarray(figure.axes[5].collections[0].get_offsets())
    assert set(drawn[:, 0]) == {x for x, _ in short[-1].points}
