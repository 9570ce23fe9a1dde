"""How tests/reliability counts faults, and where its table stands."""

from pathlib import Path

import pytest
from reliability.run import BEGIN, END, PROMISES, Count, between_marks, counts, table

REPORT = """<testsuites><testsuite>
<testcase classname="tests.reliability.test_kills" name="survived" time="2.5">
  <properties><property name="tried" value="12"/><property name="handled" value="12"/></properties>
</testcase>
<testcase classname="tests.reliability.test_kills" name="one is lost" time="1">
  <properties><property name="tried" value="5"/><property name="handled" value="4"/></properties>
  <failure message="torn"/>
</testcase>
<testcase classname="tests.reliability.test_kills" name="said before it failed" time="1">
  <properties><property name="tried" value="5"/><property name="handled" value="5"/></properties>
  <failure message="torn"/>
</testcase>
<testcase classname="tests.reliability.test_signals" name="says nothing" time="1"/>
<testcase classname="tests.reliability.test_signals" name="fails" time="1">
  <failure message="exit code 0"/>
</testcase>
<testcase classname="tests.reliability.test_signals" name="no place to run" time="1">
  <error message="no fixture"/>
</testcase>
<testcase classname="tests.reliability.test_tracker" name="minutes long" time="0.5">
  <properties><property name="tried" value="7"/><property name="handled" value="7"/></properties>
  <skipped message="part of make reliability"/>
</testcase>
<testcase classname="" name="tests.reliability.test_caches"><error message="collection"/></testcase>
</testsuite></testsuites>"""


def counted(folder: Path, report: str = REPORT) -> dict[str, Count]:
    path = folder / "reliability.xml"
    path.write_text(report)
    return counts(path)


def test_a_failure_is_a_fault_not_handled(tmp_path: Path) -> None:
    found = counted(tmp_path)
    assert found["test_kills"] == Count(tried=22, handled=20, seconds=4.5)
    assert found["test_signals"] == Count(tried=3, handled=1, seconds=3.0)


def test_what_was_skipped_was_not_tried(tmp_path: Path) -> None:
    found = counted(tmp_path)
    assert found["test_tracker"] == Count(tried=0, handled=0, seconds=0.5)
    assert found["test_resume"] == Count(0, 0, 0.0)
    assert found.keys() == PROMISES.keys()


def test_a_file_that_cannot_be_imported_is_a_failure(tmp_path: Path) -> None:
    assert counted(tmp_path)["test_caches"] == Count(1, 0, 0.0)


def test_a_file_without_a_promise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"test_other: no promise"):
        counted(tmp_path, REPORT.replace("test_signals", "test_other"))


def test_every_promise_has_a_row_and_the_sum_is_theirs(tmp_path: Path) -> None:
    lines = table(counted(tmp_path), "made today").splitlines()
    assert len(lines) == 2 + len(PROMISES) + 1 + 2
    assert f"| {PROMISES['test_kills']} | 20 / 22 |" in lines
    assert lines[-3:] == ["| **all** | **21 / 26** |", "", "made today"]


def test_the_table_replaces_what_stood_between_the_marks() -> None:
    text = f"before\n{BEGIN}\nold\n| table |\n{END}\nafter {BEGIN[5:]}\n"
    new = r"| 3 \g<0> \1 |"
    assert between_marks(text, new) == f"before\n{BEGIN}\n{new}\n{END}\nafter {BEGIN[5:]}\n"
    with pytest.raises(SystemExit, match="no <!-- reliability -->"):
        between_marks("a README without them", new)


def test_every_file_of_the_folder_is_a_promise() -> None:
    folder = Path(__file__).parent / "reliability"
    assert {path.stem for path in folder.glob("test_*.py")} <= PROMISES.keys()
