"""What a reader of one kind of files gives: records that are opened one by one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mot_lab.data.recordings import Split
from mot_lab.data.sources.raw import DocumentKind, RawSegment, RawText, Skipped

Wanted = Callable[[str], bool]


class BadRecord(ValueError):
    """A record that cannot be read, and why."""


@dataclass(frozen=True)
class Record:
    """One document that may be opened.

    Attributes:
        name: its file and its place there, for messages.
        key: what decides whether it is held out: the same wherever the files lie.
        load: opens it; raises `BadRecord`.
        split: that the files themselves give it.
    """

    name: str
    key: str
    load: Callable[[], tuple[RawSegment, ...]]
    split: Split | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table: its fields by their names, and where it stands, for messages."""

    name: str
    fields: Mapping[str, Any]


class Reader(Protocol):
    """Files of one kind."""

    kind: DocumentKind

    def parts(self) -> list[str]:
        """See `mot_lab.data.sources.raw.Source`."""

    def records(self, part: str, wanted: Wanted) -> Iterator[Record | Skipped]:
        """All records of a part in a fixed order; those whose key is not wanted are not opened,
        and need not be."""

    def state(self) -> str:
        """16 hex digits of the files: paths, sizes and times of change."""


def text_of(value: object, what: str) -> RawText:
    """A text that can be written in UTF-8.

    Raises:
        BadRecord: no text, an empty one, or half a surrogate pair in it; says ``what`` it is.
    """
    if value is None:
        raise BadRecord(f"no {what}")
    if not isinstance(value, str):
        raise BadRecord(f"{what} is {type(value).__name__}, not text")
    if not value.strip():
        raise BadRecord(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRecord(f"{what} holds half a surrogate pair at {error.start}") from None
    return RawText(value)
