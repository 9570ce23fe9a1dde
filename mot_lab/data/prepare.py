"""From a configuration to everything training and evaluation read: tokenizers, pools, prose."""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from mot_lab.data.documents import DocumentStream, tokenize_prose
from mot_lab.data.interface import DataInterface
from mot_lab.data.packing import MODALITIES, Layout
from mot_lab.data.pool import ScenePool, prepare_pool
from mot_lab.data.prose import ProseSource
from mot_lab.data.scenes import ScenesConfig, SceneSource
from mot_lab.runtime.cache import cached, content_key
from mot_lab.tokens.image import ImageTokenizer, ImageTokenizerConfig, load_image_tokenizer
from mot_lab.tokens.text import TextTokenizer, TextTokenizerConfig, load_text_tokenizer

TOKENIZER_SCENES = 4000
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
        patch: side of an image token, in latent positions.
        train_scenes: how many different scenes training draws from.
        eval_scenes: how many scenes each held-out split has.
        prose_share: share of drawn documents that are prose; gaps at the ends of rows are filled
            with prose besides.
        caption_first: share of pairs with the caption before the picture (80%: Transfusion).
        row_length: S, tokens per row.
        rows: B, rows per batch.
        val_rows: rows of validation, with the same noise at every evaluation.
        seed: of the scenes and of validation; the order of training has the run's own seed.
    """

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    text: TextTokenizerConfig = field(default_factory=TextTokenizerConfig)
    image: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    patch: int = 1
    train_scenes: int = 20_000
    eval_scenes: int = 1_000
    prose_share: float = 0.1
    caption_first: float = 0.8
    row_length: int = 128
    rows: int = 16
    val_rows: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("prose_share", "caption_first"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} must be between 0 and 1")
        for name in ("patch", "train_scenes", "eval_scenes", "row_length", "rows", "val_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.val_rows % self.rows:
            raise ValueError(f"val_rows {self.val_rows} must be a multiple of rows {self.rows}")

    def interface(self) -> DataInterface:
        """What a model must know, without preparing anything."""
        latent_shape = self.image.latent_shape(self.scenes.canvas)
        if latent_shape[1] % self.patch or latent_shape[2] % self.patch:
            raise ValueError(
                f"patch {self.patch} does not divide the latents' {latent_shape[1]} x "
                f"{latent_shape[2]} positions"
            )
        return DataInterface(MODALITIES, self.text.vocabulary(), latent_shape, self.patch)


@dataclass(frozen=True)
class PreparedData:
    """Everything that is read while training and evaluating."""

    config: DataConfig
    source: SceneSource
    texts: TextTokenizer
    images: ImageTokenizer
    layout: Layout

    def pool(self, split: str) -> ScenePool:
        """The scenes of a split, encoded once."""
        scenes = self.config.train_scenes if split == "train" else self.config.eval_scenes
        return _pool(self, split, scenes)

    def stream(self, split: str) -> DocumentStream:
        """The documents of a split."""
        pool = self.pool(split)
        longest = pool.longest_caption + self.layout.patches + 4
        if longest > self.layout.length:
            raise ValueError(
                f"row_length {self.layout.length} is too short: a picture of "
                f"{self.layout.patches} tokens with its caption takes {longest}"
            )
        prose = _prose(self, PROSE_OF[split])
        return DocumentStream(pool, prose, self.config.prose_share, self.config.caption_first)

    def pictures(self, split: str, start: int, count: int) -> np.ndarray:
        """Scenes ``start .. start + count`` of a split as pictures, uint8 [count, H, W, 3]."""
        return self.source.pictures(split, self.config.seed, start, count)

    @cached_property
    def key(self) -> str:
        """What tells this data from other data, the content of tokenizer files included."""
        return content_key([self.config, self.texts.key(), self.images.fingerprint])

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreparedData) and self.key == other.key


@lru_cache(maxsize=16)
def _pool(data: PreparedData, split: str, scenes: int) -> ScenePool:
    config = data.config
    key = [config.scenes, data.texts.key(), data.images.fingerprint]
    return prepare_pool(data.source, split, config.seed, scenes, data.images, data.texts, key)


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
    source = SceneSource(config.scenes)

    def pictures(start: int, count: int) -> np.ndarray:
        return source.pictures("train", config.seed, start, count)

    def tokenizer_texts() -> list[str]:
        scenes = (source.scene("train", config.seed, i) for i in range(TOKENIZER_SCENES))
        captions = [caption for scene in scenes for caption in source.captions(scene)]
        return captions + ProseSource().passages("train")

    key = [config.scenes, config.seed]
    texts = load_text_tokenizer(config.text, tokenizer_texts, key)
    images = load_image_tokenizer(config.image, config.scenes.canvas, pictures, key)
    if texts.vocab_size > interface.vocab_size or images.latent_shape != interface.latent_shape:
        raise ValueError(
            f"tokenizers give {texts.vocab_size} tokens and latents {images.latent_shape}, "
            f"the configuration says {interface.vocab_size} and {interface.latent_shape}"
        )
    layout = Layout.of(texts, config.row_length, interface.tokens_per_image)
    return PreparedData(config, source, texts, images, layout)
