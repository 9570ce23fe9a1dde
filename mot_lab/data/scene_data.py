"""The scenes, prose and speech of a configuration without sources, prepared.

Shapes: N pictures of H x W pixels.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from mot_lab.data.documents import DocumentStream, tokenize_prose
from mot_lab.data.packing import Layout
from mot_lab.data.pairs import Pairs, caption_of
from mot_lab.data.pool import ScenePool, Scenes, encode_pictures, prepare_pool
from mot_lab.data.prepare import FRAME, DataConfig, PreparedData
from mot_lab.data.prose import ProseSource
from mot_lab.data.scenes import SceneSource
from mot_lab.data.speech import prepare_speech_pool
from mot_lab.data.speech_pool import SpeechPool
from mot_lab.data.tokenizers import load_images, load_speech, load_style, load_texts
from mot_lab.runtime.cache import cached

ProseSplit = Literal["train", "val", "test"]
# Scenes of unseen emojis go with the test prose: there is no other kind of prose.
PROSE_OF: dict[str, ProseSplit] = {
    "train": "train",
    "val": "val",
    "test": "test",
    "unseen": "test",
}


@dataclass(frozen=True, eq=False)
class SceneData(PreparedData):
    """Scenes with captions, prose and, where there are any, speech and styles."""

    source: SceneSource

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
        return DocumentStream(pool, _prose(self, PROSE_OF[split]), self.mixture, speech)

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

    def pairs(self, split: str) -> Pairs:
        """Its scenes with all their captions, without end."""
        return ScenePairs(self, split)

    def pictures(self, split: str, start: int, count: int) -> np.ndarray:
        """Scenes ``start .. start + count`` of a split as pictures, uint8 [count, H, W, 3]."""
        return self.source.pictures(split, self.config.seed, start, count)


@dataclass(frozen=True)
class ScenePairs:
    """The scenes of a split as `Pairs`."""

    data: SceneData
    split: str

    def references(self, place: int) -> list[str]:
        """Every wording of a scene."""
        source = self.data.source
        return source.captions(source.scene(self.split, self.data.config.seed, place))

    def prompt(self, place: int) -> str:
        """One of them."""
        return caption_of(self.references(place), place)

    def pictures(self, start: int, count: int) -> np.ndarray:
        """Scenes ``start .. start + count``, uint8 [count, H, W, 3]."""
        return self.data.pictures(self.split, start, count)

    def encoded(self, count: int) -> np.ndarray:
        """The first scenes as the image tokenizer gives them."""
        return np.array(self.data.pool(self.split).images[:count])

    @property
    def longest_caption(self) -> int:
        """Tokens of the longest caption."""
        return self.data.pool(self.split).longest_caption


@lru_cache(maxsize=16)
def _pool(data: SceneData, split: str) -> ScenePool:
    scenes = data.scenes(split)
    styles = {
        name: encode_pictures(scenes, tokenizer, data.config.styles[name].rendering)
        for name, tokenizer in data.styles.items()
    }
    return prepare_pool(scenes, data.images, data.texts, styles)


@lru_cache(maxsize=16)
def _speech_pool(data: SceneData, split: str) -> SpeechPool | None:
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
def _prose(data: SceneData, split: ProseSplit) -> list[np.ndarray]:
    source = ProseSource()
    key = {"prose": 1, "source": source, "split": split, "vocabulary": data.texts.key()}

    def build(folder: Path) -> None:
        passages = tokenize_prose(source.passages(split), data.texts)
        ends = np.cumsum([len(each) for each in passages])
        np.savez(folder / "tokens.npz", tokens=np.concatenate(passages), ends=ends)

    with np.load(cached("prose", key, build) / "tokens.npz") as kept:
        return np.split(kept["tokens"], kept["ends"][:-1])


def prepare_scenes(config: DataConfig) -> SceneData:
    """Render, fit and load what a configuration names; the second call finds it in the cache."""
    interface = config.interface()
    if config.speech is not None:
        config.speech.require_source()
    source = SceneSource(config.scenes)
    texts, images = load_texts(config, source), load_images(config, source)
    styles = {name: load_style(config, source, name) for name in config.styles}
    speech = load_speech(config, source)
    layout = Layout.of(texts, config.row_length, interface)
    data = SceneData(config, interface, texts, images, styles, speech, layout, source)
    data.require_as_configured()
    return data
