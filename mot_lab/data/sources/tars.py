"""WebDataset shards: tar files whose members of one name up to the first dot are one sample.

They are read by Python's ``tarfile``, not by the package ``webdataset``: nothing is unpickled, no
URL runs a command (``pipe:``), no member reaches the disk, and a shard that is damaged or cut short
is told apart from one that ends. The tests read the same samples with both.

Members are read in the order of the tar; what is held out or too large is passed over unread.
"""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from mot_lab.data.sources.files import LARGEST_FILE, File, expand
from mot_lab.data.sources.raw import DocumentKind, RawPicture, RawSegment, RawText, Skipped
from mot_lab.data.sources.records import BadRecord, Record, Wanted, text_of
from mot_lab.data.sources.rows import state_of
from mot_lab.parsing import one_line, shown
from mot_lab.runtime.plain_files import parse_json

TARS = (".tar", ".tar.gz", ".tgz")
JSON = "json."
# Of hostile headers tarfile says more than its own errors.
DAMAGED = (tarfile.TarError, EOFError, zlib.error, ArithmeticError, LookupError, ValueError)


class CaptionedTars:
    """Pictures with captions in tar files; a part is a tar.

    Args:
        path: of the tars.
        image, text: extensions of a sample's picture and caption, the first that is there of
            ``jpg;png``; ``json.caption`` is a field of the sample's JSON, a text or a list.

    Raises:
        ValueError: nothing at the path, or no file is a tar.
    """

    kind: DocumentKind = "pairs"

    def __init__(self, path: str, image: str, text: str) -> None:
        self._files = {file.name: file for file in expand(path, TARS)}
        self._image, self._text = image.split(";"), text.split(";")
        self._read = {
            "json" if each.startswith(JSON) else each for each in (*self._image, *self._text)
        }
        if not any(map(_is_tar, self._files.values())):
            raise ValueError(f"{next(iter(self._files))} is no tar file, of {path}")

    def parts(self) -> list[str]:
        """The tars."""
        return list(self._files)

    def records(self, part: str, wanted: Wanted) -> Iterator[Record | Skipped]:
        """See `mot_lab.data.sources.records.Reader`."""
        shard = part.rpartition("/")[2]
        with self._files[part].open() as raw:
            for sample in _samples(raw, self._read, lambda key: wanted(f"{shard}:{key}")):
                name = f"{part}:{sample.key}"
                if sample.end is not None:
                    yield Skipped(name, sample.end)
                else:
                    yield Record(name, f"{shard}:{sample.key}", partial(self._load, sample))

    def state(self) -> str:
        """Of the tars."""
        return state_of(list(self._files.values()))

    def _load(self, sample: "_Sample") -> tuple[RawSegment, ...]:
        if sample.fault is not None:
            raise BadRecord(sample.fault)
        picture = next((sample.data[each] for each in self._image if each in sample.data), None)
        if picture is None:
            raise BadRecord(f"no picture ({', '.join(self._image)})")
        return (RawPicture(picture), *_captions(sample, self._text))


@dataclass
class _Sample:
    """Members of one key, those that are read by their extensions; or why the tar ends here."""

    key: str
    data: dict[str, bytes] = field(default_factory=dict)
    fault: str | None = None
    end: str | None = None


def _samples(raw: BinaryIO, extensions: set[str], wanted: Wanted) -> Iterator[_Sample]:
    sample: _Sample | None = None
    try:
        with tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in _members(tar):
                key, extension = _split(member.name)
                if not member.isfile() or not extension:
                    continue
                if sample is None or key != sample.key:
                    if sample is not None:
                        yield sample
                    sample = _Sample(key)
                if extension in extensions and wanted(key):
                    _add(sample, extension, tar, member)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # no fault of the file
        # The sample before the damage may lack its last members.
        key = sample.key if sample is not None else "start"
        yield _Sample(
            key, end=f"damaged or cut short here, the rest is not read: {one_line(error)}"
        )
        return
    if sample is not None:
        yield sample


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """In their order, to the end of the archive, which must be there."""
    at = -1
    while (member := tar.next()) is not None:
        if tar.offset <= at:  # a negative size would go round for ever
            raise tarfile.ReadError(f"{member.name} ends before it begins")
        at = tar.offset
        tar.members.clear()  # type: ignore[attr-defined]  # they would fill the memory
        yield member
    _require_end(tar)


def _add(sample: _Sample, extension: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    if extension in sample.data:
        sample.fault = f"two files in .{extension}"
    elif member.size > LARGEST_FILE or member.issparse():
        sample.fault = f".{extension} has {member.size:,} bytes, at most {LARGEST_FILE:,}"
    else:
        opened = tar.extractfile(member)
        sample.data[extension] = opened.read() if opened is not None else b""


def _require_end(tar: tarfile.TarFile) -> None:
    """A tar ends in blocks of zeros; ``tarfile`` stops in silence at whatever is no header."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("no end of archive")
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"no header at byte {tar.offset}")


def _captions(sample: _Sample, names: list[str]) -> list[RawText]:
    for name in names:
        if not name.startswith(JSON):
            if name in sample.data:
                return [text_of(_decoded(sample.data[name], name), f".{name}")]
            continue
        if "json" in sample.data and (found := _field(sample, name.removeprefix(JSON))) is not None:
            texts = found if isinstance(found, list) else [found]
            if not texts:
                raise BadRecord(f"{name} is an empty list")
            return [text_of(each, name) for each in texts]
    raise BadRecord(f"no caption ({', '.join(names)})")


def _field(sample: _Sample, name: str) -> Any:
    try:
        value = parse_json(_decoded(sample.data["json"], "json"), ".json")
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord(str(error)) from None
    if not isinstance(value, dict):
        raise BadRecord(f".json is {shown(value)}, no object")
    return value.get(name)


def _decoded(data: bytes, extension: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord(f".{extension} is not in UTF-8: {error}") from None


def _split(name: str) -> tuple[str, str]:
    """Key and extension: ``a/b.orig.JPG`` is ``a/b`` and ``orig.jpg``; of hidden files none."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return (f"{folder}{slash}{stem}", extension.lower()) if stem else (name, "")


def _is_tar(file: File) -> bool:
    try:
        with file.open() as raw, tarfile.open(fileobj=raw, mode="r:*"):
            return True
    except DAMAGED:
        return False
