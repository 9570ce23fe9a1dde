"""What a report is made of, before it is Markdown or HTML: sections of text, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluation.wording import Cell


@dataclass(frozen=True)
class Text:
    """One paragraph."""

    body: str


@dataclass(frozen=True)
class Alert:
    """A paragraph that nobody should miss."""

    body: str


@dataclass(frozen=True)
class Points:
    """A bulleted list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Links:
    """A bulleted list of other pages: what each is, and its address from this report's folder."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Text kept as it is, such as the configuration."""

    title: str
    body: str


@dataclass(frozen=True)
class Table:
    """Rows of raw values; written in full as ``tables/<name>.csv``, rounded everywhere else.

    ``picture_column`` holds pictures, which only HTML can show; the other formats leave it out.
    A ``folded`` table is long: HTML shows it on a click, Markdown only links to its file.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    picture_column: str | None = None
    folded: bool = False

    def without_pictures(self) -> "Table":
        """The table without its picture column."""
        if self.picture_column is None:
            return self
        place = list(self.columns).index(self.picture_column)
        columns = [*self.columns[:place], *self.columns[place + 1 :]]
        rows = [[*row[:place], *row[place + 1 :]] for row in self.rows]
        return replace(self, columns=columns, rows=rows, picture_column=None)

    def spread(self) -> "Table":
        """The table with a column for each end of its intervals: "x low" and "x high"."""
        columns: list[str] = []
        values: list[Sequence[Cell]] = []
        for place, name in enumerate(self.columns):
            cells = [row[place] for row in self.rows]
            if any(isinstance(cell, tuple) for cell in cells):
                columns += [f"{name} low", f"{name} high"]
                ends = [cell if isinstance(cell, tuple) else (cell, cell) for cell in cells]
                values += [[low for low, _ in ends], [high for _, high in ends]]
            else:
                columns.append(name)
                values.append(cells)
        rows = [list(row) for row in zip(*values, strict=True)]
        return replace(self, columns=columns, rows=rows)


@dataclass(frozen=True)
class Picture:
    """A figure, ``figures/<name>.png`` and ``.svg``; ``read`` and ``made`` are a sentence each."""

    name: str
    title: str
    read: str
    made: str


@dataclass(frozen=True)
class Sounds:
    """Rows of words and sounds (WAV; None where there is none). Each sound is a file of ``sounds/``
    and, in HTML, to be played where it stands.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | bytes | None]]

    def file(self, row: int, column: int) -> str:
        """Where a sound is written, from the report's folder."""
        return f"sounds/{self.name}_{row}_{column}.wav"


Block = Text | Alert | Points | Links | Code | Table | Picture | Sounds


@dataclass(frozen=True)
class Section:
    """A titled part of the report; ``anchor`` is its name in links."""

    anchor: str
    title: str
    blocks: Sequence[Block]
