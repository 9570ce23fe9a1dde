"""`mot-lab plot` and `mot-lab report` of several studies, as they are called."""

import json
import shutil
from pathlib import Path

import pytest

from mot_lab.cli import main


@pytest.fixture
def folder(store) -> Path:
    return store.folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("suffix", "start"), [(".pdf", b"%PDF"), (".png", b"\x89PNG"), (".svg", b"<?xml")]
)
def test_a_figure_is_made_alone(folder: Path, tmp_path: Path, suffix: str, start: bytes) -> None:
    out = tmp_path / "deeper" / f"fig5{suffix}"
    named = ["--figure", "step_matching", "--modality", "image", "--out", str(out)]
    main(["plot", str(folder), *named])
    assert out.read_bytes().startswith(start)


def test_figures_without_a_modality_can_be_asked_for(folder: Path, tmp_path: Path) -> None:
    for figure in ("generated", "unrouted", "sensitivity"):
        out = tmp_path / f"{figure}.png"
        main(["plot", str(folder), "--figure", figure, "--out", str(out)])
        assert out.stat().st_size > 5000, figure


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--figure", "lost", "--out", "a.png"], "no figure 'lost'; the figures: loss, step_mat"),
        (["--figure", "loss", "--out", "a.jpg"], "'.jpg' is none of .png, .svg, .pdf"),
        (["--figure", "loss", "--out", "a.png"], "name one of text, image"),
        (["--figure", "loss", "--modality", "audio", "--out", "a.png"], "it has text, image"),
        (["--figure", "metrics", "--curve", "val", "--out", "a.png"], "not drawn by curve"),
    ],
)
def test_a_wrong_call_is_one_line(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(["plot", str(folder), *arguments], capsys)


def test_help_lists_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plot", "--help"])
    told = capsys.readouterr().out
    for name in ("loss", "step_matching", "metrics", "generated", "unrouted", "expert_load"):
        assert f"{name} (" in told
    assert "sensitivity" in told


def test_a_report_at_a_stated_step_time(folder: Path, tmp_path: Path, capsys) -> None:
    stated = ["--step-time-ratio", "moe_4x=1.69", "--out", str(tmp_path)]
    main(["report", str(folder), *stated])
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert numbers["step_time_ratios"] == {"moe_4x": 1.69}  # in place of the study's own
    assert {row["arm"] for row in numbers["matching_at_ratio"]} == {"moe_4x"}
    assert "seconds at 1.69x" in (tmp_path / "report.md").read_text()
    capsys.readouterr()
    said = refused(["report", str(folder), "--step-time-ratio", "mott=2"], capsys)
    assert "step_time_ratios.mott: 2.0 is of none of the arms moe_4x, mot" in said


def test_a_report_of_two_studies_lies_beside_the_first(folder: Path) -> None:
    again = folder.parent / "again" / folder.name
    again.mkdir(parents=True)
    shutil.copy(folder / "mlflow.db", again)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("report.*")}
    main(["report", str(folder), str(again)])
    out = folder.parent / "compared" / "synthetic-and-synthetic"
    assert (out / "report.html").is_file() and (out / "tables" / "slopes_val.csv").is_file()
    numbers = json.loads((out / "report.json").read_text())
    assert numbers["differences"] == [] and numbers["not_comparable"] == []
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("report.*")}
