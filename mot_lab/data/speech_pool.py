"""Prepared speech of one split: units, transcripts and pictures, read from memory-mapped files.

Shapes: R records, U units of one, T tokens of its transcript.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class SpeechPool:
    """Records 0 .. R - 1 of a split.

    Attributes:
        unit_tokens: int32, all records' units end to end.
        unit_offsets: int64 [R + 1], where each record's begin.
        text_tokens, text_offsets: likewise, of the transcripts.
        sentences: the transcripts themselves.
        pictures: encoded pictures, as the image tokenizer gives them.
        left_out: how many recordings of the split are not among them, by reason.
        picture_rows: int64 [R], each record's row of them, -1 where it has no picture.
    """

    unit_tokens: np.ndarray
    unit_offsets: np.ndarray
    text_tokens: np.ndarray
    text_offsets: np.ndarray
    sentences: list[str]
    left_out: Mapping[str, int]
    pictures: np.ndarray
    picture_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.sentences)

    def units(self, record: int) -> np.ndarray:
        """int32 [U], counted from 0."""
        begin, end = self.unit_offsets[record : record + 2]
        return self.unit_tokens[begin:end]

    def text(self, record: int) -> np.ndarray:
        """Token ids of the transcript, int32 [T]."""
        begin, end = self.text_offsets[record : record + 2]
        return self.text_tokens[begin:end]

    def picture(self, record: int) -> np.ndarray | None:
        """What is spoken of, encoded: latents [C, H, W] or codes [P]."""
        row = int(self.picture_rows[record])
        return None if row < 0 else self.pictures[row]

    def wave_text(self, record: int) -> str:
        """What is said."""
        return self.sentences[record]

    @property
    def longest_units(self) -> int:
        """Units of the longest record."""
        return int(np.diff(self.unit_offsets).max())

    @property
    def longest(self) -> int:
        """Units and transcript tokens of the record that has most of both together."""
        return int((np.diff(self.unit_offsets) + np.diff(self.text_offsets)).max())

    @classmethod
    def read(cls, folder: Path, pictures: np.ndarray) -> "SpeechPool":
        """What `write_pool` wrote, with the pictures and ``picture_rows.npy``, whose they are."""
        with np.load(folder / "records.npz") as kept:
            return cls(
                np.load(folder / "units.npy", mmap_mode="r"),
                kept["unit_offsets"],
                kept["text_tokens"],
                kept["text_offsets"],
                json.loads((folder / "sentences.json").read_text(encoding="utf-8")),
                json.loads((folder / "left_out.json").read_text()),
                pictures,
                np.load(folder / "picture_rows.npy"),
            )


def write_pool(
    folder: Path,
    units: Sequence[np.ndarray],
    texts: Sequence[Sequence[int]],
    sentences: list[str],
    left_out: Mapping[str, int],
) -> None:
    """Write what `SpeechPool.read` reads: of each record its units, transcript tokens and text, and
    how many there are besides.
    """
    (folder / "left_out.json").write_text(json.dumps(dict(left_out)))
    np.save(folder / "units.npy", np.concatenate(units).astype(np.int32))
    np.savez(
        folder / "records.npz",
        unit_offsets=np.cumsum([0, *map(len, units)]),
        text_tokens=np.array([token for ids in texts for token in ids], np.int32),
        text_offsets=np.cumsum([0, *map(len, texts)]),
    )
    (folder / "sentences.json").write_text(json.dumps(sentences), encoding="utf-8")
