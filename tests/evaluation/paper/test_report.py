"""A study that names figures of the paper has their slopes in its report, beside its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.colors
import pytest
import synthetic_study

from evaluation.figures.registry import View, draw_figure
from evaluation.figures.style import arm_styles
from evaluation.numbers.study import report_numbers
from evaluation.paper.figure import paper_slopes_figure
from evaluation.report.build import report_texts, write_report
from evaluation.report.content import report_sections
from evaluation.store.read import read_study
from evaluation.store.study_record import StudyRecord


@pytest.fixture(scope="module")
def numbers(study: StudyRecord) -> dict[str, Any]:
    return report_numbers(replace(study, paper=("figure_6/37M", "figure_6/7B", "figure_19")))


def markdown(numbers: dict[str, Any]) -> str:
    texts = report_texts("title", numbers, report_sections(numbers, {}))
    return texts["report.md"].replace("\\", "")


def test_rows_are_of_the_arms_that_the_study_has(numbers: dict[str, Any]) -> None:
    paper = numbers["paper"]
    places = {(row["arm"], row["modality"], row["size"], row["axis"]) for row in paper["slopes"]}
    # 37M and 7B of figure 6, and figure 19 for training and validation
    assert len(paper["slopes"]) == 2 * 2 * 2 + 2 * 2 * 2
    assert ("mot", "image", "37M", "steps") in places
    assert ("moe_4x", "text", "7B", "seconds") in places
    assert paper["left_out"] == ["moe_2x", "moe_3x"]
    assert [each["figure"] for each in paper["figures"]] == ["figure_6", "figure_19"]
    json.dumps(paper)


def test_the_table_has_both_slopes(numbers: dict[str, Any]) -> None:
    texts = report_texts("title", numbers, report_sections(numbers, {}))
    lines = texts["tables/paper_slopes.csv"].splitlines()
    assert lines[0].split(",") == [
        *("arm", "modality", "curve", "axis", "this study", "interval low", "interval high"),
        *("interval over", "the paper", "its model", "figure"),
    ]
    (own,) = [
        row["slope"]
        for row in numbers["matching"]
        if [row[key] for key in ("arm", "modality", "curve", "axis")]
        == ["mot", "image", "train", "steps"]
    ]
    of_image = [line for line in lines if line.startswith("mot,image,train,steps,")]
    assert len(of_image) == 2
    for line, slope, size in zip(of_image, (0.26, 0.348), ("37M", "7B"), strict=True):
        assert line.startswith(f"mot,image,train,steps,{own},")
        assert line.endswith(f'seeds,{slope},"paper, {size}",figure 6')


def test_the_text_says_what_is_the_papers_and_what_is_missing(numbers: dict[str, Any]) -> None:
    text = markdown(numbers)
    assert "## Beside the paper" in text
    assert "In the paper but not in this study: moe_2x, moe_3x." in text
    assert "Figure 6: Chameleon, training loss." in text
    assert "1.36 times" in text  # a fact of figure 19


def test_without_names_nothing_is_said(study: StudyRecord) -> None:
    bare = report_numbers(study)
    assert bare["paper"] == {"figures": [], "slopes": [], "left_out": []}
    assert "Beside the paper" not in markdown(bare)
    with pytest.raises(ValueError, match=r"'synthetic' has no slopes of the paper.*figure_6"):
        draw_figure(study, "paper_slopes", View())


def test_a_figure_without_printed_slopes_has_its_words(study: StudyRecord) -> None:
    numbers = report_numbers(replace(study, paper=("figure_14",)))
    text = markdown(numbers)
    assert "about 33.3% of the FLOPs for images" in text
    assert "None of the paper's printed slopes" in text


def test_markers_of_the_paper_are_hollow_and_stand_at_its_slopes(numbers: dict[str, Any]) -> None:
    figure = paper_slopes_figure(numbers)
    assert len(figure.axes) == 2 * 3  # text and image; train in steps, train and val in seconds
    (panel,) = [
        axes
        for axes in figure.axes
        if axes.get_title() == "image, training loss" and "steps" in axes.get_xlabel()
    ]
    color = arm_styles(["mot"])["mot"].color
    points = {
        (line.get_xdata()[0], line.get_fillstyle(), line.get_ydata()[0])
        for line in panel.lines
        if line.get_marker() == "s" and matplotlib.colors.to_hex(line.get_color()) == color.lower()
    }
    own = next(value for value, fill, _ in points if fill == "full")
    assert own == pytest.approx(0.6, rel=2e-3)
    places = [(arm, label) for arm in ("moe_4x", "mot") for label in ("ours", "37M", "7B")]
    heights = {place: height for height, place in enumerate(places)}
    assert points == {
        (own, "full", heights["mot", "ours"]),
        (0.26, "none", heights["mot", "37M"]),
        (0.348, "none", heights["mot", "7B"]),
    }
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]  # shared by the row
    assert labels[:2] == ["moe_4x †, this study", "paper, 37M (figure 6)"]
    assert labels[3:] == ["mot, this study", "paper, 37M (figure 6)", "paper, 7B (figure 6)"]


def test_a_panel_without_slopes_of_the_paper_says_so(study: StudyRecord) -> None:
    figure = paper_slopes_figure(
        report_numbers(replace(study, paper=("figure_6/37M", "figure_10")))
    )
    panels = {axes.get_title(): axes for axes in figure.axes}
    empty, full = panels["text, validation loss"], panels["image, validation loss"]
    assert [text.get_text() for text in empty.texts] == ["no slope of the paper"]
    assert not empty.lines and not full.texts and full.lines


def test_a_stored_study_brings_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = synthetic_study.study_facts
    monkeypatch.setattr(
        synthetic_study, "study_facts", lambda *a: {**facts(*a), "paper": ["figure_24/37M"]}
    )
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    synthetic_study.write_synthetic_study(uri, tmp_path / "artifacts", seeds=[0])
    stored = read_study(uri, "synthetic")
    assert stored.paper == ("figure_24/37M",)
    written = {path.relative_to(tmp_path).as_posix() for path in write_report(stored, tmp_path)}
    assert {"figures/paper_slopes.png", "tables/paper_slopes.csv"} <= written
    assert "figure-paper_slopes" in (tmp_path / "report.html").read_text()
