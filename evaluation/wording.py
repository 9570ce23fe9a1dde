"""How numbers and arms are written, in text, tables and figures alike."""

from collections.abc import Mapping
from typing import Any

from evaluation.bootstrap import Interval

Numbers = Mapping[str, Any]  # the content of report.json
Cell = str | int | float | bool | bytes | Interval | None  # bytes: a PNG picture

LEAK_MARK = "†"
LEAK_NOTE = f"{LEAK_MARK} training routing: sees other tokens, see note"


def show(cell: Cell) -> str:
    """A cell as tables print it: four significant digits, thousands separated, "–" for none.

    Example:
        >>> show(1234567), show(0.123456), show(1.23456e12), show(None), show((0.5, 0.75))
        ('1,234,567', '0.1235', '1.235e+12', '–', '[0.5, 0.75]')
    """
    if cell is None or cell == (None, None):
        return "–"
    if isinstance(cell, tuple):
        return f"[{show(cell[0])}, {show(cell[1])}]"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, bytes):
        return ""
    if isinstance(cell, int):
        return f"{cell:,}" if abs(cell) < 10**9 else f"{cell:.3e}"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return cell


def marked(numbers: Numbers, arm: str) -> str:
    """The arm's name, marked where its loss is under a routing that sees other tokens."""
    return f"{arm} {LEAK_MARK}" if numbers["arms"][arm]["loss_sees_other_tokens"] else arm


def under_training_routing(row: Mapping[str, Any]) -> bool:
    """Whether a metric's row is of experts that see other tokens: no other arm has such rows."""
    return row["name"].endswith("training routing")
