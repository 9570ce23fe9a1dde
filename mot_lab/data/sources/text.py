"""Running text: one field of JSON lines, parquet or a data set of the Hugging Face hub."""

from collections.abc import Iterator
from functools import partial

from mot_lab.data.sources.raw import DocumentKind, RawSegment, Skipped
from mot_lab.data.sources.records import Record, Wanted, text_of
from mot_lab.data.sources.rows import open_rows


class Texts:
    """A document a row.

    Args:
        path: see `open_rows`.
        field: its text.

    Raises:
        ValueError: see `open_rows`.
    """

    kind: DocumentKind = "text"

    def __init__(self, path: str, field: str) -> None:
        self._rows, self._field = open_rows(path, [field], [(field,)]), field

    def parts(self) -> list[str]:
        """Those of the rows."""
        return self._rows.parts()

    def records(self, part: str, wanted: Wanted) -> Iterator[Record | Skipped]:
        """See `mot_lab.data.sources.records.Reader`."""
        for row in self._rows.rows(part):
            if isinstance(row, Skipped):
                yield row
                continue
            text = row.fields.get(self._field)
            yield Record(row.name, str(text), partial(_load, text, self._field))

    def state(self) -> str:
        """Of the rows."""
        return self._rows.state()


def _load(text: object, field: str) -> tuple[RawSegment, ...]:
    return (text_of(text, field),)
