"""Every number that a report prints is one of report.json; and the same store, the same bytes."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import count
from typing import Any

from matplotlib.figure import Figure

from evaluation.figures.registry import figure_makers
from evaluation.numbers.study import report_numbers
from evaluation.report import build as report
from evaluation.report.blocks import Picture
from evaluation.report.content import report_sections
from evaluation.report.html import to_html
from evaluation.store.study_record import StudyRecord
from evaluation.wording import show

NUMBER = re.compile(r"\d[\d,.]*(?:e[+-]?\d+)?")
LETTERS = str.maketrans("0123456789", "abcdefghij")


class Prose(HTMLParser):
    """What an HTML page shows as text, without its style sheet."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside != "style":
            self.parts.append(data)


def printed(text: str) -> set[str]:
    """The numbers in a text, as they stand there."""
    return {found.rstrip(",.") for found in NUMBER.findall(text)}


def leaves(value: Any) -> Iterator[Any]:
    """Every number and string in what JSON can hold, names of fields included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif value is not None and not isinstance(value, bool):
        yield value


def both(number: float) -> tuple[float, float]:
    """A number, and as a fraction: counts such as FLOPs are printed as one."""
    return number, float(number)


def as_shown(numbers: dict[str, Any]) -> set[str]:
    """The numbers that a text made from ``numbers`` may print, in the ways it may print them."""
    allowed: set[str] = set()
    for leaf in leaves(numbers):
        ways = [leaf] if isinstance(leaf, str) else [*map(show, both(leaf)), *map(str, both(leaf))]
        allowed |= set().union(*map(printed, ways))
    return allowed


def scrambled(numbers: dict[str, Any]) -> dict[str, Any]:
    """The same report with every number another, unlikely one, and no digit in any string."""
    places = count(1)

    def scramble(value: Any) -> Any:
        if isinstance(value, dict):
            return {key.translate(LETTERS): scramble(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [scramble(inner) for inner in value]
        if isinstance(value, str):
            return value.translate(LETTERS)
        if value is None or isinstance(value, bool):
            return value
        place = next(places)
        if isinstance(value, int):
            return 600_000_000 + 7919 * place
        return float(f"{1000 + place % 9000}e-{33 + place // 9000}")

    return scramble(numbers)


def test_every_printed_number_is_in_report_json(built) -> None:
    numbers = json.loads((built / "report.json").read_text())
    allowed = as_shown(numbers)
    markdown = (built / "report.md").read_text()
    prose = " ".join(Prose((built / "report.html").read_text()).parts)
    for text in (markdown, prose):
        assert printed(text) - allowed == set()
        assert len(printed(text)) > 100
    exact = {float(leaf) for leaf in leaves(numbers) if not isinstance(leaf, str)}
    cells = 0
    for table in sorted((built / "tables").glob("*.csv")):
        for row in csv.reader(table.open()):
            for cell in row:
                if re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", cell):
                    assert float(cell) in exact, (table.name, row)
                    cells += 1
                else:
                    assert printed(cell) <= allowed, (table.name, cell)
    assert cells > 400


def test_no_number_is_written_into_the_text_itself(study: StudyRecord) -> None:
    """With every number of report.json another one, none of the old ones is printed anywhere."""
    numbers = scrambled(json.loads(json.dumps(report_numbers(study))))
    sections = report_sections(numbers, {})
    texts = report.report_texts("title", numbers, sections)
    names = [one.name for part in sections for one in part.blocks if isinstance(one, Picture)]
    texts["report.html"] = " ".join(Prose(to_html("t", sections, dict.fromkeys(names, b""))).parts)
    allowed = as_shown(numbers)
    places = 0
    for name, text in texts.items():
        if name.endswith(".csv"):  # whose commas are no thousands
            text = " ".join(cell for row in csv.reader(text.splitlines()) for cell in row)
        assert printed(text) - allowed == set(), name
        places += len(printed(text))
    assert places > 1000


def test_rebuilt_from_the_store_gives_the_same_bytes(store, built, tmp_path, monkeypatch) -> None:
    def blank(study: StudyRecord, numbers: dict[str, Any]) -> dict[str, Callable[[], Figure]]:
        return {name: lambda: Figure((1, 1)) for name in figure_makers(study, numbers)}

    monkeypatch.setattr(report, "figure_makers", blank)  # figures are no part of the promise
    again = report.build_report(store.uri, "synthetic", tmp_path).parent
    names = [path.relative_to(again) for path in again.rglob("*") if path.is_file()]
    texts = [name for name in names if "figures" not in name.parts]
    assert len(texts) == 3 + len(list((built / "tables").iterdir()))
    for name in texts:
        first, second = ((folder / name).read_text() for folder in (built, again))
        if name.suffix == ".html":
            first, second = (re.sub(r"base64,[^\"]*", "", one) for one in (first, second))
        assert first == second, name
