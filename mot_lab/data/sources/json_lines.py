"""JSON lines, plain or compressed: cut into ranges of bytes, read line by line.

A line that cannot be read costs that line, not the file.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from mot_lab.data.sources.files import File, data_extra
from mot_lab.data.sources.raw import Skipped
from mot_lab.runtime.plain_files import parse_json

PLAIN = (".jsonl", ".ndjson", ".json")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
LINES = (*PLAIN, *(plain + packed for plain in PLAIN for packed in COMPRESSED))
RANGE = 1 << 26  # bytes of a part
LONGEST_LINE = 1 << 26  # bytes
# A compressed file that is damaged or cut short; the system's own errors have a number.
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)

Range = tuple[int, int | None]  # first byte, and the first of the next range


def json_parts(file: File) -> list[tuple[str, Range]]:
    """Names and ranges; a compressed file is one."""
    if file.path.lower().endswith(COMPRESSED):
        return [(file.name, (0, None))]
    ends = [*range(RANGE, file.size(), RANGE)]
    if not ends:
        return [(file.name, (0, None))]
    return [
        (f"{file.name} from byte {start}", (start, end))
        for start, end in zip([0, *ends], [*ends, None], strict=True)
    ]


def json_rows(file: File, place: Range) -> Iterator[tuple[str, Mapping[str, Any]] | Skipped]:
    """Each line that begins in a range: where it stands, and its object. Blank lines are none."""
    first, end = place
    with file.open() as raw, _unpacked(raw, file.path) as stream:
        at = _next_line(stream, first)
        number = 0
        while end is None or at < end:
            number += 1
            where = f"{file.name}:{number}" if first == 0 else f"{file.name}, byte {at}"
            try:
                line = stream.readline(LONGEST_LINE)
                length = len(line)
                if length == LONGEST_LINE and not line.endswith(b"\n"):
                    length += _rest_of_line(stream)
            except (*DAMAGED, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # no fault of the file
                yield Skipped(where, f"damaged or cut short here, the rest is not read: {error}")
                return
            if not line:
                return
            at += length
            if length > LONGEST_LINE:
                yield Skipped(where, f"a line of {length:,} bytes, at most {LONGEST_LINE:,}")
            elif line.strip():
                yield _parsed(line, where)


def require_lines(file: File) -> None:
    """Refuse a file that is one JSON list.

    Raises:
        ValueError: its first character is a bracket.
    """
    with file.open() as raw, _unpacked(raw, file.path) as stream:
        try:
            first = stream.read(64)
        except (*DAMAGED, OSError):
            return  # said where it is read
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise ValueError(
            f"{file.name} is one JSON list, not an object a line: jq -c '.[]' makes lines of it"
        )


def _parsed(line: bytes, where: str) -> tuple[str, Mapping[str, Any]] | Skipped:
    try:
        value = parse_json(line.decode("utf-8-sig"), "the line")
    except UnicodeDecodeError as error:
        return Skipped(where, f"not in UTF-8: {error}")
    except ValueError as error:
        return Skipped(where, str(error))
    if not isinstance(value, dict):
        return Skipped(where, f"the line is {type(value).__name__}, no JSON object")
    return where, value


def _next_line(stream: BinaryIO, first: int) -> int:
    """Go to the first line that begins at a byte or after it: where that is."""
    if first == 0:
        return 0
    stream.seek(first - 1)
    return first - 1 + _rest_of_line(stream)


def _rest_of_line(stream: BinaryIO) -> int:
    length = 0
    while piece := stream.readline(LONGEST_LINE):
        length += len(piece)
        if piece.endswith(b"\n"):
            break
    return length


def _unpacked(raw: BinaryIO, path: str) -> BinaryIO:
    """The bytes behind a compression; closing it leaves ``raw`` open, or not."""
    if path.lower().endswith(".gz"):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if path.lower().endswith(".bz2"):
        return bz2.BZ2File(raw)  # type: ignore[return-value]
    if path.lower().endswith(".xz"):
        return lzma.LZMAFile(raw)  # type: ignore[return-value]
    if path.lower().endswith(".zst"):
        with data_extra():
            import pyarrow
        return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"))
    return raw
