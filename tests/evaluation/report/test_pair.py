"""A report of two studies aligns arms and settings, and says what must not be compared."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.figures.pair import pair_metrics, pair_slopes
from evaluation.numbers.pair import pair_numbers
from evaluation.numbers.study import report_numbers
from evaluation.report.pair import build_pair_report, pair_sections
from evaluation.store.study_record import StudyRecord

TABLES = ["slopes_val", "slopes_train", "losses", "metrics", "costs", "differences"]


@pytest.fixture(scope="module")
def other(study: StudyRecord) -> StudyRecord:
    """The study without moe_4x, with another width and one seed."""
    arms = {arm: facts for arm, facts in study.arms.items() if arm != "moe_4x"}
    runs = [run for run in study.runs if run.arm in arms and run.seed == 0]
    config = f"{study.config}model:\n  width: 256\n"
    kept = replace(study, name="wide", arms=arms, runs=tuple(runs), seeds=(0,), config=config)
    return kept


@pytest.fixture(scope="module")
def reports(study: StudyRecord, other: StudyRecord) -> list[dict[str, Any]]:
    return [report_numbers(study), report_numbers(other)]


@pytest.fixture(scope="module")
def built(study: StudyRecord, other: StudyRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared")
    assert build_pair_report([study, other], out) == out / "report.html"
    return out


def row(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    found = [one for one in rows if all(one[key] == value for key, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_rows_are_those_of_each_study(reports) -> None:
    pair = pair_numbers(reports)
    wanted = {"arm": "mot", "modality": "image", "curve": "val", "axis": "flops"}
    both = row(pair["slopes"], **wanted)["of"]
    for key, report in zip("AB", reports, strict=True):
        single = row(report["matching"], **wanted)
        assert all(both[key][name] == single[name] for name in both[key])
    assert both["A"]["slope"] != both["B"]["slope"] and both["B"]["slope_low"] is None
    clip = row(pair["metrics"], arm="mot", name="CLIP score")["of"]
    for key, report in zip("AB", reports, strict=True):
        assert clip[key]["value"] == row(report["metrics"], arm="mot", name="CLIP score")["value"]
    assert row(pair["costs"], arm="moe_4x")["of"]["B"] is None
    assert pair["arms"] == ["dense", "mot"] and pair["arms_of_some"] == ["moe_4x"]


def test_arms_are_aligned_by_name_whatever_their_order(study: StudyRecord, reports) -> None:
    turned = dict(reversed(study.arms.items()))
    pair = pair_numbers([reports[0], report_numbers(replace(study, arms=turned))])
    for table in ("slopes", "losses", "metrics", "costs"):
        for one in pair[table]:
            assert one["of"]["A"] == one["of"]["B"], (table, one)
    assert pair["differences"] == [] and pair["not_comparable"] == []


def test_differences_are_listed_and_only_they(reports) -> None:
    pair = pair_numbers(reports)
    listed = {one["what"]: one["of"] for one in pair["differences"]}
    assert listed == {
        "seeds": {"A": "0, 1", "B": "0"},
        "config.model.width": {"A": None, "B": 256},
    }
    assert pair["not_comparable"] == ["Only A has moe_4x."]
    assert all(pair["comparable"].values())


@pytest.mark.parametrize(
    ("change", "kinds", "said"),
    [
        ({"baseline": "mot"}, {"slope"}, "Slopes and end ratios are not comparable: the studies"),
        ({"steps": 800}, {"slope", "loss", "metric"}, "differ in steps"),
        ({"tokenizers": {"text": {"vocab_size": 9}}}, {"slope", "loss"}, "text.vocab_size"),
        ({"environment": {"cpu": "another"}}, {"seconds"}, "differ in environment.cpu"),
        ({"setting": "chameleon"}, {"slope", "loss", "metric"}, "differ in setting"),
    ],
)
def test_what_is_not_comparable_is_said(
    study: StudyRecord, reports, change: dict[str, Any], kinds: set[str], said: str
) -> None:
    pair = pair_numbers([reports[0], {**reports[0], **change}])
    assert {kind for kind, fine in pair["comparable"].items() if not fine} == kinds
    assert any(said in sentence for sentence in pair["not_comparable"])
    if "slope" in kinds:
        assert "not comparable" in pair_slopes(pair).get_suptitle()
    tables = {
        block.name: block
        for section in pair_sections(pair)
        for block in section.blocks
        if hasattr(block, "columns")
    }
    slopes = tables["slopes_val"]
    place = slopes.columns.index("comparable")
    found = {(cells[2], cells[place]) for cells in slopes.rows}
    of_steps = "slope" not in kinds
    assert found == {
        ("steps", of_steps), ("flops", of_steps), ("seconds", of_steps and "seconds" not in kinds)
    }  # fmt: skip


def test_other_extractors_and_other_arms_of_the_same_name(reports) -> None:
    changed = json.loads(json.dumps(reports[0]))
    changed["arms"]["mot"]["description"] = "another wiring"
    for metric in changed["metrics"]:
        metric["extractor"] += " 2"
    pair = pair_numbers([reports[0], changed])
    said = " ".join(pair["not_comparable"])
    assert "mot is not the same arm in all studies (A: the arm mot; B: another wiring)" in said
    assert "Only A measured CLIP score (scenes-clip), CIDEr (pycocoevalcap)." in said
    with pytest.raises(ValueError, match="no metric in common"):
        pair_metrics(pair)


def test_wrong_numbers_of_studies_are_refused(reports) -> None:
    with pytest.raises(ValueError, match="1 studies: from 2 to 5"):
        pair_numbers(reports[:1])
    stranger = {**reports[0], "arms": {"mine": reports[0]["arms"]["mot"]}}
    with pytest.raises(ValueError, match="no arm in common"):
        pair_numbers([reports[0], stranger])


def test_slopes_of_both_are_drawn(reports) -> None:
    pair = pair_numbers(reports)
    figure = pair_slopes(pair)
    panel = next(axes for axes in figure.axes if axes.get_title() == "image, steps")
    drawn = {
        (line.get_xdata()[0], line.get_fillstyle())
        for line in panel.lines
        if line.get_marker() == "s"
    }
    both = row(pair["slopes"], arm="mot", modality="image", curve="val", axis="steps")["of"]
    assert drawn == {(both["A"]["slope"], "full"), (both["B"]["slope"], "none")}
    assert len(figure.axes) == 6 and len(pair_metrics(pair).axes) == 2


def numbers_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])", text)


def test_every_number_of_the_tables_is_in_report_json(built: Path) -> None:
    known: set[float] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                collect(inner)
        elif isinstance(value, int | float):
            known.add(float(value))
        elif isinstance(value, str):
            known.update(float(found.replace(",", "")) for found in numbers_in(value))

    collect(json.loads((built / "report.json").read_text()))
    seen = 0
    for name in TABLES:
        for cells in csv.reader(io.StringIO((built / f"tables/{name}.csv").read_text())):
            for cell in cells:
                if re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", cell):
                    assert float(cell) in known, (name, cells)
                    seen += 1
    assert seen > 150


def test_every_number_of_the_text_is_in_report_json(built: Path) -> None:
    content = (built / "report.json").read_text()
    known = {float(found.replace(",", "")) for found in numbers_in(content)}
    text = (built / "report.md").read_text().split("## Slopes and end ratios")[0]
    found = [float(one.replace(",", "")) for one in numbers_in(text.replace("\\", ""))]
    assert len(found) > 8
    for one in found:
        assert any(float(f"{value:.4g}") == one for value in known), one


def test_rebuilt_gives_the_same_bytes(
    built: Path, study: StudyRecord, other: StudyRecord, tmp_path: Path
) -> None:
    build_pair_report([study, other], tmp_path)
    files = [path.relative_to(built) for path in sorted(built.rglob("*")) if path.is_file()]
    assert len(files) == 3 + len(TABLES) + 4
    for name in files:
        assert (built / name).read_bytes() == (tmp_path / name).read_bytes(), name
    page = (built / "report.html").read_text()
    assert "A is the study synthetic" in page and "B is the study wide" in page
