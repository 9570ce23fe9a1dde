"""Documents of texts and pictures in reading order, as OBELICS lays them out.

Two lists of one length, ``texts`` and ``images``; at each place one of them has an entry and the
other has none (Laurençon et al. 2023).
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from mot_lab.data.sources.files import Folders
from mot_lab.data.sources.media import picture_of
from mot_lab.data.sources.raw import DocumentKind, RawSegment
from mot_lab.data.sources.records import BadRecord, Record, Row, text_of
from mot_lab.data.sources.rows import RowReader, named_folders, open_rows


class InterleavedDocuments(RowReader):
    """A document a row.

    Args:
        path: see `open_rows`.
        texts, images: the two fields. A picture is the bytes of its file, an object with them
            (``bytes``) or the name of a file.
        files: folder of those files; None is the one of the rows.

    Raises:
        ValueError: see `open_rows`, or no such folder.
    """

    kind: DocumentKind = "interleaved"

    def __init__(self, path: str, texts: str, images: str, files: str | None) -> None:
        super().__init__(open_rows(path, [texts, images], [(texts,), (images,)]))
        self._texts, self._images = texts, images
        self._folders = named_folders(self._rows, files)

    def _of_row(self, row: Row) -> Iterator[Record]:
        texts = row.fields.get(self._texts)
        said = [str(each) for each in texts if each] if isinstance(texts, list) else []
        key = "\n".join(said) or row.name.rpartition("/")[2]
        yield Record(row.name, key, partial(self._load, row.fields))

    def _load(self, fields: Mapping[str, Any]) -> tuple[RawSegment, ...]:
        texts, images = _list(fields, self._texts), _list(fields, self._images)
        if len(texts) != len(images):
            raise BadRecord(f"{len(texts)} {self._texts} and {len(images)} {self._images}")
        segments = [
            each
            for place, pair in enumerate(zip(texts, images, strict=True))
            if (each := self._segment(place, *pair, self._folders)) is not None
        ]
        if not segments:
            raise BadRecord("neither texts nor images")
        return tuple(segments)

    def _segment(
        self, place: int, text: Any, image: Any, folders: Folders | None
    ) -> RawSegment | None:
        """What stands at a place; None where both are absent, as where a filter took one out."""
        if text is not None and image is not None:
            raise BadRecord(f"a text and an image at place {place}: which comes first?")
        if text is not None:
            return text_of(text, f"{self._texts}[{place}]")
        if image is not None:
            return picture_of(image, f"{self._images}[{place}]", folders)
        return None


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise BadRecord(f"{name} is {type(value).__name__}, not a list")
    return value
