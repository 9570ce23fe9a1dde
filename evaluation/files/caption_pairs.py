"""Brings captions from files together with pictures, or with the captions generated for them.

A picture belongs to the image whose ``file_name`` has its stem, else to the one whose id is its
stem (zeros in front aside: ``000000000139.jpg`` is 139).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evaluation.files.caption_files import (
    CaptionFile,
    first_of,
    read_json,
    read_records,
    refuse_repeats,
    stem_of,
)


def captions_of_pictures(
    names: Sequence[str], file: CaptionFile
) -> tuple[list[list[str]], list[str]]:
    """The captions of each picture, and what the reader of the score must know.

    Args:
        names: relative paths of N pictures.

    Raises:
        ValueError: two pictures of one stem, or pictures without a caption; lists them.
    """
    stems = [stem_of(name) for name in names]
    repeated = {stem for stem, count in Counter(stems).items() if count > 1}
    if repeated:
        which = [name for name, stem in zip(names, stems, strict=True) if stem in repeated]
        raise ValueError(
            f"{len(which)} pictures share their name with another one, so captions cannot be told "
            f"apart: {first_of(which)}: rename them"
        )
    images = [_image_of(stem, file) for stem in stems]
    found = [file.captions.get(image, []) for image in images]
    missing = [name for name, captions in zip(names, found, strict=True) if not captions]
    if missing:
        raise ValueError(
            f"{len(missing):,} of {len(names):,} pictures have no caption in {file.path}: "
            f"{first_of(missing)}: captions are found by file name or image id"
        )
    twice = [name for name, count in zip(names, _counts(images), strict=True) if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} pictures belong to the same images of {file.path}: {first_of(twice)}"
        )
    return found, _notes(file, len(names), "images have no picture here")


def results_with_references(
    results: Path, file: CaptionFile
) -> tuple[list[str], list[list[str]], list[str]]:
    """Generated captions, the real captions of the same images, and what the reader must know.

    Args:
        results: COCO's results, ``[{"image_id": 7, "caption": ""}]``, one per image; captions may
            be empty. Images of ``file`` without a result are left out, and counted.

    Raises:
        ValueError: as ``read_captions``; an image with two results; a result for an image that has
            no real caption.
    """
    content = read_json(results)
    if not isinstance(content, list):
        raise ValueError(
            f"{results} is no list of results: "
            'give [{"image_id": 7, "caption": "a cat"}, ...], one per image'
        )
    given = read_records(results, content, "", "image_id", "caption")
    refuse_repeats(results, [image for image, _ in given], "captions of the image")
    unknown = [image for image, _ in given if not file.captions.get(image)]
    if unknown:
        raise ValueError(
            f"{len(unknown):,} of {len(given):,} captions in {results} are of images without a "
            f"caption in {file.path}: {first_of(unknown)}"
        )
    notes = _notes(file, len(given), "images have no result and are left out")
    empty = sum(not caption.strip() for _, caption in given)
    if empty:
        notes.append(f"{empty:,} generated captions are empty and score as such")
    return [c for _, c in given], [file.captions[image] for image, _ in given], notes


def _image_of(stem: str, file: CaptionFile) -> str:
    if stem in file.ids:
        return file.ids[stem]
    if stem not in file.captions and stem.isascii() and stem.isdigit():
        return str(int(stem))
    return stem


def _counts(values: Sequence[str]) -> list[int]:
    counts = Counter(values)
    return [counts[value] for value in values]


def _notes(file: CaptionFile, used: int, what: str) -> list[str]:
    left = sum(map(bool, file.captions.values())) - used
    notes = [f"{left:,} {what}"] if left else []
    if file.empty:
        notes.append(f"{file.empty:,} empty captions of {file.path.name} are left out")
    return notes
