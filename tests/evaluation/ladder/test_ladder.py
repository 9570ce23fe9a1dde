"""The report of a ladder: numbers of its rungs, drawn and tabled where they belong."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation.figures.style import arm_styles
from evaluation.ladder.figure import ladder_losses, ladder_slopes
from evaluation.ladder.numbers import ladder_numbers
from evaluation.ladder.report import build_ladder_report, is_ladder, ladder_sections
from evaluation.numbers.study import report_numbers
from evaluation.report.blocks import Table
from evaluation.store.study_record import StudyRecord
from evaluation.wording import show
from mot_lab.cli import main

SIZES = {"w64": 50_000, "w128": 200_000, "w256": 800_000}  # places: the same at every rung
FACTORS = {"w64": 1.0, "w128": 0.9, "w256": 0.8}  # of the slopes at the first rung
RECORD = {
    "schema": 1,
    "ladder": "sizes",
    "along": "size",
    "rungs": {
        name: {"study": f"sizes-{name}", "parameters": size, "places": 1024}
        for name, size in SIZES.items()
    },
}


@pytest.fixture(scope="module")
def reports(study: StudyRecord) -> dict[str, dict[str, Any]]:
    """The synthetic study at every rung, its slopes falling up the ladder."""
    text = json.dumps(report_numbers(study))
    found = {}
    for name, factor in FACTORS.items():
        found[name] = json.loads(text)
        for row in found[name]["matching"]:
            for key in ("slope", "slope_low", "slope_high"):
                row[key] = row[key] * factor
    return found


@pytest.fixture(scope="module")
def numbers(reports) -> dict[str, Any]:
    return ladder_numbers(RECORD, reports)


@pytest.fixture
def folder(reports, tmp_path: Path) -> Path:
    """Of a ladder whose rungs are finished."""
    for name, report in reports.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    (tmp_path / "ladder.json").write_text(json.dumps(RECORD))
    return tmp_path


def test_rows_are_those_of_every_rung(numbers, reports) -> None:
    assert [(of["x"], of["tokens_per_step"]) for of in numbers["rungs"].values()] == [
        (size, 2524) for size in SIZES.values()
    ]
    for name, report in reports.items():
        mine = [row for row in numbers["slopes"] if row["rung"] == name]
        assert len(mine) == len(report["matching"]) == 24
        for ours, theirs in zip(mine, report["matching"], strict=True):
            assert ours.items() >= {key: theirs[key] for key in ("arm", "axis", "slope")}.items()
            assert ours["x"] == SIZES[name]
    assert len(numbers["costs"]) == 9 and len(numbers["losses"]) == 3 * 12


def test_a_ladder_of_batches_stands_on_tokens(reports) -> None:
    record = {**RECORD, "along": "batch"}
    larger = {**reports["w128"], "tokens_per_step": {"text": 3000, "image": 2048}}
    numbers = ladder_numbers(record, {**reports, "w128": larger})
    assert [of["x"] for of in numbers["rungs"].values()] == [2524, 5048, 2524]


def test_what_rungs_differ_in_besides_is_said(reports) -> None:
    notes = ladder_numbers(RECORD, {**reports, "w64": {**reports["w64"], "steps": 800}})["notes"]
    assert "The rungs differ in steps as well: w64 800, w128 400, w256 400." in notes
    shared = [note for note in reports["w64"]["notes"] if note in notes]
    assert shared == reports["w64"]["notes"]  # what all rungs note stands once, without names


def test_slopes_are_drawn_over_the_size(numbers) -> None:
    figure = ladder_slopes(numbers)
    assert len(figure.axes) == 4
    panel = next(axes for axes in figure.axes if axes.get_title() == "image, validation loss")
    style = arm_styles(["mot"])["mot"]
    (line,) = (each for each in panel.lines if each.get_color() == style.color)
    assert line.get_ydata() == pytest.approx([0.6, 0.54, 0.48], rel=5e-3)
    assert line.get_xdata() == pytest.approx(list(SIZES.values()), rel=0.03)
    assert panel.get_xscale() == "log"
    assert [tick.get_text() for tick in panel.get_xticklabels()] == [
        f"{name}\n{size:,}" for name, size in SIZES.items()
    ]


def test_a_rung_without_a_slope_is_left_out_of_the_line_and_said(reports) -> None:
    changed = json.loads(json.dumps(reports))
    for row in changed["w128"]["matching"]:
        if row["arm"] == "mot":
            row["slope"] = row["slope_low"] = row["slope_high"] = None
    numbers = ladder_numbers(RECORD, changed)
    panel = next(a for a in ladder_slopes(numbers).axes if a.get_title() == "text, training loss")
    color = arm_styles(["mot"])["mot"].color
    (line,) = (each for each in panel.lines if each.get_color() == color)
    assert len(line.get_xdata()) == 2
    sentences = ladder_sections(numbers, {})[0].blocks[-1].items
    opening = ladder_sections(numbers, {})[0].blocks[0].body
    assert all(f"{name} ({show(size)})" in opening for name, size in SIZES.items())
    assert any("w64 0.8" in one and "w128 never reached" in one for one in sentences)


def test_losses_of_the_baseline_are_drawn_too(numbers) -> None:
    figure = ladder_losses(numbers)
    assert [axes.get_title() for axes in figure.axes] == ["text", "image"]
    colors = {line.get_color() for line in figure.axes[0].lines}
    assert {style.color for style in arm_styles(["dense", "mot", "moe_4x"]).values()} == colors


def test_tables_hold_every_rung(numbers) -> None:
    blocks = [block for section in ladder_sections(numbers, {}) for block in section.blocks]
    tables = {block.name: block for block in blocks if isinstance(block, Table)}
    assert list(tables) == ["slopes_val", "slopes_train", "losses", "rungs", "costs"]
    slopes = tables["slopes_val"]
    cells = dict(zip(slopes.columns, next(r for r in slopes.rows if r[0] == "mot"), strict=True))
    assert cells["w256"] == pytest.approx(0.64, rel=5e-3)  # text, steps
    assert cells["w256: interval"][0] < cells["w256"] < cells["w256: interval"][1]
    rungs = tables["rungs"]
    assert [row[:3] for row in rungs.rows] == [
        [name, f"sizes-{name}", size] for name, size in SIZES.items()
    ]


def test_the_report_is_built_from_the_rungs_reports(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_ladder(folder) and not is_ladder(folder / "w64")
    assert build_ladder_report(folder) == folder / "report.html"
    files = {"report.html", "report.md", "report.json"}
    files |= {
        f"figures/ladder_{kind}{end}" for kind in ("slopes", "losses") for end in (".png", ".svg")
    }
    assert all((folder / name).stat().st_size > 0 for name in files)
    page = (folder / "report.html").read_text()
    assert re.findall(r'href="(w\d+/report.html)"', page) == [f"{n}/report.html" for n in SIZES]
    assert "- [w64: sizes-w64](w64/report.html)" in (folder / "report.md").read_text()

    known = set()

    def collect(value: Any) -> None:
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):
                collect(inner)
            elif isinstance(inner, int | float):
                known.add(float(inner))

    collect(json.loads((folder / "report.json").read_text()))
    seen = 0
    for path in (folder / "tables").glob("*.csv"):
        for cell in (cell for row in csv.reader(path.open()) for cell in row):
            if re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", cell):
                assert float(cell) in known, (path.name, cell)
                seen += 1
    assert seen > 300

    out = folder / "elsewhere"
    main(["report", str(folder), "--out", str(out)])
    assert f"The report is in {out / 'report.html'}" in capsys.readouterr().out
    assert (out / "report.json").read_bytes() == (folder / "report.json").read_bytes()
    assert 'href="../w64/report.html"' in (out / "report.html").read_text()


def test_what_is_missing_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "w128" / "report.json").unlink()
    with pytest.raises(SystemExit):
        main(["report", str(folder)])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "w128/report.json" in line and "mot-lab study again" in line
    with pytest.raises(SystemExit):
        main(["report", str(folder), "--step-time-ratio", "mot=1.36"])
    assert "is for the report of one study" in capsys.readouterr().err
