"""The matrix of slopes shows the study's own, and beside them the paper's."""

from pathlib import Path

import pytest
from synthetic_study import ISOLATIONS, write_synthetic_study

from evaluation.figures.slope_matrix import slope_matrix
from evaluation.numbers.study import report_numbers
from evaluation.paper.slopes import paper_slopes
from evaluation.store.read import read_study

ARMS = list(ISOLATIONS)
MODALITIES = ["text", "image", "speech"]


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder: Path = tmp_path_factory.mktemp("runs")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    write_synthetic_study(uri, folder / "artifacts", "isolations", ISOLATIONS)
    return report_numbers(read_study(uri, "isolations"))


def test_cells_are_the_slopes_of_the_study_and_of_the_paper(numbers: dict) -> None:
    figure = slope_matrix(numbers, "val", paper_slopes(["figure_15"]))
    own, papers, _ = figure.axes
    assert own.get_title() == "this study, validation loss"
    assert papers.get_title() == "the paper's figure 15: 443M, training loss"
    assert [tick.get_text() for tick in own.get_yticklabels()] == ARMS
    assert [tick.get_text() for tick in papers.get_xticklabels()] == MODALITIES

    values = own.images[0].get_array()
    for line, arm in enumerate(ARMS):
        for column, modality in enumerate(MODALITIES):
            assert values[line, column] == pytest.approx(ISOLATIONS[arm][modality], rel=0.03)
    said = {text.get_position(): text.get_text() for text in papers.texts}
    assert said[2, ARMS.index("loo_speech")] == "0.147"
    assert said[0, ARMS.index("mot")] == "0.557"
    assert said[1, ARMS.index("dense")] == "1"
    assert len(said) == 15
    own_said = {text.get_position(): text.get_text() for text in own.texts}
    assert own_said[0, 0] == "1"
    slope, interval = own_said[2, ARMS.index("mot")].splitlines()
    low, high = map(float, interval.strip("[]").split(", "))
    assert low < float(slope) < high


def test_without_the_paper_there_is_one_matrix(numbers: dict) -> None:
    own, _ = slope_matrix(numbers, "train").axes
    assert own.get_title() == "this study, training loss"


def test_a_slope_that_was_not_reached_is_said_and_has_no_colour(numbers: dict) -> None:
    rows = [
        {**row, "slope": None, "slope_low": None, "points_low": None}
        if (row["arm"], row["modality"], row["axis"]) == ("loo_text", "image", "steps")
        else row
        for row in numbers["matching"]
    ]
    own = slope_matrix({**numbers, "matching": rows}).axes[0]
    said = {text.get_position(): text.get_text() for text in own.texts}
    assert said[1, ARMS.index("loo_text")] == "never reached"
    assert own.images[0].get_array().mask[ARMS.index("loo_text")].tolist() == [False, True, False]


def test_the_papers_slopes_must_be_of_one_figure_and_size(numbers: dict) -> None:
    with pytest.raises(ValueError, match="do not fit into one matrix"):
        slope_matrix(numbers, paper=paper_slopes(["figure_9"]))
