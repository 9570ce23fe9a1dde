"""A picture or a sound as a row holds it: bytes, an object with bytes, or the name of a file."""

import re
from collections.abc import Mapping
from typing import Any

from mot_lab.data.sources.files import Folders
from mot_lab.data.sources.raw import RawPicture
from mot_lab.data.sources.records import BadRecord
from mot_lab.parsing import shown

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def picture_of(value: Any, what: str, folders: Folders | None) -> RawPicture:
    """A picture.

    Raises:
        BadRecord: see `file_bytes`.
    """
    return RawPicture(file_bytes(value, what, folders))


def file_bytes(value: Any, what: str, folders: Folders | None) -> bytes:
    """The bytes of a file.

    Args:
        value: bytes; the name of a file; or ``{bytes, path}`` of the Hugging Face features Image
            and Audio, of which ``path`` counts where there are no bytes.
        what: it is, for messages.
        folders: of the files that are named.

    Raises:
        BadRecord: none of these, no such file, or a URL: nothing is downloaded.
    """
    if isinstance(value, Mapping):
        inside = value.get("bytes")
        value = inside if inside is not None else value.get("path")
    if isinstance(value, bytes) and value:
        return value
    if not isinstance(value, str) or not value:
        raise BadRecord(f"{what} is {shown(value)}: neither bytes nor the name of a file")
    if URL.match(value):
        raise BadRecord(f"{what} is the URL {shown(value)}: download it and name the file")
    if folders is None:
        raise BadRecord(f"{what} names the file {shown(value)}: say by files where it lies")
    return folders.read(value)
