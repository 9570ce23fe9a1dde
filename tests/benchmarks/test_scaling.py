"""The plan for the paper's sizes: the page is what is computed, and that is right.

That memory from structure is within 5% of what torch holds is `test_memory.py`'s.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from benchmarks.scaling import plan
from benchmarks.scaling.__main__ import ASSUMED, main
from benchmarks.scaling.document import A100, H200, ROWS, document
from benchmarks.scaling.plan import Layout, Row
from mot_lab.memory import arm_memory, nominal_pass

read = cache(Row.read)
PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


@pytest.fixture(scope="module")
def seven() -> Row:
    """The 7B of Table 1."""
    return read("chameleon_7b")


def test_the_page_is_what_is_computed() -> None:
    """Another one: python -m benchmarks.scaling > docs/scaling.md"""
    page = PAGE.read_text()
    assert page == document(ASSUMED)
    for name in (each for names in ROWS.values() for each in names):
        assert f"| {name.rpartition('_')[2].upper()} | `mot` |" in page


def test_the_papers_layout_is_read_from_its_file(seven: Row) -> None:
    assert (seven.rows, seven.rows_per_gpu, seven.gpus) == (768, 2, 384)
    assert seven.tokens == 768 * 4096
    assert seven.papers == Layout(384, 2, 1, sharded=True, recompute=False)


def test_time_is_flops_over_what_the_gpus_do(seven: Row) -> None:
    """By the usual formula: 6 for each weight of matrices, attention's half 12 L D S."""
    weights = 6476e6 + 4096 * 65536  # layers and output
    per_token = 6 * weights + 6 * 32 * 4096 * 4096
    flops = 120_000 * 768 * 4096 * per_token
    seconds = seven.seconds("dense", seven.papers, A100, 0.4)
    assert seconds == pytest.approx(flops / (384 * 312e12 * 0.4), rel=2e-3)
    assert 3.9 < seconds / 86_400 < 4.1
    again = replace(seven.papers, recompute=True)
    assert seven.seconds("dense", again, A100, 0.4) == pytest.approx(4 / 3 * seconds)
    assert seven.seconds("dense", seven.papers, H200, 0.2) == pytest.approx(seconds * 624 / 989)


@pytest.mark.parametrize("name", ["chameleon_37m", "transfusion_163m"])
@pytest.mark.parametrize(
    ("rows", "shards", "recompute"), [(1, 1, False), (3, 96, False), (2, 1, True), (8, 7, True)]
)
def test_memory_is_that_of_mot_lab_count(
    name: str, rows: int, shards: int, recompute: bool
) -> None:
    row = read(name)
    for arm in row.config.parsed_arms:
        at = nominal_pass(row.config.data, arm, rows)
        counted = arm_memory(arm, row.config.data.interface(), at, shards, recompute)
        planned = row.memory[arm.name].at(rows, shards, recompute)
        assert planned.total == pytest.approx(counted.total, rel=1e-12)
        assert planned.activations == pytest.approx(counted.activations, rel=1e-12)
        assert planned.gathered == counted.gathered
        assert planned.optimizer == pytest.approx(counted.optimizer, rel=1e-12)


def test_the_least_gpus_fit_and_fewer_do_not(seven: Row) -> None:
    least = {arm: seven.least_gpus(arm, A100) for arm in seven.memory}
    assert least["dense"] < least["mot"] < least["moe_4x"]
    for arm, gpus in least.items():
        fewer = max(each for each in range(1, gpus) if 768 % each == 0)
        memory = seven.memory[arm]
        assert memory.at(1, gpus, True).total <= 72e9 < memory.at(1, fewer, True).total
        assert seven.least_gpus(arm, H200) < gpus


@pytest.mark.parametrize("name", ["chameleon_37m", "transfusion_760m", "chameleon_7b"])
@pytest.mark.parametrize("gpus", [8, 32])
def test_a_layout_takes_the_whole_step_and_is_the_first_that_fits(name: str, gpus: int) -> None:
    row = read(name)
    layout = row.layout(gpus, A100)
    if layout is None:
        assert row.least_gpus("moe_4x", A100) > gpus
        return
    assert layout.gpus * layout.rows * layout.passes == row.rows
    assert layout.rows <= row.rows_per_gpu
    assert row.largest(layout) <= 72e9
    before = [
        replace(layout, rows=rows, sharded=sharded, recompute=recompute)
        for rows in range(1, row.rows_per_gpu + 1)
        for sharded in (False, True)
        for recompute in (False, True)
        if row.rows // gpus % rows == 0
        and (recompute, -rows, sharded) < (layout.recompute, -layout.rows, layout.sharded)
    ]
    assert all(row.largest(each) > 72e9 for each in before)


def test_gpus_that_do_not_divide_the_rows_have_no_layout() -> None:
    assert read("chameleon_37m").layout(7, H200) is None


def test_bad_input_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "PAPER", tmp_path)
    (tmp_path / "a.yaml").write_text("data:\n  rows: 12\n")
    with pytest.raises(ValueError, match=r"a\.yaml: no 'rows: N  # R on each of G GPUs'"):
        Row.read("a")
    (tmp_path / "a.yaml").write_text("data:\n  rows: 12  # 2 on each of 5 GPUs\n")
    with pytest.raises(ValueError, match="rows 12 are not 2 on each of 5 GPUs"):
        Row.read("a")
    monkeypatch.setattr("sys.argv", ["scaling", "--utilisation", "1.4"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--utilisation 1.4 must be above 0 and at most 1" in capsys.readouterr().err
