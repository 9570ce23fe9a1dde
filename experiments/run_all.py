"""Runs every study of ``experiments/openmoji`` to its report and refreshes what is kept of them.

    .venv/bin/python experiments/run_all.py [names]     (make experiments)

What is finished already is kept, as by `mot-lab study`. Reports are copied to ``results/<name>/``
(figures as PNG, tables as CSV, no sounds), and the row of each study in ``README.md`` gets the
slopes just measured, the date and the hardware.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KEPT = ("report.json", "report.md", "figures/*.png", "tables/*.csv")


def run(config: Path, runs: Path) -> float:
    """Run one study; returns the minutes it took.

    Raises:
        SystemExit: the study failed; what it said stands above.
    """
    began = time.monotonic()
    command = [Path(sys.executable).with_name("mot-lab"), "study", config, "--runs", runs]
    if code := subprocess.run(command, check=False).returncode:
        raise SystemExit(
            f"{config} failed with exit code {code}; the studies after it were not run"
        )
    return (time.monotonic() - began) / 60


def keep(report: Path, results: Path) -> None:
    """Copy of a report what is worth keeping, in place of an earlier one."""
    shutil.rmtree(results, ignore_errors=True)
    for pattern in KEPT:
        for path in sorted(report.glob(pattern)):
            target = results / path.relative_to(report)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def measured(report: dict[str, Any]) -> str:
    """The validation slopes over steps of a report, of a study or of a ladder, in one cell.

    Example:
        >>> row = {"curve": "val", "axis": "steps", "arm": "mot", "modality": "text",
        ...        "slope": 0.91234, "slope_low": 0.85, "slope_high": 0.97}
        >>> measured({"matching": [row]})
        'mot text 0.912 [0.85, 0.97]'
    """
    cells: dict[str, list[str]] = {}
    for row in report.get("slopes", report.get("matching", [])):
        if (row["curve"], row["axis"]) == ("val", "steps"):
            arm = " ".join([row["rung"], row["arm"]] if "rung" in row else [row["arm"]])
            low, high = (
                (row["slope_low"], row["slope_high"])
                if row["slope_low"] is not None
                else (row["points_low"], row["points_high"])
            )
            number = "never" if row["slope"] is None else f"{row['slope']:.3g}"
            between = f" [{low:.3g}, {high:.3g}]" if low is not None else ""
            cells.setdefault(arm, []).append(f"{row['modality']} {number}{between}")
    return "; ".join(f"{arm} {', '.join(each)}" for arm, each in cells.items())


def refresh(table: Path, config: Path, cell: str) -> None:
    """Put a cell into the last column of a study's row.

    Raises:
        SystemExit: the table has no row for the study.
    """
    name = f"`{config.parent.name}/{config.name}`"
    lines = table.read_text().splitlines()
    places = [i for i, line in enumerate(lines) if line.startswith(f"| {name} |")]
    if len(places) != 1:
        raise SystemExit(f"{table} has {len(places)} rows that begin with {name}, not one")
    columns = re.split(r"(?<!\\)\|", lines[places[0]])
    columns[-2] = f" {cell} "
    lines[places[0]] = "|".join(columns)
    table.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run what is asked for, one study after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="studies, by file name; all by default")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all studies")
    options = parser.parse_args()
    configs = sorted((HERE / "openmoji").glob("*.yaml"))
    known = [config.stem for config in configs]
    if unknown := [name for name in options.names if name not in known]:
        raise SystemExit(f"no study {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [config for config in configs if not options.names or config.stem in options.names]
    for number, config in enumerate(chosen, start=1):
        print(f"\n== {number} of {len(chosen)}: {config.stem}", flush=True)
        minutes = run(config, options.runs)
        folder = options.runs / config.stem
        report = json.loads((folder / "report.json").read_text())
        keep(folder, HERE / "results" / config.stem)
        day = datetime.now(UTC).date().isoformat()
        cell = f"{measured(report)}. {day}, {hardware(folder)}, {minutes:.0f} min"
        refresh(HERE / "README.md", config, cell)


def hardware(folder: Path) -> str:
    """Of the machine that the runs below a folder were made on."""
    study = next(iter(sorted(folder.rglob("study.json"))))
    environment = json.loads(study.read_text())["environment"]
    return environment["gpu"] or f"{environment['cores']} cores of {environment['cpu']}"


if __name__ == "__main__":
    main()
