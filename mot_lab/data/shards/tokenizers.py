"""The tokenizers of people's own data: fitted on a sample of it, kept beside the shards, loaded."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mot_lab.data.shards.encoding import Tokenizers
from mot_lab.data.shards.sample import VERSION, Sample
from mot_lab.data.sources.raw import Source
from mot_lab.tokens.image import ImageTokenizer, PixelTokenizer, load_image_tokenizer
from mot_lab.tokens.speech import SpeechTokenizer
from mot_lab.tokens.speech_fitting import load_speech_tokenizer
from mot_lab.tokens.text import TextTokenizer, load_text_tokenizer
from mot_lab.tokens.vq import VQTokenizer

if TYPE_CHECKING:
    from mot_lab.data.prepare import DataConfig

TEXT, IMAGE, SPEECH = "text/tokenizer.json", "image", "speech"


def fitted_tokenizers(config: "DataConfig", sources: Sequence[Source]) -> Tokenizers:
    """The tokenizers of a configuration; those without a path are fitted, or found in the cache.

    Args:
        config: with sources.
        sources: the training documents of each.
    """
    key = {"sample": VERSION, "sources": [each.fingerprint() for each in sources]}
    sample = Sample(sources)
    modalities, canvas = tuple(config.interface().others), config.scenes.canvas
    texts = load_text_tokenizer(config.text, modalities, sample.texts, key)
    pictures = _Pictures(sample, canvas)
    images = load_image_tokenizer(config.image, canvas, pictures, {**key, "canvas": canvas})
    speech = None
    if config.speech is not None and any(each.kind == "speech" for each in config.sources):
        speech = load_speech_tokenizer(config.speech.tokenizer, sample.recordings, key)
    return _together(config, texts, images, speech)


def save_tokenizers(tokenizers: Tokenizers, folder: Path) -> None:
    """Write what `kept_tokenizers` reads into an empty folder."""
    (folder / TEXT).parent.mkdir()
    tokenizers.texts.save(folder / TEXT)
    for name, each in ((IMAGE, tokenizers.images), (SPEECH, tokenizers.speech)):
        if each is not None and not isinstance(each, PixelTokenizer):
            (folder / name).mkdir()
            each.save(folder / name)


def kept_tokenizers(config: "DataConfig", folder: Path) -> Tokenizers:
    """What `save_tokenizers` wrote for this configuration."""
    texts = TextTokenizer.load(folder / TEXT, tuple(config.interface().others))
    kept = config.image
    if kept.kind != "pixels":
        kept = replace(kept, path=str(folder / IMAGE), subfolder="")
    images = load_image_tokenizer(kept, config.scenes.canvas, _no_pictures, None)
    speech = None
    if config.speech is not None and (folder / SPEECH).is_dir():
        deduplicate = config.speech.tokenizer.deduplicate
        speech = SpeechTokenizer.load(folder / SPEECH, deduplicate)
    return _together(config, texts, images, speech)


class _Pictures:
    """Pictures of a sample, over and over; read when the first is asked for."""

    def __init__(self, sample: Sample, canvas: int) -> None:
        self._sample, self._canvas = sample, canvas
        self._found: np.ndarray | None = None

    def __call__(self, start: int, count: int) -> np.ndarray:
        if self._found is None:
            self._found = self._sample.pictures(self._canvas)
        return self._found[np.arange(start, start + count) % len(self._found)]


def _no_pictures(start: int, count: int) -> np.ndarray:
    raise AssertionError("what was saved beside shards needs no fitting")


def _together(
    config: "DataConfig",
    texts: TextTokenizer,
    images: ImageTokenizer | VQTokenizer,
    speech: SpeechTokenizer | None,
) -> Tokenizers:
    if config.speech is None:
        return Tokenizers(texts, images)
    spoken = config.speech
    return Tokenizers(
        texts,
        images,
        speech,
        spoken.tokenizer.vocabulary(),
        spoken.tokenizer.deduplicate,
        spoken.max_seconds,
    )
