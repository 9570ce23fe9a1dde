"""Prepared scenes: encoded pictures and caption tokens of one split, read from memory-mapped files.

Shapes: N scenes, C x H x W latents, P codes of one picture, or H x W pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from mot_lab.data.scenes import SceneSource
from mot_lab.data.styles import RENDERINGS, Rendering
from mot_lab.runtime.cache import cached
from mot_lab.tokens.image import ImageTokenizer
from mot_lab.tokens.text import TextTokenizer
from mot_lab.tokens.vq import VQTokenizer

ENCODE_BATCH = 256


@dataclass(frozen=True)
class ScenePool:
    """Scenes 0 .. N - 1 of a split.

    Attributes:
        images: what the image tokenizer gives, float32 latents [N, C, H, W] or int32 codes [N, P],
            read-only.
        caption_offsets: int64 [captions + 1], where each caption's tokens begin.
        caption_tokens: int32, all captions' tokens end to end.
        scene_offsets: int64 [N + 1], where each scene's captions begin.
        styles: the scenes in other styles, encoded likewise, by modality.
    """

    images: np.ndarray
    caption_offsets: np.ndarray
    caption_tokens: np.ndarray
    scene_offsets: np.ndarray
    styles: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def longest_caption(self) -> int:
        """Tokens of the longest caption."""
        return int(np.diff(self.caption_offsets).max())

    def caption(self, scene: int, choice: float) -> np.ndarray:
        """Tokens of one of a scene's captions; ``choice`` in [0, 1) picks which."""
        first, last = self.scene_offsets[scene : scene + 2]
        picked = first + int(choice * (last - first))
        begin, end = self.caption_offsets[picked : picked + 2]
        return self.caption_tokens[begin:end]


@dataclass(frozen=True)
class Scenes:
    """The first scenes of a split: scene i is ``source.scene(split, seed, i)``."""

    source: SceneSource
    split: str
    seed: int
    count: int

    @property
    def key(self) -> dict[str, Any]:
        """What determines them, for the cache."""
        return {
            "scenes": self.source.config,
            "split": self.split,
            "seed": self.seed,
            "count": self.count,
        }


def encode_pictures(
    scenes: Scenes,
    tokenizer: ImageTokenizer | VQTokenizer,
    rendering: Rendering | None = None,
) -> np.ndarray:
    """The scenes as their tokenizer gives them, encoded once and memory-mapped.

    Args:
        scenes: to encode.
        tokenizer: of the pictures.
        rendering: the style that they are shown in; as they are without one.
    """

    def build(folder: Path) -> None:
        path = folder / "encoded.npy"
        style = f", {rendering}" if rendering else ""
        what = f"encoding {scenes.count} {scenes.split} scenes{style}"
        # not through a memory map: there a full disk ends the process with SIGBUS, unsaid
        with path.open("wb") as file:
            for start in track(range(0, scenes.count, ENCODE_BATCH), description=what):
                number = min(ENCODE_BATCH, scenes.count - start)
                pixels_NHWC = scenes.source.pictures(scenes.split, scenes.seed, start, number)
                if rendering:
                    pixels_NHWC = RENDERINGS[rendering](pixels_NHWC)
                part = np.asarray(tokenizer.encode(pixels_NHWC))
                if start == 0:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(part.dtype),
                        "fortran_order": False,
                        "shape": (scenes.count, *part.shape[1:]),
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(part.tobytes())

    key = {"pictures": 1, "of": scenes.key, "by": tokenizer.fingerprint, "rendering": rendering}
    return np.load(cached("pictures", key, build) / "encoded.npy", mmap_mode="r")


def prepare_pool(
    scenes: Scenes,
    images: ImageTokenizer | VQTokenizer,
    texts: TextTokenizer,
    styles: Mapping[str, np.ndarray],
) -> ScenePool:
    """Encode scenes and their captions, or find them in the cache.

    Args:
        scenes: to encode.
        images, texts: the tokenizers.
        styles: the same scenes in other styles, encoded.
    """

    def build(folder: Path) -> None:
        source = scenes.source
        drawn = (source.scene(scenes.split, scenes.seed, i) for i in range(scenes.count))
        captions = [source.captions(scene) for scene in drawn]
        encoded = texts.encode_batch([caption for each in captions for caption in each])
        np.savez(
            folder / "captions.npz",
            caption_offsets=np.cumsum([0, *(len(ids) for ids in encoded)]),
            caption_tokens=np.array([token for ids in encoded for token in ids], np.int32),
            scene_offsets=np.cumsum([0, *(len(each) for each in captions)]),
        )

    pictures = encode_pictures(scenes, images)
    folder = cached("captions", {"captions": 1, "of": scenes.key, "by": texts.key()}, build)
    with np.load(folder / "captions.npz") as captions:
        return ScenePool(
            pictures,
            captions["caption_offsets"],
            captions["caption_tokens"],
            captions["scene_offsets"],
            styles,
        )
