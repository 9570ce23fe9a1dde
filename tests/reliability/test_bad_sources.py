"""Damaged files of a source: cut anywhere, bytes changed anywhere. Reading ends, and raises nothing
but a ValueError where no record is left; what stands before a cut is read as it was."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.corpora import (
    c4,
    cc12m,
    coco,
    jpeg,
    lines,
    obelics,
    peoples_speech,
    read,
    sound_file,
    wikipedia,
)
from reliability.amounts import amount

from mot_lab.data.sources.raw import RawDocument, RawSound, RawUnits, Skipped

Property = Callable[[str, object], None]
TEXTS = [f"{n} words of a document that is {n**9} long" for n in range(40)]


def gzipped_tar(folder: Path) -> Path:
    path = cc12m(folder / "whole.tar", 0, 4)
    (folder / "a.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return folder / "a.tar.gz"


def libri(folder: Path) -> Path:
    """A chapter whose sound is damaged."""
    (folder / "84-1.trans.txt").write_text("84-1-0000 SAID\n84-1-0001 SAID TOO\n")
    (folder / "84-1-0001.flac").write_bytes(sound_file(1))
    (folder / "84-1-0000.flac").write_bytes(sound_file(0))
    return folder / "84-1-0000.flac"


MADE: dict[str, tuple[dict[str, Any], Callable[[Path], Path]]] = {
    "coco": ({"kind": "coco", "files": "{}/train2017"}, coco),
    "webdataset": ({"kind": "webdataset"}, lambda folder: cc12m(folder / "a.tar", 0, 4)),
    "webdataset gz": ({"kind": "webdataset"}, gzipped_tar),
    "interleaved": (
        {"kind": "interleaved"},
        lambda folder: obelics(
            folder / "a.parquet", [([t, None], [None, jpeg(n)]) for n, t in enumerate(TEXTS[:6])]
        ),
    ),
    "text jsonl": ({"kind": "text"}, lambda folder: c4(folder / "a.jsonl", TEXTS)),
    "text gz": ({"kind": "text"}, lambda folder: c4(folder / "a.jsonl.gz", TEXTS)),
    "text parquet": ({"kind": "text"}, lambda folder: wikipedia(folder / "a.parquet", TEXTS)),
    "speech": ({"kind": "speech"}, lambda folder: peoples_speech(folder / "a.parquet", 3)),
    "speech flac": ({"kind": "speech", "path": "{}"}, libri),
    "units": (
        {"kind": "units"},
        lambda folder: lines(
            folder / "a.jsonl", [{"units": [n, 2 * n], "text": f"{n}"} for n in range(40)]
        ),
    ),
}


def content(found: list[RawDocument | Skipped]) -> list[Any]:
    """What documents hold, to be compared."""
    return [
        [
            segment.samples.tobytes()
            if isinstance(segment, RawSound)
            else segment.units.tolist()
            if isinstance(segment, RawUnits)
            else segment
            for segment in each.segments
        ]
        for each in found
        if isinstance(each, RawDocument)
    ]


def settings(kind: str, folder: Path, file: Path) -> dict[str, Any]:
    made = {"path": str(file), "held_out": 0} | MADE[kind][0]
    return {
        name: value.format(folder) if name in ("path", "files") else value
        for name, value in made.items()
    }


@pytest.mark.parametrize("kind", MADE)
def test_bytes_changed_anywhere(kind: str, tmp_path: Path, record_property: Property) -> None:
    file = MADE[kind][1](tmp_path)
    whole = file.read_bytes()
    config = settings(kind, tmp_path, file)
    expected = len(read(config))
    draw = random.Random(kind)
    tries = amount(30, 500)
    record_property("tried", tries)
    handled = damaged = 0
    for _ in range(tries):
        spoilt = bytearray(whole)
        at = draw.randrange(len(whole))
        for place in range(at, min(len(whole), at + draw.choice((1, 4, 200)))):
            spoilt[place] = draw.randrange(256)
        file.write_bytes(spoilt)
        try:
            found = read(config)
        except ValueError as error:
            handled += "\n" not in str(error)
            damaged += 1
            continue
        said = [each for each in found if isinstance(each, Skipped)]
        damaged += bool(said)
        # Documents that are gone were said to be.
        handled += len(found) >= expected or bool(said)
    record_property("handled", handled)
    assert handled == tries
    assert damaged > 0


@pytest.mark.parametrize("kind", MADE)
def test_cut_anywhere(kind: str, tmp_path: Path, record_property: Property) -> None:
    file = MADE[kind][1](tmp_path)
    whole = file.read_bytes()
    config = settings(kind, tmp_path, file)
    expected = content(read(config))
    draw = random.Random(kind)
    tries = amount(30, 500)
    record_property("tried", tries)
    handled = 0
    for _ in range(tries):
        file.write_bytes(whole[: draw.randrange(len(whole))])
        try:
            found = read(config)
        except ValueError as error:
            handled += "\n" not in str(error)
            continue
        kept = content(found)
        if kind == "speech flac":
            # A sound may end early; the other one of the chapter is whole.
            handled += kept[-1] == expected[-1]
        else:
            handled += kept == expected[: len(kept)] and (
                kept == expected  # the cut was in the zeros at the end of a tar
                or isinstance(found[-1], Skipped)
                or kind in ("text jsonl", "units")  # lines may end anywhere
            )
    record_property("handled", handled)
    assert handled == tries


def test_a_sound_cut_short_is_what_is_there_or_left_out(tmp_path: Path) -> None:
    file = libri(tmp_path)
    whole = file.read_bytes()
    config = {"kind": "speech", "path": str(tmp_path), "held_out": 0}
    samples = read(config)[0].segments[0].samples
    for length in range(100, len(whole), 997):
        file.write_bytes(whole[:length])
        found = read(config)
        assert len(found) == 2 and isinstance(found[1], RawDocument)
        if isinstance(found[0], RawDocument):
            heard = found[0].segments[0].samples
            assert np.array_equal(heard, samples[: len(heard)])
