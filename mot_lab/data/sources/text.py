"""Running text: one field of JSON lines, parquet or a data set of the Hugging Face hub."""

from collections.abc import Iterator
from functools import partial

from mot_lab.data.sources.raw import DocumentKind, RawSegment
from mot_lab.data.sources.records import Record, Row, text_of
from mot_lab.data.sources.rows import RowReader, open_rows


class Texts(RowReader):
    """A document a row.

    Args:
        path: see `open_rows`.
        field: its text.

    Raises:
        ValueError: see `open_rows`.
    """

    kind: DocumentKind = "text"

    def __init__(self, path: str, field: str) -> None:
        super().__init__(open_rows(path, [field], [(field,)]))
        self._field = field

    def _of_row(self, row: Row) -> Iterator[Record]:
        text = row.fields.get(self._field)
        yield Record(row.name, str(text), partial(_load, text, self._field))


def _load(text: object, field: str) -> tuple[RawSegment, ...]:
    return (text_of(text, field),)
