"""Captions from JSON files: annotations and results of COCO, or a plain mapping from names.

    {"images": [{"id": 7, "file_name": "cat.png"}], "annotations": [{"image_id": 7, "caption": ""}]}
    [{"image_id": 7, "caption": ""}]
    {"cat.png": "", "dog": ["", ""]}

Ids are numbers or text, and 7 equals "7".
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evaluation.files.pictures import ENDINGS
from mot_lab.runtime.plain_files import read_json as read_plain_json

NAMED = 5  # things named in an error
LONGEST = 10_000  # characters of a caption; COCO's longest has 250


@dataclass(frozen=True)
class CaptionFile:
    """Captions by image.

    Attributes:
        path: of the file.
        captions: non-empty captions of each image by its id; an image may have none.
        ids: id by the stem of the image's file name, where the file gives names.
        empty: number of empty captions that were left out.
    """

    path: Path
    captions: dict[str, list[str]]
    ids: dict[str, str]
    empty: int


def read_captions(path: Path) -> CaptionFile:
    """Read a caption file of any of the three kinds.

    Raises:
        ValueError: no such file, no JSON, another structure, an id or a name given twice, or not
            one caption; says where.
    """
    content = read_json(path)
    if isinstance(content, list):
        given = read_records(path, content, "", "image_id", "caption")
        ids: dict[str, str] = {}
    elif isinstance(content, dict) and "annotations" in content:
        given = read_records(path, content["annotations"], "annotations", "image_id", "caption")
        ids = _image_ids(path, content["images"]) if "images" in content else {}
        if "images" in content:
            _require_images(path, given, content["images"])
    elif isinstance(content, dict) and "images" not in content:
        given = _mapping(path, content)
        refuse_repeats(path, [stem_of(name) for name in content], "names with the stem")
        ids = {stem_of(name): name for name in content}
    else:
        raise ValueError(f"{path} is no caption file: {_KINDS}")
    captions: dict[str, list[str]] = {}
    for image, caption in given:
        captions.setdefault(image, []).extend([caption] if caption.strip() else [])
    empty = sum(not caption.strip() for _, caption in given)
    if empty == len(given):
        raise ValueError(f"{path} holds no captions ({empty} empty ones): {_KINDS}")
    return CaptionFile(path, captions, ids, empty)


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises ValueError if it cannot be read or gives a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        refuse_repeats(path, [key for key, _ in pairs], "values of the key")
        return dict(pairs)

    return read_plain_json(path, unique)


def read_records(path: Path, entries: Any, where: str, *keys: str) -> list[tuple[str, str]]:
    """(id, text) of each entry of a list, by its two keys."""
    if not isinstance(entries, list):
        raise ValueError(f"{path}: {where!r} must be a list, not {type(entries).__name__}")
    if not entries:
        raise ValueError(f"{path} holds no captions: {_KINDS}")
    found = []
    for place, entry in enumerate(entries):
        here = f"{path}: {where}[{place}]"
        if not isinstance(entry, dict) or not set(keys) <= entry.keys():
            raise ValueError(f"{here} must have {' and '.join(map(repr, keys))}: {entry!r:.80}")
        image, text = (entry[key] for key in keys)
        if not isinstance(text, str):
            raise ValueError(f"{here}: {keys[1]!r} must be text, not {text!r:.80}")
        _require_length(text, here)
        found.append((_id(image, here), text))
    return found


def stem_of(name: str) -> str:
    """The name of a picture without its folder and the ending of a picture."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def refuse_repeats(path: Path, values: Iterable[str], what: str) -> None:
    """Raises ValueError if a value comes twice."""
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{path} has several {what} {first_of(repeated)}: keep one")


def first_of(values: Sequence[str]) -> str:
    """The first few of several things, for an error."""
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return ", ".join(values[:NAMED]) + more


_KINDS = (
    'give {"images": [...], "annotations": [{"image_id": 7, "caption": "a cat"}, ...]}, a list of '
    'such annotations, or {"cat.png": "a cat", ...}'
)


def _mapping(path: Path, content: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, value in content.items():
        captions = value if isinstance(value, list) else [value]
        if not all(isinstance(caption, str) for caption in captions):
            raise ValueError(
                f"{path}: {name!r} must be a caption or a list of them, not {value!r:.80}: {_KINDS}"
            )
        for caption in captions:
            _require_length(caption, f"{path}: {name!r:.80}")
        found += [(name, caption) for caption in captions]
    if not found:
        raise ValueError(f"{path} holds no captions: {_KINDS}")
    return found


def _image_ids(path: Path, images: Any) -> dict[str, str]:
    named = isinstance(images, list) and any(
        isinstance(image, dict) and "file_name" in image for image in images
    )
    if not named:
        return {}
    entries = read_records(path, images, "images", "id", "file_name")
    refuse_repeats(path, [stem_of(name) for _, name in entries], "images with the file name")
    return {stem_of(name): image for image, name in entries}


def _require_images(path: Path, given: Iterable[tuple[str, str]], images: Any) -> None:
    if not isinstance(images, list) or not all(
        isinstance(image, dict) and "id" in image for image in images
    ):
        raise ValueError(f'{path}: "images" must be a list of objects with an "id"')
    ids = [_id(image["id"], f"{path}: images[{place}]") for place, image in enumerate(images)]
    refuse_repeats(path, ids, "images with the id")
    unlisted = sorted({image for image, _ in given} - set(ids))
    if unlisted:
        raise ValueError(
            f'{path}: annotations are of {len(unlisted)} images that "images" does not list: '
            f"{first_of(unlisted)}"
        )


def _require_length(text: str, where: str) -> None:
    if len(text) > LONGEST:
        raise ValueError(f"{where}: {len(text):,} characters are no caption: at most {LONGEST:,}")


def _id(image: Any, where: str) -> str:
    if isinstance(image, bool) or not isinstance(image, int | str):
        raise ValueError(f"{where}: an image id must be a number or text, not {image!r:.80}")
    return str(image)
