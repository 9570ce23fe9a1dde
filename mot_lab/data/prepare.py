"""From a configuration to everything training and evaluation read: tokenizers, pools, prose."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from mot_lab.data.documents import DocumentStream, Mixture, tokenize_prose
from mot_lab.data.interface import Codes, DataInterface, Latents
from mot_lab.data.packing import Layout
from mot_lab.data.pool import ScenePool, Scenes, encode_pictures, prepare_pool
from mot_lab.data.prose import ProseSource
from mot_lab.data.scenes import MOST_PIXELS, ScenesConfig, SceneSource
from mot_lab.data.speech import (
    SpeechConfig,
    prepare_speech_pool,
)
from mot_lab.data.speech_pool import SpeechPool
from mot_lab.data.styles import StyleConfig
from mot_lab.data.tokenizers import load_images, load_speech, load_style, load_texts
from mot_lab.limits import MOST_PLACES, MOST_SEED, MOST_THINGS, require_between, require_share
from mot_lab.parsing import shown, under
from mot_lab.runtime.cache import cached, content_key
from mot_lab.tokens.image import ImageTokenizer, ImageTokenizerConfig
from mot_lab.tokens.speech import SpeechTokenizer
from mot_lab.tokens.text import TextTokenizer, TextTokenizerConfig, least_vocabulary
from mot_lab.tokens.vq import VQTokenizer

FRAME = 4  # begin and end tokens of a block and of its document
MOST_BATCH = 2**28  # places of a batch; the paper's largest has 3.1 million
MOST_STYLES = 3  # an arm may be any partition of the modalities
ProseSplit = Literal["train", "val", "test"]
# Scenes of unseen emojis go with the test prose: there is no other kind of prose.
PROSE_OF: dict[str, ProseSplit] = {
    "train": "train",
    "val": "val",
    "test": "test",
    "unseen": "test",
}


@dataclass
class DataConfig:
    """What the model sees, the same for every arm and seed of a study.

    Attributes:
        scenes: size of the pictures.
        text, image: the tokenizers.
        speech: spoken captions or recordings; None is no speech.
        styles: further picture modalities, by name.
        patch: side of an image token, in latent positions; of no meaning for discrete codes.
        train_scenes: how many different scenes training draws from.
        eval_scenes: how many scenes each held-out split has.
        prose_share: of the drawn documents without speech or styles, those that are prose; gaps at
            the ends of rows are filled with prose besides.
        caption_first: share of pairs with the caption before the picture (80%: Transfusion).
        caption_dropout: share of those pairs that lose their caption, for classifier-free guidance
            (no source gives MoT's).
        row_length: S, tokens per row.
        rows: B, rows per batch.
        val_rows: rows of validation, with the same noise at every evaluation.
        seed: of the scenes and of validation; the order of training has the run's own seed.
    """

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    text: TextTokenizerConfig = field(default_factory=TextTokenizerConfig)
    image: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    speech: SpeechConfig | None = None
    styles: dict[str, StyleConfig] = field(default_factory=dict)
    patch: int = 1
    train_scenes: int = 20_000
    eval_scenes: int = 1_000
    prose_share: float = 0.1
    caption_first: float = 0.8
    caption_dropout: float = 0.0
    row_length: int = 128
    rows: int = 16
    val_rows: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        require_share(self, "prose_share", "caption_first", "caption_dropout")
        require_between(self, 1, MOST_PIXELS, "patch")
        require_between(self, 1, MOST_THINGS, "train_scenes", "eval_scenes")
        require_between(self, 1, MOST_PLACES, "row_length", "rows", "val_rows")
        require_between(self, 0, MOST_SEED, "seed")
        if self.val_rows % self.rows:
            raise ValueError(f"val_rows {self.val_rows} must be a multiple of rows {self.rows}")
        for name in self.styles:
            if not re.fullmatch(r"[a-z][a-z0-9]*", name) or name in ("text", "image", "speech"):
                raise ValueError(
                    f"styles: a modality cannot be called {name!r}; give small letters and digits, "
                    f"other than text, image and speech"
                )
        if len(self.styles) > MOST_STYLES:
            raise ValueError(f"styles {list(self.styles)} must be at most {MOST_STYLES}")
        self._require_room()

    def _require_room(self) -> None:
        """What is known of documents and vocabulary before there are any; how long captions are
        is seen when they are prepared.
        """
        if self.rows * self.row_length > MOST_BATCH:
            raise ValueError(
                f"rows {self.rows} of row_length {self.row_length} must be at most {MOST_BATCH:,} "
                "places together"
            )
        interface = self.interface()
        for name, each in interface.others.items():
            places = (each.length or 1) + FRAME
            if places + 1 > self.row_length:
                of = f" (scenes.canvas {self.scenes.canvas})" if each.length else ""
                raise ValueError(
                    f"row_length {self.row_length} must be at least {places + 1}: a block of "
                    f"{name}{of} takes {places} tokens, and something stands beside it"
                )
        least = least_vocabulary(list(interface.others))
        if self.text.path is None and self.text.vocab_size < least:
            raise ValueError(
                f"text.vocab_size {self.text.vocab_size} must be at least {least}: 256 bytes and "
                f"{least - 256} special tokens"
            )

    def interface(self) -> DataInterface:
        """What a model must know, without preparing anything."""
        others = {"image": self._pictures("image", self.image)}
        if self.speech is not None:
            with under("speech.tokenizer.path"):
                others["speech"] = Codes(self.speech.tokenizer.vocabulary())
        for name, style in self.styles.items():
            others[name] = self._pictures(f"styles.{name}.image", style.image)
        with under("text.path"):
            vocabulary = self.text.vocabulary(tuple(others))
        return DataInterface(vocabulary, others)

    def _pictures(self, where: str, image: ImageTokenizerConfig) -> Codes | Latents:
        with under(where if image.path is None else f"{where}.path {shown(image.path)}"):
            if image.kind == "vq":
                return Codes(*image.codes(self.scenes.canvas))
            shape = image.latent_shape(self.scenes.canvas)
        if shape[1] % self.patch or shape[2] % self.patch:
            raise ValueError(
                f"patch {self.patch} must divide the {shape[1]} x {shape[2]} positions of the "
                f"latents of {where}"
            )
        return Latents(shape, self.patch)


@dataclass(frozen=True)
class PreparedData:
    """Everything that is read while training and evaluating."""

    config: DataConfig
    interface: DataInterface
    source: SceneSource
    texts: TextTokenizer
    images: ImageTokenizer | VQTokenizer
    styles: Mapping[str, ImageTokenizer | VQTokenizer]
    speech: SpeechTokenizer | None
    layout: Layout

    def pool(self, split: str) -> ScenePool:
        """The scenes of a split, encoded once."""
        return _pool(self, split)

    def speech_pool(self, split: str) -> SpeechPool | None:
        """The recordings of a split, encoded once; None without speech."""
        return _speech_pool(self, split)

    def stream(self, split: str) -> DocumentStream:
        """The documents of a split."""
        config = self.config
        pool, speech = self.pool(split), self.speech_pool(split)
        picture = self.layout.blocks["image"].length or 0
        self._require_places("a picture with its caption", picture + pool.longest_caption)
        for name in self.styles:
            both = picture + (self.layout.blocks[name].length or 0)
            self._require_places(f"a picture with the same in style {name}", both + 2)
        if speech is not None:
            self._require_places("a recording with its transcript", speech.longest + 2)
            if config.speech and "image_speech" in config.speech.directions:
                both = picture + speech.longest_units
                self._require_places("a recording with its picture", both + 2)
        mixture = Mixture(
            config.prose_share,
            config.caption_first,
            config.caption_dropout,
            config.speech.share if config.speech else 0.0,
            tuple(config.speech.directions) if config.speech else (),
            {name: style.share for name, style in config.styles.items()},
        )
        return DocumentStream(pool, _prose(self, PROSE_OF[split]), mixture, speech)

    def _require_places(self, what: str, places: int) -> None:
        """Refuse documents of ``places`` beside the begin and end tokens of one block and of the
        document.
        """
        if places + FRAME > self.layout.length:
            raise ValueError(
                f"row_length {self.layout.length} is too short: "
                f"{what} takes {places + FRAME} tokens"
            )

    def scenes(self, split: str) -> Scenes:
        """The scenes of a split."""
        count = self.config.train_scenes if split == "train" else self.config.eval_scenes
        return Scenes(self.source, split, self.config.seed, count)

    def pictures(self, split: str, start: int, count: int) -> np.ndarray:
        """Scenes ``start .. start + count`` of a split as pictures, uint8 [count, H, W, 3]."""
        return self.source.pictures(split, self.config.seed, start, count)

    @cached_property
    def key(self) -> str:
        """What tells this data from other data, the content of tokenizer files included."""
        parts = [self.images, *self.styles.values(), *([self.speech] if self.speech else [])]
        tokenizers = [self.texts.key(), *(each.fingerprint for each in parts)]
        return content_key([self.config, tokenizers])

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreparedData) and self.key == other.key


@lru_cache(maxsize=16)
def _pool(data: PreparedData, split: str) -> ScenePool:
    scenes = data.scenes(split)
    styles = {
        name: encode_pictures(scenes, tokenizer, data.config.styles[name].rendering)
        for name, tokenizer in data.styles.items()
    }
    return prepare_pool(scenes, data.images, data.texts, styles)


@lru_cache(maxsize=16)
def _speech_pool(data: PreparedData, split: str) -> SpeechPool | None:
    if data.speech is None or data.config.speech is None:
        return None
    return prepare_speech_pool(
        data.config.speech,
        data.scenes(split),
        data.images,
        data.texts,
        data.speech,
        data.pool(split).images,
    )


@lru_cache(maxsize=16)
def _prose(data: PreparedData, split: ProseSplit) -> list[np.ndarray]:
    source = ProseSource()
    key = {"prose": 1, "source": source, "split": split, "vocabulary": data.texts.key()}

    def build(folder: Path) -> None:
        passages = tokenize_prose(source.passages(split), data.texts)
        ends = np.cumsum([len(each) for each in passages])
        np.savez(folder / "tokens.npz", tokens=np.concatenate(passages), ends=ends)

    with np.load(cached("prose", key, build) / "tokens.npz") as kept:
        return np.split(kept["tokens"], kept["ends"][:-1])


def prepare(config: DataConfig) -> PreparedData:
    """Render, fit and load what a configuration names; the second call finds it in the cache."""
    interface = config.interface()
    if config.speech is not None:
        config.speech.require_source()
    source = SceneSource(config.scenes)
    texts, images = load_texts(config, source), load_images(config, source)
    styles = {name: load_style(config, source, name) for name in config.styles}
    speech = load_speech(config, source)
    _require_as_configured(interface, texts, {"image": images, **styles}, speech)
    layout = Layout.of(texts, config.row_length, interface)
    return PreparedData(config, interface, source, texts, images, styles, speech, layout)


def _require_as_configured(
    interface: DataInterface,
    texts: TextTokenizer,
    pictures: Mapping[str, ImageTokenizer | VQTokenizer],
    speech: SpeechTokenizer | None,
) -> None:
    """What the model was told of the data before it was prepared is what it turned out to be."""
    found: dict[str, Codes | Latents] = {}
    for name, tokenizer in pictures.items():
        if isinstance(tokenizer, VQTokenizer):
            found[name] = Codes(tokenizer.size, tokenizer.length)
        elif (expected := interface.latents) is not None:
            found[name] = Latents(tokenizer.latent_shape, expected.patch)
    if speech is not None:
        found["speech"] = Codes(speech.size)
    if texts.vocab_size > interface.text_vocabulary or found != dict(interface.others):
        raise ValueError(
            f"tokenizers give {texts.vocab_size} tokens of text and {found}, the configuration "
            f"says {interface.text_vocabulary} and {dict(interface.others)}"
        )
