"""A part of prepared shards: documents in tokens, written to a folder of arrays, read from them.

Shapes: D documents, S segments, T texts, N pictures, B blocks of speech, n tokens or units;
C x H x W latents or P codes of a picture.
"""

import json
from collections import Counter
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from mot_lab.data.documents import CodeSegment, Segment, TextSegment, picture_segment
from mot_lab.data.shards.arrays import GrowingArray, mapped, token_type
from mot_lab.data.shards.encoding import (
    Counts,
    EncodedDocument,
    EncodedPicture,
    EncodedUnits,
    Tokenizers,
)
from mot_lab.data.shards.manifest import PART, PartRecord, file_records
from mot_lab.plain import plain
from mot_lab.tokens.vq import VQTokenizer

KINDS = ("pairs", "interleaved", "text", "speech")
TEXT, PICTURE, UNITS = range(3)  # what a segment is
# kinds.npy     uint8 [D]         of the documents, numbers in KINDS
# segments.npy  uint8 [S]         what each segment is, document by document
# starts.npy    int64 [D + 1, 3]  texts, pictures and blocks of speech before a document
# tokens.npy, text_starts.npy     of all texts end to end, and int64 [T + 1] where each begins
# units.npy, unit_starts.npy      likewise of speech, int64 [B + 1]
# pictures.npy                    latents [N, C, H, W] or codes [N, P]
# pixels.npy    uint8             the pictures before they were encoded, for metrics: test alone


class PartWriter:
    """Writes documents into an empty folder.

    Args:
        folder: of the part.
        tokenizers: that the documents are in tokens of.
        latents: number type of latents.
        pixels: keep the pictures as they are, too.
    """

    def __init__(
        self, folder: Path, tokenizers: Tokenizers, latents: str = "float32", pixels: bool = False
    ) -> None:
        self.folder = folder
        images = tokenizers.images
        types: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
            "kinds": (np.dtype(np.uint8), ()),
            "segments": (np.dtype(np.uint8), ()),
            "starts": (np.dtype(np.int64), (3,)),
            "tokens": (token_type(tokenizers.texts.vocab_size), ()),
            "text_starts": (np.dtype(np.int64), ()),
            "units": (token_type(tokenizers.units), ()),
            "unit_starts": (np.dtype(np.int64), ()),
        }
        if isinstance(images, VQTokenizer):
            types["pictures"] = token_type(images.size), (images.length,)
        else:
            types["pictures"] = np.dtype(latents), images.latent_shape
        if pixels:
            types["pixels"] = np.dtype(np.uint8), (images.canvas, images.canvas, 3)
        self._files = {
            name: GrowingArray(folder / f"{name}.npy", *each) for name, each in types.items()
        }
        for name in ("text_starts", "unit_starts"):
            self._files[name].append([0])
        self._kinds: Counter[str] = Counter()
        self._starts = np.zeros((1, 3), np.int64)
        self._files["starts"].append(self._starts)

    def add(self, document: EncodedDocument) -> None:
        """Write a document behind the others."""
        kinds = [self._add(segment) for segment in document.segments]
        self._starts[0] += np.bincount(kinds, minlength=3)
        self._files["segments"].append(kinds)
        self._files["starts"].append(self._starts)
        self._files["kinds"].append([KINDS.index(document.kind)])
        self._kinds[document.kind] += 1

    def close(self, name: str, counts: Counts) -> PartRecord:
        """Write the part's record, ``name`` its folder below the root, and return it."""
        for file in self._files.values():
            file.close()
        record = PartRecord(
            name,
            dict(self._kinds),
            self._files["pictures"].length,
            self._files["tokens"].length,
            self._files["units"].length,
            dict(counts.skipped),
            dict(counts.left_out),
            counts.examples,
            file_records(self.folder),
        )
        (self.folder / PART).write_text(json.dumps(plain(record), indent=1))
        return record

    def _add(self, segment: np.ndarray | EncodedPicture | EncodedUnits) -> int:
        if isinstance(segment, EncodedPicture):
            self._files["pictures"].append(segment.encoded[None])
            if "pixels" in self._files:
                self._files["pixels"].append(segment.pixels[None])
            return PICTURE
        spoken = isinstance(segment, EncodedUnits)
        numbers = segment.units if isinstance(segment, EncodedUnits) else segment
        tokens, starts = ("units", "unit_starts") if spoken else ("tokens", "text_starts")
        self._files[tokens].append(numbers)
        self._files[starts].append([self._files[tokens].length])
        return UNITS if spoken else TEXT


