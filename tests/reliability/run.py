"""Runs all of tests/reliability and keeps its count in the README: make reliability.

A promise is a file of this folder. Its row counts the faults injected and those handled as
promised; a test that fails has handled one fault less than it tried.
"""

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BEGIN, END = "<!-- reliability -->", "<!-- /reliability -->"
PROMISES = {
    "test_resume": "Resume is bit-exact: weights, optimiser, averages, random state, data, curves",
    "test_kills": "kill -9 at any moment loses at most one checkpoint interval and tears no file",
    "test_caches": "Caches are whole or absent; two processes may build the same one",
    "test_disk_full": "A full disk costs one message; earlier files stay whole",
    "test_tracker": "A tracker that is down or slow neither stops nor slows training",
    "test_nonfinite": "NaN, infinity and spikes never reach the weights",
    "test_signals": "SIGTERM and SIGINT save at the step's end and say so in the exit code",
    "test_bad_data": "Bad data are refused by name, or skipped, counted and limited",
    "test_bad_sources": "Damaged files of a source cost what stands in them, and it is said",
    "test_bad_configuration": "A wrong configuration is one line, before anything is prepared",
    "test_hostile_files": "Hostile files do nothing but an error",
    "test_other_layouts": "Data of another layout are refused by name, and stay as they are",
    "test_reports_and_ports": "Reports show text as text; a running study listens nowhere",
    "test_shards": "Prepared shards are whole, or refused by name; who prepares goes on",
    "test_long_runs": "Memory, open files and threads stay flat in long runs",
}


@dataclass(frozen=True)
class Count:
    """Faults of one promise."""

    tried: int
    handled: int
    seconds: float


def counts(report: Path) -> dict[str, Count]:
    """By promise, from pytest's JUnit file; skipped tests count as nothing tried, a file that
    cannot be imported as one fault not handled.
    """
    tried: Counter[str] = Counter()
    handled: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for case in ET.parse(report).getroot().iter("testcase"):
        name = case.get("classname") or case.get("name", "")
        promise = name.split(".")[-1]
        if promise not in PROMISES:
            raise SystemExit(f"{name}: no promise of this name in {__file__}")
        said = {each.get("name"): int(each.get("value", "")) for each in case.iter("property")}
        seconds[promise] += float(case.get("time", 0))
        if case.find("skipped") is not None:
            continue
        failed = case.find("failure") is not None or case.find("error") is not None
        here = said.get("tried", 1)
        tried[promise] += here
        handled[promise] += min(said.get("handled", here), here - failed)
    return {name: Count(tried[name], handled[name], seconds[name]) for name in PROMISES}


def table(found: dict[str, Count], note: str) -> str:
    """The README's table."""
    lines = ["| promise | handled / tried |", "|---|---|"]
    lines += [
        f"| {PROMISES[name]} | {each.handled} / {each.tried} |" for name, each in found.items()
    ]
    whole = Count(
        *(sum(getattr(each, key) for each in found.values()) for key in ("tried", "handled")), 0
    )
    lines += [f"| **all** | **{whole.handled} / {whole.tried}** |", "", note]
    return "\n".join(lines)


def between_marks(text: str, new: str) -> str:
    """A text with what stands between its marks replaced."""
    if not re.search(f"{BEGIN}.*{END}", text, flags=re.DOTALL):
        raise SystemExit(f"there is no {BEGIN} .. {END} for the table to stand in")
    replacement = f"{BEGIN}\n{new}\n{END}"
    return re.sub(f"{BEGIN}.*{END}", lambda _: replacement, text, flags=re.DOTALL)


def head() -> str:
    """The commit, with ``-dirty`` where something was changed since."""
    asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Run, count, write the table; exits with pytest's code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "README.md", help="file with the table")
    parser.add_argument(
        "--only", nargs="+", choices=PROMISES, help="run these and write no table", metavar="NAME"
    )
    options = parser.parse_args()
    if not options.only:
        between_marks(options.out.read_text(), "")  # to see in an hour that it fails would be late
    files = [HERE / f"{name}.py" for name in options.only or ()] or [HERE]
    report = ROOT / "runs" / "reliability.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-n", "2", "--junitxml", report, *files]
    environment = os.environ | {"MOT_LAB_RELIABILITY": "whole"}
    code = subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
    minutes = (time.monotonic() - began) / 60
    found = counts(report)
    for name in options.only or PROMISES:
        each = found[name]
        print(f"{name:24s}{each.handled:6d} /{each.tried:6d}{each.seconds:8.0f} s")
    if not options.only:
        day = datetime.now(UTC).date().isoformat()
        note = (
            f"`make reliability`, {day}, on top of commit {head()}, {minutes:.0f} min on "
            f"{os.cpu_count()} cores."
        )
        options.out.write_text(between_marks(options.out.read_text(), table(found, note)))
    sys.exit(code)


if __name__ == "__main__":
    main()
