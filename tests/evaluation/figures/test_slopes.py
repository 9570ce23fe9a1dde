"""The slopes at a glance, and time matching at a stated step time."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from synthetic_study import ISOLATIONS, RATIOS, write_synthetic_study

from evaluation.figures.registry import View, draw_figure
from evaluation.figures.slopes import slopes_figure
from evaluation.figures.style import arm_styles
from evaluation.figures.wall_clock import wall_clock
from evaluation.numbers.study import report_numbers
from evaluation.report.slopes import slope_blocks, slopes_table, wall_clock_blocks
from evaluation.report.tables import matching_table
from evaluation.store.read import read_study
from evaluation.store.study_record import StudyRecord

ARMS = [arm for arm in ISOLATIONS if arm != "dense"]


@pytest.fixture(scope="module")
def isolations(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    """A leave-one-out study of three modalities with one seed."""
    folder = tmp_path_factory.mktemp("runs") / "isolations"
    folder.mkdir()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    artifacts = folder / "mlartifacts"
    write_synthetic_study(uri, artifacts, "isolations", ISOLATIONS, seeds=[0])
    return read_study(uri, "isolations")


def points(figure: Figure, title: str, fill: str = "full") -> dict[str, float]:
    """The slope at each arm's marker in one panel, by colour and marker of the arm."""
    panel = next(axes for axes in figure.axes if axes.get_title() == title)
    return {
        (line.get_color(), line.get_marker()): line.get_xdata()[0]
        for line in panel.lines
        if line.get_fillstyle() == fill and line.get_marker() not in ("None", "<", ">", "x")
    }


def test_the_table_is_modality_by_arm(isolations: StudyRecord) -> None:
    table = slopes_table(report_numbers(isolations))
    assert [row[0] for row in table.rows] == [
        f"{modality}, {curve}"
        for curve in ("validation", "training")
        for modality in ("text", "image", "speech")
    ]
    for row, modality in zip(table.rows, ("text", "image", "speech") * 2, strict=True):
        cells = dict(zip(table.columns, row, strict=True))
        for arm in ARMS:
            slope = ISOLATIONS[arm][modality]
            assert cells[arm] == pytest.approx(slope, rel=1e-2)  # read between points
            low, high = cells[f"{arm}: interval"]
            assert low == pytest.approx(slope, rel=1e-2) and low <= cells[arm] <= high
    assert "over the points of the curves" in table.title


def test_every_slope_of_the_table_is_drawn_in_its_panel(isolations: StudyRecord) -> None:
    figure = slopes_figure(report_numbers(isolations))
    styles = arm_styles(list(ISOLATIONS))
    for modality in ("text", "image", "speech"):
        drawn = points(figure, f"{modality}, validation loss")
        assert len(drawn) == len(ARMS)
        for arm in ARMS:
            slope = drawn[styles[arm].color, styles[arm].marker]
            assert slope == pytest.approx(ISOLATIONS[arm][modality], rel=1e-2)
    assert len(figure.axes) == 6
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {f"{slope:.3f}" for slope in drawn.values()} <= words


def test_a_slope_that_there_is_not_is_said(isolations: StudyRecord) -> None:
    numbers = report_numbers(isolations)
    for row in numbers["matching"]:
        if row["arm"] == "loo_text":
            row["slope"] = row["points_low"] = row["points_high"] = None
    assert "never reached" in slopes_table(numbers).rows[0]
    figure = slopes_figure(numbers, "text", ["val"])
    assert figure.axes[0].texts[0].get_text() == "never"


def test_a_baseline_alone_has_no_slopes(study: StudyRecord) -> None:
    alone = replace(
        study,
        arms={"dense": study.arms["dense"]},
        runs=tuple(study.of_arm("dense")),
        step_time_ratios={},
    )
    numbers = report_numbers(alone)
    assert slope_blocks(numbers) == [] and wall_clock_blocks(numbers) == []
    for draw in (lambda: slopes_figure(numbers), lambda: wall_clock(alone, numbers)):
        with pytest.raises(ValueError, match="no arm beside 'dense'"):
            draw()


def test_a_figure_can_be_narrowed(study: StudyRecord) -> None:
    seconds = draw_figure(study, "slopes", View("image", "val", "seconds"))
    assert [axes.get_title() for axes in seconds.axes] == ["image, validation loss"]
    mot = arm_styles(["mot"])["mot"]
    drawn = points(seconds, "image, validation loss")[mot.color, mot.marker]
    assert drawn == pytest.approx(0.6 * 0.55 / 0.5, rel=2e-3)
    clock = draw_figure(study, "wall_clock", View("text"))
    assert len(clock.axes) == 2


def test_time_matching_at_a_stated_ratio(study: StudyRecord) -> None:
    numbers = report_numbers(study)
    stated = numbers["matching_at_ratio"]
    assert {row["arm"] for row in stated} == {"mot"} and len(stated) == 4
    for row in stated:
        wanted = (row["arm"], row["modality"], row["curve"])
        (steps,) = (
            one
            for one in numbers["matching"]
            if (one["arm"], one["modality"], one["curve"], one["axis"]) == (*wanted, "steps")
        )
        assert row["ratio"] == RATIOS["mot"] == 1.36
        for key in ("slope", "slope_low", "slope_high", "points_low", "end_ratio"):
            assert row[key] == pytest.approx(1.36 * steps[key], rel=1e-12)
    cells = [row[:5] for row in matching_table(numbers).rows if row[0] == "mot"]
    axes = [row[3] for row in cells]
    assert axes == ["steps", "flops", "seconds", "seconds at 1.36x"] * 4
    assert cells[7][4] == pytest.approx(0.8 * 1.36, rel=2e-3)  # text, validation


def test_stated_slopes_are_hollow_beside_the_measured_ones(study: StudyRecord) -> None:
    figure = wall_clock(study, report_numbers(study))
    title = "image, time to the same loss"
    mot = arm_styles(["mot"])["mot"]
    measured, stated = points(figure, title), points(figure, title, "none")
    assert measured[mot.color, mot.marker] == pytest.approx(0.6 * 1.1, rel=2e-3)
    assert stated == {(mot.color, mot.marker): pytest.approx(0.6 * 1.36, rel=2e-3)}
    panel = next(axes for axes in figure.axes if axes.get_title() == title)
    assert [text.get_text() for text in panel.texts] == ["at 1.36x"]
    text = " ".join(block.body for block in wall_clock_blocks(report_numbers(study))[1:])
    assert "mot 1.36x (measured here: 1.1x)" in text


def test_without_stated_ratios_only_what_was_measured(study: StudyRecord, tmp_path: Path) -> None:
    numbers = report_numbers(replace(study, step_time_ratios={}))
    assert numbers["matching_at_ratio"] == [] and len(wall_clock_blocks(numbers)) == 1
    assert all("at" not in str(row[3]) for row in matching_table(numbers).rows)
