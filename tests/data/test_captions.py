"""Words for places, articles and lists."""

import pytest

from mot_lab.data.captions import phrasings, place, with_article


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 7])
def test_every_cell_has_its_own_words(grid):
    cells = [(row, column) for row in range(grid) for column in range(grid)]
    assert len({place(row, column, grid) for row, column in cells}) == grid * grid


def test_places_in_words():
    assert [place(r, c, 2) for r, c in [(0, 0), (0, 1), (1, 0), (1, 1)]] == [
        "top left", "top right", "bottom left", "bottom right",
    ]  # fmt: skip
    assert [place(r, c, 3) for r, c in [(0, 1), (1, 0), (1, 1), (2, 1)]] == [
        "top middle", "middle left", "middle", "bottom middle",
    ]  # fmt: skip


def test_articles():
    names = ["axe", "unicorn", "ewe", "grapes", "cactus", "dress", "fox", "glasses"]
    assert [with_article(name) for name in names] == [
        "an axe", "a unicorn", "a ewe", "grapes", "a cactus", "a dress", "a fox", "glasses",
    ]  # fmt: skip


def test_three_objects_and_rows():
    captions = phrasings([("axe", 0, 0), ("key", 0, 3), ("bus", 4, 1)], "blue", 5)
    assert captions[0] == (
        "an axe in row 1 column 1, a key in row 1 column 4 and a bus in row 5 column 2 on blue"
    )
    assert all("blue" in caption for caption in captions)
    assert "left of" in phrasings([("axe", 1, 0), ("key", 1, 1)], "blue", 2)[-1]
    assert "above" in phrasings([("axe", 0, 0), ("key", 1, 0)], "blue", 2)[-1]
