"""Recordings of people: a manifest of audio files with their transcripts and, often, pictures.

A manifest is JSON lines or CSV with the fields ``audio`` and ``text`` and, where there are any,
``picture``, ``speaker`` and ``split``; paths are relative to the manifest's folder.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from mot_lab.data.picture_files import eight_bits, open_picture
from mot_lab.data.svg import rasterise
from mot_lab.runtime.files import atomic_file
from mot_lab.runtime.plain_files import parse_json
from mot_lab.tokens.speech_features import Recording, UnusableRecording, speech_extra

Split = Literal["train", "val", "test"]
SPLITS = get_args(Split)
FIELDS = ("audio", "text", "picture", "speaker", "split")
LONGEST_TEXT = 100_000  # characters of a transcript: an hour's speech has half of that
MOST_SAMPLES = 1 << 28  # of all channels of a recording: 1 GiB as float32, an hour at 48 kHz
RATES = 2_000, 768_000  # samples a second
HELD_OUT = 0.1  # share of the transcripts in val, and in test, where a manifest names no split


@dataclass(frozen=True)
class SpokenCaption:
    """One line of a manifest.

    Attributes:
        audio: file of any format and rate that soundfile reads (WAV, FLAC, Ogg, MP3).
        text: what is said.
        picture: file that Pillow reads, of what is talked about.
        speaker: a name.
        split: ``train``, ``val`` or ``test``.
    """

    audio: Path
    text: str
    picture: Path | None = None
    speaker: str | None = None
    split: str = "train"


def read_manifest(path: str | Path) -> list[SpokenCaption]:
    """Every line of a manifest, in its order.

    Where it names no splits, a transcript's hash does: 10% of the different transcripts are val
    and 10% test, and all recordings of one transcript (case and spaces aside) are in one split.

    Raises:
        ValueError: no manifest, or a line that cannot be used; with its number.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no manifest of recordings at {str(path)!r}: JSON lines or CSV")
    rows = [(place, _checked(row, place)) for place, row in _rows(path)]
    if not rows:
        raise ValueError(f"{path} has no recordings")
    with_split = [bool(row.get("split")) for _, row in rows]
    if any(with_split) and not all(with_split):
        place = rows[with_split.index(False)][0]
        raise ValueError(
            f"{place}: no split, which other lines have: give all of them one, or none"
        )
    return [_caption(row, path.parent) for _, row in rows]


def write_manifest(path: Path, captions: list[SpokenCaption]) -> None:
    """JSON lines that `read_manifest` reads; files below its folder are named relative to it."""
    folder = path.parent.resolve()

    def named(file: Path) -> str:
        whole = file.resolve()
        return str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole)

    with atomic_file(path) as file:
        for each in captions:
            row = {
                "audio": named(each.audio),
                "text": each.text,
                "picture": named(each.picture) if each.picture else None,
                "speaker": each.speaker,
                "split": each.split,
            }
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def split_of(text: str, held_out: float = HELD_OUT) -> Split:
    """The split of a transcript, by its hash: the same on every machine.

    Args:
        text: case and spaces aside.
        held_out: share that is val, and share that is test.

    Example:
        >>> split_of("A red heart.") == split_of("a red  HEART.")
        True
    """
    said = " ".join(text.casefold().split())
    digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < held_out:
        return "val"
    return "test" if place < 2 * held_out else "train"


def read_recording(path: Path) -> Recording:
    """A sound file, its channels averaged.

    Raises:
        UnusableRecording: missing, nothing that soundfile reads, of a rate outside ``RATES`` or of
            more than ``MOST_SAMPLES``.
    """
    if not path.is_file():
        raise UnusableRecording(f"{path}: no such recording")
    return decode_recording(path, str(path))


def decode_recording(source: Path | io.BytesIO, name: str) -> Recording:
    """`read_recording` of a file that is there, or of its bytes; ``name`` is said in errors."""
    with speech_extra():
        import soundfile
    try:
        with soundfile.SoundFile(source) as file:
            rate, samples = file.samplerate, file.frames * file.channels
            if not RATES[0] <= rate <= RATES[1]:
                raise UnusableRecording(
                    f"{name}: {rate} samples a second, not {RATES[0]} to {RATES[1]}"
                )
            if samples > MOST_SAMPLES:
                raise UnusableRecording(f"{name}: {samples:,} samples, at most {MOST_SAMPLES:,}")
            samples_nC = file.read(dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:  # soundfile's own errors are RuntimeErrors
        raise UnusableRecording(f"{name}: no readable recording: {error}") from error
    return Recording(name, samples_nC.mean(axis=1), rate)


def read_picture(path: Path, canvas: int) -> np.ndarray:
    """A picture, the right way up, fitted into a white square, uint8 [canvas, canvas, 3].

    Raises:
        ValueError: missing, or nothing that `open_picture` or, of SVG, `rasterise` reads.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such picture")
    try:
        svg = path.suffix.lower() == ".svg"
        with open_picture(io.BytesIO(rasterise(path, 4 * canvas)) if svg else path) as opened:
            picture = eight_bits(opened)[0].convert("RGBA")
    except Exception as error:  # decoders of broken files raise anything, struct.error included
        raise ValueError(f"{path}: no readable picture: {error}") from error
    scale = canvas / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    # Premultiplied, so that the colours of invisible pixels do not bleed into the edges.
    small = picture.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    small = small.convert("RGBA")
    square = Image.new("RGBA", (canvas, canvas), "white")
    square.alpha_composite(small, ((canvas - width) // 2, (canvas - height) // 2))
    return np.array(square.convert("RGB"))


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each row with the place that errors name."""
    if path.suffix.lower() == ".csv":
        yield from _csv_rows(path)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{place}: not in UTF-8: {error}") from None
            value = parse_json(text, place)
            if not isinstance(value, dict):
                raise ValueError(f"{place}: {text.strip()[:60]!r} is no JSON object")
            yield place, value


def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                yield f"{path}:{reader.line_num}", row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: after line {reader.line_num}: {error}") from None


def _checked(row: Mapping[str, object], place: str) -> Mapping[str, str]:
    unknown = [str(name) for name in row if name not in FIELDS]
    if unknown:
        raise ValueError(
            f"{place}: unknown field {', '.join(unknown)}; there are {', '.join(FIELDS)}"
        )
    filled: dict[str, str] = {}
    for name, value in row.items():
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise ValueError(f"{place}: {name} is {value!r}, give a string")
        filled[name] = value
    for name in ("audio", "text"):
        if not filled.get(name, "").strip():
            raise ValueError(f"{place}: no {name}")
    if len(filled["text"]) > LONGEST_TEXT:
        raise ValueError(
            f"{place}: text of {len(filled['text']):,} characters: at most {LONGEST_TEXT:,} are "
            "spoken in one recording"
        )
    if filled.get("split", "train") not in SPLITS:
        raise ValueError(f"{place}: split {filled['split']!r} is none of {', '.join(SPLITS)}")
    return filled


def _caption(row: Mapping[str, str], folder: Path) -> SpokenCaption:
    text = " ".join(row["text"].split())
    return SpokenCaption(
        folder / row["audio"],
        text,
        folder / row["picture"] if "picture" in row else None,
        row.get("speaker"),
        row.get("split") or split_of(text),
    )
