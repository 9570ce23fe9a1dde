"""`make experiments`: what it keeps of a report and what it writes into the table."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN_ALL = runpy.run_path(str(ROOT / "experiments" / "run_all.py"))


def row(**changes: object) -> dict[str, object]:
    return {
        "arm": "mot",
        "modality": "text",
        "axis": "steps",
        "curve": "val",
        "slope": 0.91234,
        "slope_low": 0.85,
        "slope_high": 0.97,
        "points_low": 0.9,
        "points_high": 0.92,
        **changes,
    }


def test_validation_slopes_over_steps_are_told_arm_by_arm() -> None:
    one_seed = {"slope_low": None, "slope_high": None}
    report = {
        "matching": [
            row(),
            row(curve="train", slope=0.1),
            row(axis="flops", slope=0.2),
            row(modality="image", slope=1.0449, **one_seed),
            row(arm="moe_4x", slope=None, points_low=None, points_high=None, **one_seed),
        ]
    }
    assert RUN_ALL["measured"](report) == (
        "mot text 0.912 [0.85, 0.97], image 1.04 [0.9, 0.92]; moe_4x text never"
    )
    ladder = {"slopes": [row(rung="w64"), row(rung="w128", slope=0.8)]}
    assert RUN_ALL["measured"](ladder) == (
        "w64 mot text 0.912 [0.85, 0.97]; w128 mot text 0.8 [0.85, 0.97]"
    )


def test_only_the_last_cell_of_the_studys_row_is_replaced(tmp_path: Path) -> None:
    table = tmp_path / "README.md"
    before = "# x\n\n| a | b | c |\n|---|---|---|\n| `openmoji/one.yaml` | 1 \\| 2 | old |\n"
    other = "| `openmoji/other.yaml` | 3 | stays |\n"
    table.write_text(before + other)
    RUN_ALL["refresh"](table, Path("openmoji/one.yaml"), "new")
    assert table.read_text() == before.replace("old", "new") + other
    with pytest.raises(SystemExit, match=r"0 rows that begin with `openmoji/none\.yaml`"):
        RUN_ALL["refresh"](table, Path("openmoji/none.yaml"), "new")


def test_every_shipped_study_has_its_row_and_an_earlier_result_is_replaced(tmp_path: Path) -> None:
    table = (ROOT / "experiments" / "README.md").read_text()
    for config in (ROOT / "experiments" / "openmoji").glob("*.yaml"):
        assert table.count(f"\n| `openmoji/{config.name}` |") == 1, config.name
    report, results = tmp_path / "report", tmp_path / "results"
    for name in ("report.json", "figures/a.png", "figures/a.svg", "tables/t.csv", "sounds/s.wav"):
        (report / name).parent.mkdir(parents=True, exist_ok=True)
        (report / name).write_text(json.dumps(name))
    (results / "figures").mkdir(parents=True)
    (results / "figures" / "gone.png").touch()
    RUN_ALL["keep"](report, results)
    kept = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    assert kept == {"report.json", "figures/a.png", "tables/t.csv"}
