"""The paper's slopes: every figure is there, and figures that print the same run agree."""

import re

import pytest

from evaluation.paper.slopes import PaperSlope, paper_slopes
from evaluation.paper.tables import FIGURES
from mot_lab.config import StudyConfig
from mot_lab.paper_figures import PAPER_FIGURES, check_paper_figures, parse_paper_figure
from mot_lab.parsing import from_dict

ALL = paper_slopes(list(PAPER_FIGURES))


def slope(figure: str, arm: str, modality: str, **wanted: str) -> float:
    found = [
        each
        for each in ALL
        if (each.figure, each.arm, each.modality) == (figure, arm, modality)
        and all(getattr(each, key) == value for key, value in wanted.items())
    ]
    assert len(found) == 1, found
    return found[0].slope


def test_every_figure_has_the_sizes_that_a_study_may_name() -> None:
    assert list(FIGURES) == list(PAPER_FIGURES)
    for figure, sizes in PAPER_FIGURES.items():
        found = {each.size for each in ALL if each.figure == figure}
        # figure 14 prints its slopes in a picture only
        assert found == (set() if figure == "figure_14" else set(sizes)), figure
        assert FIGURES[figure].table or FIGURES[figure].facts, figure


def test_no_slope_stands_twice_and_each_is_a_share() -> None:
    places = [tuple(vars(each).values())[:-1] for each in ALL]
    assert len(set(places)) == len(places) == 132
    assert all(0.1 < each.slope < 3 for each in ALL)
    assert {each.curve for each in ALL} == {"train", "val"}
    assert {each.axis for each in ALL} == {"steps", "seconds"}
    assert {each.modality for each in ALL} == {"text", "image", "speech"}


def test_headlines_are_where_the_paper_has_them() -> None:
    assert slope("figure_6", "mot", "text", size="7B") == 0.558
    assert slope("figure_8", "mot", "speech", detail="PPL30K") == 0.372
    assert slope("figure_19", "mot", "image", curve="train") == 0.472
    assert slope("figure_19", "mot", "text", curve="train") == 0.756


def test_figures_of_the_same_run_agree() -> None:
    for modality in ("text", "image", "speech"):
        both = [slope(name, "mot", modality, size="443M") for name in ("figure_9", "figure_15")]
        assert both[0] == both[1], modality
    for arm in ("mot", "moe_4x"):
        assert slope("figure_16", arm, "text", curve="train") == slope(
            "figure_6", arm, "text", size="443M"
        )
    for modality in ("text", "image"):  # the 443M run of figure 24 has 64 GPUs
        assert slope("figure_18", "mot", modality, detail="64 GPUs") == slope(
            "figure_24", "mot", modality, size="443M"
        )


@pytest.mark.parametrize(("arm", "ratio"), [("mot", 1.355), ("moe_4x", 1.686)])
def test_wall_clock_over_steps_is_one_step_time_for_both_modalities(arm: str, ratio: float) -> None:
    for modality in ("text", "image"):
        steps = slope("figure_6", arm, modality, size="7B")
        seconds = slope("figure_19", arm, modality, curve="train")
        assert seconds / steps == pytest.approx(ratio, abs=2e-3)


def test_a_size_may_be_named() -> None:
    assert parse_paper_figure("figure_9") == ("figure_9", ("443M", "880M", "1.5B"))
    found = paper_slopes(["figure_9/880M"])
    assert {each.size for each in found} == {"880M"} and len(found) == 5
    wanted = PaperSlope("figure_9", "880M", "", "train", "steps", "speech", "mot", 0.194)
    assert wanted in found


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["figure_7"], "'figure_7' is no tabulated figure; there are figure_6, figure_8"),
        (["figure 6"], "'figure 6' is no tabulated figure"),
        (["figure_9/7B"], "'figure_9/7B' is no size of figure_9; there are 443M, 880M, 1.5B"),
        (["figure_6/"], "'figure_6/' is no size of figure_6"),
        (["figure_6", "figure_6/37M"], "'figure_6/37M' names figure_6 of 37M again"),
    ],
)
def test_wrong_names_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(ValueError, match="^paper: .*" + re.escape(said)):
        check_paper_figures(names, "dense")


def test_a_configuration_with_a_wrong_name_is_refused() -> None:
    study = {"name": "tiny", "arms": ["dense", "mot"]}
    assert from_dict(StudyConfig, {**study, "paper": ["figure_15"]}).paper == ["figure_15"]
    for paper, said in ((["figure_99"], "'figure_99'"), ("figure_15", "paper: ")):
        with pytest.raises(ValueError, match=said) as caught:
            from_dict(StudyConfig, {**study, "paper": paper})
        assert "\n" not in str(caught.value)


def test_another_baseline_is_refused() -> None:
    check_paper_figures([], "mot")
    with pytest.raises(ValueError, match="the baseline is 'mot'"):
        check_paper_figures(["figure_6"], "mot")
