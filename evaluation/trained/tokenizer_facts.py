"""What the tokenizers of a study are, and what they lose on the test split.

Letters in shapes: N pictures, H/W pixels, U units of a recording, D features.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from evaluation.metrics.scene_checker import score
from mot_lab.data.prepare import DataConfig
from mot_lab.data.scenes import SceneSource
from mot_lab.data.speech import ESPEAK, SpeechConfig
from mot_lab.data.speech_sources import SpeechSource, SpokenManifest, SpokenScenes, usable
from mot_lab.data.styles import RENDERINGS
from mot_lab.data.tokenizers import load_images, load_speech, load_style, load_texts
from mot_lab.runtime.cache import cache_root
from mot_lab.tokens.image import ImageTokenizer
from mot_lab.tokens.speech import SpeechTokenizer
from mot_lab.tokens.speech_features import Recording, unit_wave
from mot_lab.tokens.vq import VQTokenizer, codebook_usage

HELD_OUT_RECORDINGS = 100


@dataclass(frozen=True)
class Facts:
    """A tokenizer described.

    Attributes:
        lines: what it is and loses, by name.
        save: writes it into an existing empty folder.
        setting: of a study, which uses what ``save`` wrote in the folder PATH.
    """

    lines: dict[str, str]
    save: Callable[[Path], None]
    setting: str


def picture_facts(data: DataConfig, name: str) -> Facts:
    """The tokenizer of ``image`` or of a style.

    Raises:
        ValueError: the study has no such modality.
    """
    if name != "image" and name not in data.styles:
        known = ", ".join(["text", "image", "speech", *data.styles])
        raise ValueError(f"no modality {name!r} in this study: give one of {known}")
    source = SceneSource(data.scenes)
    images_NHWC = source.pictures("test", data.seed, 0, data.eval_scenes)
    if name == "image":
        tokenizer, config, setting = load_images(data, source), data.image, "image"
    else:
        tokenizer, config = load_style(data, source, name), data.styles[name].image
        setting = f"styles.{name}.image"
        images_NHWC = RENDERINGS[data.styles[name].rendering](images_NHWC)
    lines = {"tokenizer": f"{name}, kind {config.kind}: {_shape(tokenizer)}"}
    lines["lies in"] = tokenizer.origin or "no file"
    lines["held out"] = f"{len(images_NHWC)} scenes of the test split"
    lines |= _losses(tokenizer, images_NHWC)
    if name == "image" and "PSNR" in lines:
        prompts = [source.scene("test", data.seed, i) for i in range(len(images_NHWC))]
        read = score(tokenizer.reconstruct(images_NHWC), prompts, source)
        lines["objects right"] = f"{read.objects_right} of {read.objects}, reconstructed"
        lines["scenes right"] = f"{read.scenes_right} of {read.scenes}, reconstructed"
    return Facts(
        lines,
        tokenizer.save,
        f"{setting}: {{kind: {config.kind}, path: PATH}}",
    )


def text_facts(data: DataConfig) -> Facts:
    """The text tokenizer, on the captions of the test split."""
    source = SceneSource(data.scenes)
    tokenizer = load_texts(data, source)
    scenes = (source.scene("test", data.seed, i) for i in range(data.eval_scenes))
    captions = [caption for scene in scenes for caption in source.captions(scene)]
    encoded = tokenizer.encode_batch(captions)
    ids = np.concatenate([np.array(each) for each in encoded])
    exact = sum(
        tokenizer.decode(each) == caption for each, caption in zip(encoded, captions, strict=True)
    )
    lines = {
        "tokenizer": f"text, {tokenizer.kind}: {tokenizer.vocab_size:,} entries",
        "lies in": data.text.path or f"the cache, {cache_root()}",
        "held out": f"{len(captions):,} captions of the test split",
        "exact": f"{exact:,} of {len(captions):,}",
        "a caption": f"{len(ids) / len(captions):.1f} tokens",
        "a token": f"{sum(map(len, captions)) / len(ids):.2f} characters",
        "entries used": _used(ids, tokenizer.vocab_size),
    }
    return Facts(
        lines,
        lambda folder: tokenizer.save(folder / "tokenizer.json"),
        "text: {path: PATH/tokenizer.json}",
    )


def speech_facts(data: DataConfig) -> Facts:
    """The speech tokenizer, on the first recordings of the test split.

    Raises:
        ValueError: the study has no speech.
    """
    source = SceneSource(data.scenes)
    tokenizer = load_speech(data, source)
    if tokenizer is None or data.speech is None:
        raise ValueError("this study has no speech: give it data.speech")
    recordings = list(_held_out(data.speech, source, data.seed))
    units = np.concatenate([tokenizer.every_unit(each) for each in recordings])
    settings = data.speech.tokenizer
    lines = {
        "tokenizer": f"speech, {settings.features}: {tokenizer.size:,} units at 25 Hz",
        "lies in": settings.path
        if settings.path and settings.saved
        else f"the cache, {cache_root()}",
        "held out": f"{len(recordings)} recordings of the test split, {len(units) / 25:.0f} s",
        "explained": f"{_explained(tokenizer, recordings):.1%} of the features' variance",
        "units used": _used(units, tokenizer.size),
    }
    return Facts(
        lines, tokenizer.save, f"speech.tokenizer: {{features: {settings.features}, path: PATH}}"
    )


def _held_out(config: SpeechConfig, source: SceneSource, seed: int) -> Iterable[Recording]:
    spoken: SpeechSource
    if config.source == ESPEAK:
        spoken = SpokenScenes(source, "test", seed, config.speakers())
        records = range(HELD_OUT_RECORDINGS)
    else:
        spoken = SpokenManifest(config.source, "test")
        records = range(len(spoken))
    found = usable(spoken, records, config.unusable)
    return (recording for _, recording in islice(found, HELD_OUT_RECORDINGS))


def _explained(tokenizer: SpeechTokenizer, recordings: Iterable[Recording]) -> float:
    """1 minus the squared distance of features from their units' centroids over that from their
    mean."""
    features_UD = np.concatenate([tokenizer.features(unit_wave(each)) for each in recordings])
    units_U = np.concatenate([tokenizer.every_unit(each) for each in recordings])
    left = np.square(features_UD - tokenizer.centroids_KD[units_U]).sum()
    return float(1 - left / np.square(features_UD - features_UD.mean(axis=0)).sum())


def _shape(tokenizer: ImageTokenizer | VQTokenizer) -> str:
    if isinstance(tokenizer, VQTokenizer):
        return f"{tokenizer.size:,} codes, {tokenizer.length:,} in a picture"
    return f"latents {' x '.join(map(str, tokenizer.latent_shape))}"


def _losses(tokenizer: ImageTokenizer | VQTokenizer, images_NHWC: np.ndarray) -> dict[str, str]:
    lines = {}
    if isinstance(tokenizer, VQTokenizer) and not tokenizer.makes_pictures:
        lines["reconstruction"] = "none: the model came without a decoder"
    else:
        error = tokenizer.reconstruction_error(images_NHWC)
        lines["squared error"] = f"{error['mse']:.6f} of colours in [0, 1]"
        lines["PSNR"] = "nothing is lost" if error["psnr"] is None else f"{error['psnr']:.2f} dB"
    if isinstance(tokenizer, VQTokenizer):
        lines["codes used"] = _used(tokenizer.encode(images_NHWC), tokenizer.size)
    return lines


def _used(tokens: np.ndarray, size: int) -> str:
    usage = codebook_usage(tokens, size)
    return f"{usage['used']:.1%} of {size:,}, perplexity {usage['perplexity']:.1f}"
