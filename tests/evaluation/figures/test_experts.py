"""The figures of experts show the shares of the study's record, arm by arm and layer by layer."""

from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from evaluation.figures.experts import LIGHT_TO_DARK, expert_load, expert_shares, unrouted_shares
from evaluation.figures.style import arm_styles
from evaluation.store.study_record import RunRecord, StudyRecord

LOADS = {
    "text": [[0.4, 0.3], [0.2, 0.5], [0.1, 0.1]],
    "image": [[0.9, 0.0], [0.7, 0.3], [1.0, 1.0]],
}


def experts(seed: int, causal: bool = True) -> dict[str, Any]:
    """Three layers of two experts; causal routing takes a tenth less, seeds differ by 0.02 in what
    has no expert, and the second seed has its experts in the other order.
    """
    return {
        "experts": [
            {
                "layer": layer,
                "tower": "text+image",
                "modality": modality,
                "tokens": 100,
                "unrouted_training": 0.3 - 0.1 * layer + 0.02 * seed,
                "unrouted_causal": 0.4 - 0.1 * layer + 0.02 * seed if causal else None,
                "load_training": load,
                "load_causal": [0.9 * share for share in load] if causal else None,
            }
            for modality, loads in LOADS.items()
            for layer, load in reversed([(k, one[:: 1 - 2 * seed]) for k, one in enumerate(loads)])
        ]
    }


@pytest.fixture
def routed(study: StudyRecord) -> StudyRecord:
    def of(run: RunRecord) -> RunRecord:
        return replace(run, routing=experts(run.seed) if run.arm == "moe_4x" else None)

    return replace(study, runs=tuple(of(run) for run in study.runs))


def panels(figure: Figure) -> dict[str, Any]:
    return {axes.get_title().replace("\n", " "): axes for axes in figure.axes if axes.get_title()}


def test_shares_of_every_seed_and_loads_of_the_first_in_the_order_of_layers(
    routed: StudyRecord,
) -> None:
    shares = expert_shares(routed, "moe_4x", "text", "causal")
    assert shares is not None and shares.layers.tolist() == [0, 1, 2]
    np.testing.assert_allclose(shares.unrouted_SL, [[0.4, 0.3, 0.2], [0.42, 0.32, 0.22]])
    np.testing.assert_allclose(shares.load_LE, 0.9 * np.array(LOADS["text"]))
    assert expert_shares(routed, "mot", "text", "training") is None


def test_unrouted_shares_are_drawn_per_modality_and_routing(routed: StudyRecord) -> None:
    found = panels(unrouted_shares(routed))
    assert list(found) == [
        f"{modality} tokens, {routing} routing"
        for routing in ("training", "causal")
        for modality in ("text", "image")
    ]
    (line,) = found["image tokens, causal routing"].lines
    assert line.get_xdata().tolist() == [0, 1, 2]
    np.testing.assert_allclose(line.get_ydata(), [0.41, 0.31, 0.21])
    assert line.get_color() == arm_styles(["moe_4x"])["moe_4x"].color
    (band,) = found["text tokens, training routing"].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(0.1), pytest.approx(0.32))
    assert found["text tokens, training routing"].get_ylabel() == "tokens without an expert (%)"


def test_expert_load_is_a_heat_map_of_layers_by_experts(routed: StudyRecord) -> None:
    figure = expert_load(routed)
    found = panels(figure)
    assert len(found) == 4
    (image,) = found["image tokens, training routing"].images
    np.testing.assert_allclose(image.get_array(), LOADS["image"])
    written = [text.get_text() for text in found["image tokens, training routing"].texts]
    assert written == ["90", "0", "70", "30", "100", "100"]
    assert {axes.images[0].get_clim() for axes in found.values()} == {(0, 1.0)}  # one scale
    assert figure.axes[-1].get_ylabel() == "% of the modality's tokens"


def test_the_map_only_darkens() -> None:
    rgb = matplotlib.colormaps[LIGHT_TO_DARK](np.linspace(0, 1, 50))[:, :3]
    lightness = rgb @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) < 0).all() and lightness[0] > 0.9


def test_one_modality_can_be_drawn_alone(routed: StudyRecord) -> None:
    assert len(panels(unrouted_shares(routed, "text"))) == 2
    assert len(panels(expert_load(routed, "text"))) == 2


def test_without_a_causal_router_there_is_no_causal_panel(study: StudyRecord) -> None:
    runs = [
        replace(run, routing=experts(run.seed, causal=False) if run.arm == "moe_4x" else None)
        for run in study.runs
    ]
    figure = unrouted_shares(replace(study, runs=tuple(runs)))
    assert list(panels(figure)) == [
        "text tokens, training routing",
        "image tokens, training routing",
    ]


def test_seeds_that_were_not_recorded_are_named(routed: StudyRecord) -> None:
    runs = [
        replace(run, routing=None) if (run.arm, run.seed) == ("moe_4x", 0) else run
        for run in routed.runs
    ]
    partly = replace(routed, runs=tuple(runs))
    shares = expert_shares(partly, "moe_4x", "text", "training")
    assert shares is not None and shares.unrouted_SL.shape == (1, 3)
    assert "(not recorded, evaluate again: moe_4x-seed0)" in unrouted_shares(partly).get_suptitle()


def test_what_cannot_be_drawn_is_said(study: StudyRecord, routed: StudyRecord) -> None:
    def changed(**facts: Any) -> StudyRecord:
        runs = [replace(run, **facts) if run.arm == "moe_4x" else run for run in routed.runs]
        return replace(study, runs=tuple(runs))

    with pytest.raises(ValueError, match="evaluate again: moe_4x-seed0, moe_4x-seed1"):
        unrouted_shares(changed(routing=None))
    with pytest.raises(ValueError, match="no arm of study 'synthetic' has experts for text or im"):
        expert_load(changed(routing=None, sees_other_tokens=False))
    first, *others = (run for run in routed.runs if run.arm == "moe_4x")
    shallow = {"experts": experts(0)["experts"][1:]}
    uneven = [replace(first, routing=shallow), *others]
    rest = [run for run in routed.runs if run.arm != "moe_4x"]
    with pytest.raises(ValueError, match="seeds of arm 'moe_4x' differ in their layers"):
        expert_load(replace(routed, runs=(*uneven, *rest)))