@dataclass(frozen=True)
class StoredDocument:
    """A document of a part, and the rows of its pictures there."""

    kind: str
    segments: tuple[Segment, ...]
    pictures: range


@dataclass(frozen=True)
class _Arrays:
    """The files of a part, mapped."""

    kinds: np.ndarray
    segments: np.ndarray
    starts: np.ndarray
    tokens: np.ndarray
    text_starts: np.ndarray
    units: np.ndarray
    unit_starts: np.ndarray
    pictures: np.ndarray


class Part:
    """The documents of a folder, read where they lie.

    Args:
        folder: of the part.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return len(self._arrays.kinds)

    def __reduce__(self) -> tuple[type["Part"], tuple[Path]]:
        return Part, (self.folder,)  # a pickled array would hold all of its file

    def document(self, number: int) -> StoredDocument:
        """One of the documents 0 .. D - 1; its text is a view of the file."""
        arrays = self._arrays
        (text, picture, block), after = arrays.starts[number : number + 2].tolist()
        first = picture
        segments: list[Segment] = []
        for what in arrays.segments[text + picture + block : sum(after)].tolist():
            if what == TEXT:
                begin, end = arrays.text_starts[text : text + 2].tolist()
                segments.append(TextSegment(arrays.tokens[begin:end]))
                text += 1
            elif what == PICTURE:
                segments.append(_picture(arrays.pictures[picture]))
                picture += 1
            else:
                begin, end = arrays.unit_starts[block : block + 2].tolist()
                segments.append(CodeSegment("speech", arrays.units[begin:end].astype(np.int32)))
                block += 1
        kind = KINDS[arrays.kinds[number]]
        return StoredDocument(kind, tuple(segments), range(first, picture))

    def kinds(self) -> np.ndarray:
        """What each document is, numbers in ``KINDS``: uint8 [D]."""
        return self._arrays.kinds

    def sizes(self, picture_places: int) -> np.ndarray:
        """Places of every document at its longest, its own begin and end token left aside: a pair
        with its longest caption, speech with its transcript or its picture. int64 [D].

        Args:
            picture_places: of a picture, begin and end tokens included.
        """
        arrays = self._arrays
        texts_D, pictures_D, blocks_D = np.diff(arrays.starts, axis=0).T
        text_D = np.diff(arrays.text_starts[arrays.starts[:, 0]])
        units_D = np.diff(arrays.unit_starts[arrays.starts[:, 2]]) + 2 * blocks_D
        longest_D = np.zeros(len(self), np.int64)
        document_T = np.repeat(np.arange(len(self)), texts_D)
        np.maximum.at(longest_D, document_T, np.diff(arrays.text_starts))
        pictured_D = pictures_D * picture_places
        return np.select(
            [arrays.kinds == KINDS.index("pairs"), arrays.kinds == KINDS.index("speech")],
            [longest_D + pictured_D, units_D + np.maximum(text_D, pictured_D)],
            text_D + pictured_D + units_D,
        )

    @cached_property
    def pixels(self) -> np.ndarray:
        """The pictures before they were encoded, uint8 [N, H, W, 3]; of the test split alone."""
        return mapped(self.folder / "pixels.npy")

    @cached_property
    def _arrays(self) -> _Arrays:
        names = (each.name for each in fields(_Arrays))
        return _Arrays(**{name: mapped(self.folder / f"{name}.npy") for name in names})


def _picture(encoded: np.ndarray) -> Segment:
    whole = np.issubdtype(encoded.dtype, np.integer)
    return picture_segment("image", encoded.astype(np.int32 if whole else np.float32))
