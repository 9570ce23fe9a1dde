"""What a report is made of, before it is Markdown or HTML: sections of text, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | int | float | bool | bytes | None  # bytes: a PNG picture


@dataclass(frozen=True)
class Text:
    """One paragraph."""

    body: str


@dataclass(frozen=True)
class Points:
    """A bulleted list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Text kept as it is, such as the configuration."""

    title: str
    body: str


@dataclass(frozen=True)
class Table:
    """Rows of raw values; written in full as ``tables/<name>.csv``, rounded everywhere else.

    ``picture_column`` holds pictures, which only HTML can show; the other formats leave it out.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    picture_column: str | None = None

    def without_pictures(self) -> "Table":
        """The table without its picture column."""
        if self.picture_column is None:
            return self
        place = list(self.columns).index(self.picture_column)
        columns = [*self.columns[:place], *self.columns[place + 1 :]]
        rows = [[*row[:place], *row[place + 1 :]] for row in self.rows]
        return Table(self.name, self.title, columns, rows)


@dataclass(frozen=True)
class Picture:
    """A figure, ``figures/<name>.png`` and ``.svg``; ``read`` and ``made`` are a sentence each."""

    name: str
    title: str
    read: str
    made: str


Block = Text | Points | Code | Table | Picture


@dataclass(frozen=True)
class Section:
    """A titled part of the report; ``anchor`` is its name in links."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def show(cell: Cell) -> str:
    """A cell as tables print it: four significant digits, thousands separated, "–" for none.

    Example:
        >>> show(1234567), show(0.123456), show(1.23456e12), show(None)
        ('1,234,567', '0.1235', '1.235e+12', '–')
    """
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, bytes):
        return ""
    if isinstance(cell, int):
        return f"{cell:,}" if abs(cell) < 10**9 else f"{cell:.3e}"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return cell
