"""Speech in rows: sounds with transcripts, as The People's Speech has them, or units.

Shapes: n samples or units.
"""

import io
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np

from mot_lab.data.recordings import decode_recording
from mot_lab.data.sources.media import file_bytes, picture_of
from mot_lab.data.sources.raw import DocumentKind, RawSegment, RawSound, RawUnits, Skipped
from mot_lab.data.sources.records import BadRecord, Record, Row, text_of
from mot_lab.data.sources.rows import RowReader, named_folders, open_rows
from mot_lab.parsing import shown
from mot_lab.tokens.speech_features import UnusableRecording, require_sound

NESTED = "training_data"  # a field of The People's Speech's own manifest: lists of utterances
MOST_UNITS = 2**31 - 1

Heard = Literal["sound", "units"]


class SpeechRows(RowReader):
    """An utterance a row, or many of them where a row is a document of The People's Speech.

    Args:
        path: see `open_rows`.
        heard: what ``field`` holds: ``sound`` (the bytes of a file, an object with them, or the
            name of a file) or ``units`` (a list of whole numbers, or a text of them).
        field: of the sound or units.
        text, image: fields of the transcript and of a picture of what is talked about; a row may
            have neither.
        files: folder of files that rows name; None is the one of the rows.

    Raises:
        ValueError: see `open_rows`, or no such folder.
    """

    kind: DocumentKind = "speech"

    def __init__(
        self, path: str, heard: Heard, field: str, text: str, image: str, files: str | None
    ) -> None:
        nested = (NESTED,) if heard == "sound" else ()
        super().__init__(open_rows(path, [field, text, image, *nested], [(field, *nested)]))
        self._heard, self._field, self._text, self._image = heard, field, text, image
        self._folders = named_folders(self._rows, files)

    def _of_row(self, row: Row) -> Iterator[Record | Skipped]:
        if self._heard == "sound" and NESTED in row.fields:
            yield from self._utterances(row)
        else:
            yield self._record(row.name, row.fields)

    def _utterances(self, row: Row) -> Iterator[Record | Skipped]:
        lists = row.fields[NESTED]
        names, texts = (
            lists.get(each) if isinstance(lists, Mapping) else None for each in ("name", "label")
        )
        if not (isinstance(names, list) and isinstance(texts, list) and len(names) == len(texts)):
            yield Skipped(row.name, f"{NESTED} has no lists name and label of one length")
            return
        for place, (name, text) in enumerate(zip(names, texts, strict=True)):
            yield self._record(
                f"{row.name} utterance {place}", {self._field: name, self._text: text}
            )

    def _record(self, name: str, fields: Mapping[str, Any]) -> Record:
        text, heard = fields.get(self._text), fields.get(self._field)
        key = text if isinstance(text, str) and text.strip() else _identity(heard, name)
        return Record(name, key, partial(self._load, name, fields))

    def _load(self, name: str, fields: Mapping[str, Any]) -> tuple[RawSegment, ...]:
        heard, text = fields.get(self._field), fields.get(self._text)
        image = fields.get(self._image)
        first: RawSegment = (
            units_of(heard, self._field)
            if self._heard == "units"
            else sound_of(file_bytes(heard, self._field, self._folders), name)
        )
        return (
            first,
            *([] if text is None else [text_of(text, self._text)]),
            *([] if image is None else [picture_of(image, self._image, self._folders)]),
        )


def sound_of(data: bytes, name: str) -> RawSound:
    """The sound of a file's bytes: WAV, FLAC, Ogg, MP3, of any rate, its channels averaged.

    Raises:
        BadRecord: not readable, or silent, empty or not finite.
    """
    try:
        recording = decode_recording(io.BytesIO(data), name)
        require_sound(recording)
    except UnusableRecording as error:
        raise BadRecord(str(error).removeprefix(f"{name}: ")) from None
    return RawSound(recording.wave_n, recording.rate)


def units_of(value: object, what: str) -> RawUnits:
    """Units from a list of whole numbers, or from a text like ``71 12 12 3``.

    Raises:
        BadRecord: neither, none, or a number that is no unit.
    """
    units = value.split() if isinstance(value, str) else value
    if not isinstance(units, list) or not units:
        raise BadRecord(f"{what} is {shown(value)}: no list of units")
    if isinstance(value, str):
        units = [int(each) if each.isascii() and each.isdigit() else each for each in units]
    for place, each in enumerate(units):
        if type(each) is not int or not 0 <= each <= MOST_UNITS:
            raise BadRecord(f"{what}[{place}] is {shown(each)}, not a whole number from 0")
    return RawUnits(np.array(units, dtype=np.int64))


def _identity(heard: object, name: str) -> str:
    """What tells an utterance without a transcript from others: its file, its units, its place."""
    if isinstance(heard, Mapping):
        heard = heard.get("path")
    if isinstance(heard, list):
        return " ".join(map(str, heard))
    return heard if isinstance(heard, str) and heard else name.rpartition("/")[2]
