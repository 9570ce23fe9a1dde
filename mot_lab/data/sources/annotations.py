"""Folders of pictures with captions beside them: COCO's annotations, and Karpathy's splits."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from mot_lab.data.recordings import Split
from mot_lab.data.sources.files import File, Folders, expand
from mot_lab.data.sources.raw import DocumentKind, RawPicture, RawSegment, Skipped
from mot_lab.data.sources.records import BadRecord, Record, Wanted, text_of
from mot_lab.data.sources.rows import state_of
from mot_lab.parsing import shown
from mot_lab.runtime.plain_files import laid_out, parse_json

PART = 4096  # records
# Karpathy and Fei-Fei's split (2015): what COCO's validation set has beyond their val and test is
# trained on, as is usual since.
KARPATHY_SPLITS: dict[str, Split] = {
    "train": "train",
    "restval": "train",
    "val": "val",
    "test": "test",
}


class CaptionedPictures:
    """Pictures that files of annotations name, each with all its captions.

    Args:
        path: of ``captions_train2017.json`` and the like, or of ``dataset_coco.json``.
        files: folder of the pictures.
        karpathy: the annotations are laid out like Karpathy's.

    Raises:
        ValueError: nothing at a path, no JSON, or laid out otherwise.
    """

    kind: DocumentKind = "pairs"

    def __init__(self, path: str, files: str, karpathy: bool) -> None:
        self._annotations = expand(path, (".json",))
        self._pictures = Folders(files)
        read = _karpathy if karpathy else _coco
        self._records = [
            record
            for file in self._annotations
            for record in read(_json(file), file.name, self._pictures)
        ]
        if not any(isinstance(each, Record) for each in self._records):
            raise ValueError(f"{path} has no pictures with captions")

    def parts(self) -> list[str]:
        """Runs of records."""
        return [f"records from {first}" for first in range(0, len(self._records), PART)]

    def records(self, part: str, wanted: Wanted) -> Iterator[Record | Skipped]:
        """See `mot_lab.data.sources.records.Reader`."""
        first = PART * self.parts().index(part)
        yield from self._records[first : first + PART]

    def state(self) -> str:
        """Of the annotations: pictures are not looked at, there may be millions."""
        return state_of(self._annotations)


def _json(file: File) -> Any:
    with file.open() as opened:
        try:
            return parse_json(opened.read().decode("utf-8-sig"), file.name)
        except UnicodeDecodeError as error:
            raise ValueError(f"{file.name} is not in UTF-8: {error}") from None


def _coco(content: Any, where: str, pictures: Folders) -> Iterator[Record | Skipped]:
    """``images`` with id and file_name, ``annotations`` with image_id and caption (COCO 2014)."""
    captions: dict[Any, list[Any]] = {}
    orphans: list[Any] = []
    with laid_out(where):
        images, annotations = content["images"], content["annotations"]
        if annotations and not any("caption" in each for each in annotations):
            raise ValueError(
                f"{where} has annotations without captions: give the file captions_*.json"
            )
        for image in images:
            captions.setdefault(image["id"], [])
        for each in annotations:
            captions.get(each["image_id"], orphans).append(each.get("caption"))
    for image in images:
        name = f"{where} image {image['id']}"
        # A second image of the same id would be given the same captions.
        yield _record(name, image.get("file_name"), captions.pop(image["id"], []), pictures)
    for number, _ in enumerate(orphans):
        yield Skipped(f"{where} caption {number}", "of no image of the file")


def _karpathy(content: Any, where: str, pictures: Folders) -> Iterator[Record | Skipped]:
    """``images`` with filename, filepath, split and ``sentences`` with raw (COCO, Flickr30k)."""
    with laid_out(where):
        images = list(content["images"])
        if images and not all("sentences" in each for each in images[:1]):
            raise ValueError(f"{where} has images without sentences: is it Karpathy's file?")
    for number, image in enumerate(images):
        name = f"{where} image {number}"
        try:
            with laid_out(name):
                split = KARPATHY_SPLITS.get(image["split"])
                captions = [each.get("raw") for each in image["sentences"]]
                file = "/".join(filter(None, (image.get("filepath"), image["filename"])))
        except ValueError as error:
            yield Skipped(name, str(error))
            continue
        if split is None:
            yield Skipped(name, f"of the unknown split {shown(image['split'])}")
            continue
        yield _record(name, file, captions, pictures, split)


def _record(
    name: str, file: object, captions: Sequence[Any], pictures: Folders, split: Split | None = None
) -> Record | Skipped:
    if not isinstance(file, str) or not file:
        return Skipped(name, f"the file name {shown(file)} is no text")
    return Record(f"{name} ({file})", file, partial(_load, file, captions, pictures), split)


def _load(file: str, captions: Sequence[Any], pictures: Folders) -> tuple[RawSegment, ...]:
    if not captions:
        raise BadRecord("no captions")
    texts = [text_of(each, "caption") for each in captions]
    return (RawPicture(pictures.read(file)), *texts)
