"""Blocks of a report in each format: what is shown, written in full, folded and escaped."""

import csv

import pytest

from evaluation.report.blocks import Alert, Code, Picture, Points, Section, Table, Text
from evaluation.report.html import to_html
from evaluation.report.markdown import to_markdown
from evaluation.report.tables import to_csv
from evaluation.wording import show

SCRIPT = "<script>alert(1)</script>"
TABLE = Table("t", "A table", ["arm", "slope"], [["mot", (0.51234, 0.625)], ["moe", (None, None)]])


def test_an_interval_is_one_cell_to_read_and_two_columns_in_full() -> None:
    assert show((0.51234, 0.625)) == "[0.5123, 0.625]" and show((None, None)) == "–"
    assert "| mot | \\[0.5123, 0.625\\] |" in to_markdown("x", [Section("a", "A", [TABLE])])
    rows = list(csv.reader(to_csv(TABLE).splitlines()))
    assert rows == [
        ["arm", "slope low", "slope high"],
        ["mot", "0.51234", "0.625"],
        ["moe", "", ""],
    ]


def test_a_word_in_a_column_of_intervals_stands_in_both_of_its_columns() -> None:
    table = Table("t", "A table", ["slope"], [["never reached"], [(1.0, 2.0)]])
    assert table.spread().rows == [["never reached", "never reached"], [1.0, 2.0]]


def test_a_folded_table_opens_on_a_click_or_is_only_linked_to() -> None:
    folded = Table("long", "A long table", ["x"], [[0.125]], folded=True)
    markdown = to_markdown("x", [Section("a", "A", [folded])])
    assert "0.125" not in markdown and "(tables/long.csv)" in markdown
    html = to_html("x", [Section("a", "A", [folded])], {})
    assert "<details><summary>Show the table</summary>" in html and "0.125" in html


def test_an_alert_stands_out() -> None:
    section = [Section("a", "A", [Alert("take care")])]
    assert "> **take care**" in to_markdown("x", section)
    assert '<p class="alert" role="alert">take care</p>' in to_html("x", section, {})


@pytest.mark.parametrize(
    "block",
    [
        Text(SCRIPT),
        Alert(SCRIPT),
        Points([SCRIPT]),
        Code(SCRIPT, SCRIPT),
        Picture("p", SCRIPT, SCRIPT, SCRIPT),
        Table("t", SCRIPT, [SCRIPT], [[SCRIPT]]),
        Table(SCRIPT, SCRIPT, [SCRIPT], [[SCRIPT]], folded=True),
    ],
    ids=lambda block: type(block).__name__,
)
def test_no_text_becomes_markup(block) -> None:
    section = Section(SCRIPT, SCRIPT, [block])
    html = to_html(SCRIPT, [section], {"p": b""})
    assert "<script" not in html and "&lt;script&gt;" in html
    markdown = to_markdown(SCRIPT, [Section(SCRIPT, SCRIPT, [block])])
    if not isinstance(block, Code | Table):  # in a code block, and in a link's target, it is text
        assert "<script" not in markdown
