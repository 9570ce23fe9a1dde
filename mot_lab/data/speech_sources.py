"""Where speech comes from: captions of scenes spoken by espeak-ng, or a manifest of recordings."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mot_lab.data.espeak import RATE, Speaker, speak
from mot_lab.data.recordings import (
    SpokenCaption,
    read_manifest,
    read_recording,
)
from mot_lab.data.scenes import SPLITS, SceneSource
from mot_lab.tokens.speech_features import (
    Recording,
    UnusableRecording,
    require_sound,
    speech_extra,
)

SPEECH_STREAM = 101  # sets these draws apart from those that make the scenes
# Unseen emojis are spoken of like any other; a manifest has no such split.
RECORDINGS_OF = {"train": "train", "val": "val", "test": "test", "unseen": "test"}


@dataclass
class LeftOut:
    """How many recordings of a split are not used: unusable ones, and too long ones."""

    unusable: int = 0
    long: int = 0


class SpeechSource(Protocol):
    """Records 0, 1, .. of one split."""

    def text(self, record: int) -> str:
        """What is said."""

    def recording(self, record: int) -> Recording:
        """Its sound; raises `UnusableRecording` where there is none."""


class SpokenScenes:
    """Record i: one caption of scene i of the split, by one of the speakers.

    Caption and speaker are drawn from (seed, split, i).

    Args:
        source, split, seed: of the scenes.
        speakers: equally likely.
    """

    def __init__(
        self, source: SceneSource, split: str, seed: int, speakers: Sequence[Speaker]
    ) -> None:
        self._source, self._split, self._seed = source, split, seed
        self._speakers = speakers

    def text(self, record: int) -> str:
        """The caption."""
        return self._drawn(record)[0]

    def speaker(self, record: int) -> Speaker:
        """Who speaks it."""
        return self._drawn(record)[1]

    def recording(self, record: int) -> Recording:
        """Its sound."""
        text, speaker = self._drawn(record)
        return Recording(f"{self._split} scene {record}", speak(text, speaker), RATE)

    def _drawn(self, record: int) -> tuple[str, Speaker]:
        level = SPLITS.index(self._split)
        rng = np.random.default_rng((self._seed, SPEECH_STREAM, level, record))
        captions = self._source.captions(self._source.scene(self._split, self._seed, record))
        text = captions[int(rng.integers(len(captions)))]
        return text, self._speakers[int(rng.integers(len(self._speakers)))]


class SpokenManifest:
    """The recordings of one split of a manifest, in its order.

    Args:
        path: of the manifest.
        split: of the scenes that they stand beside; ``unseen`` takes those of ``test``.

    Attributes:
        captions: the recordings.
        unusable: by number of a recording, what else than its sound is wrong with it.

    Raises:
        ValueError: no manifest, or none of its recordings is of the split.
    """

    def __init__(self, path: str, split: str) -> None:
        wanted = RECORDINGS_OF[split]
        self.captions: list[SpokenCaption] = [
            each for each in read_manifest(path) if each.split == wanted
        ]
        if not self.captions:
            raise ValueError(f"{path} has no recordings of the split {wanted}: give it some")
        self.unusable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.captions)

    def text(self, record: int) -> str:
        """The transcript."""
        return self.captions[record].text

    def recording(self, record: int) -> Recording:
        """Its sound."""
        if record in self.unusable:
            raise UnusableRecording(self.unusable[record])
        return read_recording(self.captions[record].audio)


def usable(
    source: SpeechSource,
    records: Iterable[int],
    limit: int,
    max_seconds: float | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[tuple[int, Recording]]:
    """Each record's number and sound, without those that are missing, unreadable or silent.

    Those that last longer than ``max_seconds`` are left out and counted apart; both counts are
    added to ``left_out`` at the end.

    Raises:
        ValueError: they are more than ``limit``; with the first of them.
    """
    faults: list[str] = []
    long = 0
    for record in records:
        try:
            recording = source.recording(record)
            require_sound(recording)
        except UnusableRecording as error:
            faults.append(str(error))
            if len(faults) > limit:
                raise ValueError(
                    f"{len(faults)} recordings cannot be used, unusable allows {limit}; "
                    f"the first: {faults[0]}"
                ) from error
            continue
        if max_seconds is not None and len(recording.wave_n) > max_seconds * recording.rate:
            long += 1
            continue
        yield record, recording
    if left_out is not None:
        left_out.unusable += len(faults)
        left_out.long += long
    if long:
        print(f"{long} recordings last longer than {max_seconds} s and are left out")
    if faults:
        print(f"{len(faults)} recordings cannot be used and are left out, the first: {faults[0]}")


def espeak_key(speakers: Sequence[Speaker]) -> dict[str, Any]:
    """What determines spoken captions beside the scenes, for the cache."""
    with speech_extra():  # the error of a missing distribution is an ImportError too
        release = version("espeakng-loader")
    return {"espeakng-loader": release, "speakers": [asdict(each) for each in speakers]}


def manifest_key(path: str) -> dict[str, Any]:
    """What determines a manifest's recordings, for the cache: every line, and each file's size and
    time of change."""
    digest = hashlib.sha256()
    for each in read_manifest(path):
        digest.update(repr((each.text, each.speaker, each.split)).encode())
        for file in (each.audio, each.picture):
            digest.update(_state(file).encode())
    return {"manifest": digest.hexdigest()[:16]}


def _state(file: Path | None) -> str:
    if file is None or not file.exists():
        return f"{file} absent"
    state = file.stat()
    return f"{file.name} {state.st_size} {state.st_mtime_ns}"
