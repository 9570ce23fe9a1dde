"""Speech beside the scenes: what is spoken, the units it is fitted on, and a split's pool.

Shapes: R records, U units of one, N pictures of H x W pixels.
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from rich.progress import track

from mot_lab.data.espeak import Speaker, require_voices, speakers
from mot_lab.data.pool import Scenes
from mot_lab.data.recordings import read_manifest, read_picture
from mot_lab.data.scenes import SceneSource
from mot_lab.data.speech_pool import SpeechPool, write_pool
from mot_lab.data.speech_sources import (
    LeftOut,
    SpeechSource,
    SpokenManifest,
    SpokenScenes,
    espeak_key,
    manifest_key,
    usable,
)
from mot_lab.limits import MOST_THINGS, require_between, require_positive, require_share
from mot_lab.parsing import shown, under
from mot_lab.runtime.cache import cached
from mot_lab.tokens.image import ImageTokenizer
from mot_lab.tokens.speech import (
    SpeechTokenizer,
    SpeechTokenizerConfig,
    deduplicated,
)
from mot_lab.tokens.speech_features import UNIT_RATE, Recording
from mot_lab.tokens.speech_fitting import load_speech_tokenizer
from mot_lab.tokens.text import TextTokenizer
from mot_lab.tokens.vq import VQTokenizer

Direction = Literal["text_speech", "speech_text", "image_speech", "speech"]
ESPEAK = "espeak"
MOST_SECONDS = 86_400
ENCODE_BATCH = 256
VOICES = (
    "en-us",
    "en-us+f2",
    "en-us+m7",
    "en-gb-x-rp+m3",
    "en-gb-x-rp+f4",
    "en-gb-scotland+f3",
)


@dataclass
class SpeechConfig:
    """What is spoken, by whom, and how often a document speaks.

    Attributes:
        source: ``espeak`` (captions of the scenes) or the path of a manifest of recordings.
        voices, speeds, pitches: of espeak-ng; every combination is a speaker. Words a minute 80 to
            450, pitch 0 to 99.
        share: of the drawn documents, those with speech; 1/7 is the paper's 1 : 6.
        directions: what such a document holds, in its order; all equally likely.
        unusable: how many recordings of a split may be missing, unreadable or silent, or have a
            picture that cannot be read; they are counted and left out.
        max_seconds: recordings that last longer are counted and left out; None keeps all, and a
            row must have room for the longest.
        tokenizer: of the sound.
    """

    source: str = ESPEAK
    voices: list[str] = field(default_factory=lambda: list(VOICES))
    speeds: list[int] = field(default_factory=lambda: [140, 170, 200])
    pitches: list[int] = field(default_factory=lambda: [35, 50, 65])
    share: float = 1 / 7
    directions: list[Direction] = field(default_factory=lambda: list(get_args(Direction)))
    unusable: int = 0
    max_seconds: float | None = None
    tokenizer: SpeechTokenizerConfig = field(default_factory=SpeechTokenizerConfig)

    def __post_init__(self) -> None:
        require_share(self, "share")
        require_between(self, 0, MOST_THINGS, "unusable")
        if self.max_seconds is not None:
            require_positive(self, MOST_SECONDS, "max_seconds")
        known = get_args(Direction)
        wrong = [each for each in self.directions if each not in known]
        if wrong or not self.directions:
            raise ValueError(f"directions {self.directions}: give some of {', '.join(known)}")
        self.speakers()

    def require_source(self) -> None:
        """Refuse voices that espeak-ng has not, and a manifest that is not there; nothing is
        prepared for it.

        Raises:
            ValueError: names the voice, or the file.
        """
        if self.source == ESPEAK:
            with under("data.speech.voices"):
                require_voices(self.voices)
        elif not Path(self.source).is_file():
            raise ValueError(
                f"data.speech.source {shown(self.source)} must be {ESPEAK} or the file of a "
                "manifest of recordings"
            )

    def speakers(self) -> list[Speaker]:
        """Every combination of voice, speed and pitch."""
        return speakers(self.voices, self.speeds, self.pitches)


def load_spoken(config: SpeechConfig, source: SceneSource, seed: int, key: Any) -> SpeechTokenizer:
    """The speech tokenizer of a configuration, fitted where it must be on training recordings.

    Args:
        config: of the speech.
        source, seed: of the scenes.
        key: what determines the scenes, for the cache.
    """

    def recordings() -> Iterator[Recording]:
        if config.source != ESPEAK:
            manifest = SpokenManifest(config.source, "train")
            records = usable(manifest, range(len(manifest)), config.unusable, config.max_seconds)
            return (recording for _, recording in records)
        require_voices(config.voices)
        spoken = SpokenScenes(source, "train", seed, config.speakers())
        return (spoken.recording(record) for record in itertools.count())

    return load_speech_tokenizer(config.tokenizer, recordings, [key, _sound_key(config)])


def training_transcripts(config: SpeechConfig) -> list[str]:
    """Transcripts of a manifest's training recordings, which the text tokenizer should know;
    none for espeak, which speaks captions."""
    if config.source == ESPEAK:
        return []
    return [each.text for each in read_manifest(config.source) if each.split == "train"]


def prepare_speech_pool(
    config: SpeechConfig,
    scenes: Scenes,
    images: ImageTokenizer | VQTokenizer,
    texts: TextTokenizer,
    tokenizer: SpeechTokenizer,
    scene_images: np.ndarray,
) -> SpeechPool:
    """Encode a split's speech, or find it in the cache.

    espeak: record i is scene i, with its picture. A manifest: its recordings of the split.

    Args:
        config: of the speech.
        scenes: of the split.
        images, texts, tokenizer: the tokenizers; the image tokenizer is for a manifest's pictures.
        scene_images: the scenes' pictures, encoded.

    Raises:
        ValueError: more than ``config.unusable`` recordings cannot be used; with the first of them.
    """
    key = {
        "speech": 2,
        "sound": _sound_key(config),
        "split": scenes.split,
        "units": tokenizer.fingerprint,
        "texts": texts.key(),
    }
    if config.source == ESPEAK:

        def speak_scenes(out: Path) -> None:
            require_voices(config.voices)
            spoken = SpokenScenes(scenes.source, scenes.split, scenes.seed, config.speakers())
            kept = _encode(out, spoken, scenes.count, config, texts, tokenizer)
            np.save(out / "picture_rows.npy", kept)

        folder = cached("speech", {**key, "scenes": scenes.key}, speak_scenes)
        return SpeechPool.read(folder, scene_images)

    def read_recordings(out: Path) -> None:
        manifest = SpokenManifest(config.source, scenes.split)
        row_of = _encode_pictures(out, manifest, images)
        kept = _encode(out, manifest, len(manifest), config, texts, tokenizer)
        np.save(out / "picture_rows.npy", [row_of.get(record, -1) for record in kept])

    folder = cached("speech", {**key, "images": images.fingerprint}, read_recordings)
    return SpeechPool.read(folder, np.load(folder / "pictures.npy", mmap_mode="r"))


def _encode(
    folder: Path,
    source: SpeechSource,
    records: int,
    config: SpeechConfig,
    texts: TextTokenizer,
    tokenizer: SpeechTokenizer,
) -> list[int]:
    """Write units and transcripts of all usable records; returns their numbers."""
    kept, units, every, left_out = [], [], 0, LeftOut()
    progress = track(range(records), description=f"encoding {records} recordings")
    found = usable(source, progress, config.unusable, config.max_seconds, left_out)
    for record, recording in found:
        units_U = tokenizer.every_unit(recording)
        every += len(units_U)
        kept.append(record)
        units.append(deduplicated(units_U) if tokenizer.deduplicate else units_U)
    if not kept:
        raise ValueError(f"none of {records} recordings of {config.source} can be used")
    sentences = [source.text(record) for record in kept]
    write_pool(folder, units, texts.encode_batch(sentences), sentences, asdict(left_out))
    runs = sum(len(deduplicated(units_U)) for units_U in units)
    print(
        f"{len(kept)} recordings, {every / UNIT_RATE / 60:.1f} min: {every:,} speech units, "
        f"{runs:,} without repetitions"
    )
    return kept


def _encode_pictures(
    folder: Path, manifest: SpokenManifest, images: ImageTokenizer | VQTokenizer
) -> dict[int, int]:
    """Write the recordings' pictures; returns which row is whose. A recording whose picture cannot
    be read becomes unusable.
    """
    with_picture = [
        (record, caption.picture)
        for record, caption in enumerate(manifest.captions)
        if caption.picture is not None
    ]
    encoded = [np.zeros(0, np.float32)]
    row_of: dict[int, int] = {}
    starts = range(0, len(with_picture), ENCODE_BATCH)
    for start in track(starts, description=f"encoding {len(with_picture)} pictures"):
        pixels = []
        for record, file in with_picture[start : start + ENCODE_BATCH]:
            try:
                pixels.append(read_picture(file, images.canvas))
            except ValueError as error:
                manifest.unusable[record] = str(error)
                continue
            row_of[record] = len(row_of)
        if pixels:
            encoded.append(np.asarray(images.encode(np.stack(pixels))))
    np.save(folder / "pictures.npy", np.concatenate(encoded[1:] or encoded))
    return row_of


def _sound_key(config: SpeechConfig) -> dict[str, Any]:
    """What determines the recordings that are used, beside the scenes."""
    spoken = config.source == ESPEAK
    sound = espeak_key(config.speakers()) if spoken else manifest_key(config.source)
    return {**sound, "unusable": config.unusable, "max_seconds": config.max_seconds}
