"""Prepared scenes: image latents and caption tokens of one split, read from memory-mapped files.

Shapes: N scenes, C x H x W latents.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from mot_lab.data.scenes import SceneSource
from mot_lab.runtime.cache import cached
from mot_lab.tokens.image import ImageTokenizer
from mot_lab.tokens.text import TextTokenizer

ENCODE_BATCH = 256


@dataclass(frozen=True)
class ScenePool:
    """Scenes 0 .. N - 1 of a split.

    Attributes:
        latents_NCHW: float32, read-only.
        caption_offsets: int64 [captions + 1], where each caption's tokens begin.
        caption_tokens: int32, all captions' tokens end to end.
        scene_offsets: int64 [N + 1], where each scene's captions begin.
    """

    latents_NCHW: np.ndarray
    caption_offsets: np.ndarray
    caption_tokens: np.ndarray
    scene_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.latents_NCHW)

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


def prepare_pool(
    source: SceneSource,
    split: str,
    seed: int,
    scenes: int,
    images: ImageTokenizer,
    texts: TextTokenizer,
    key: object,
) -> ScenePool:
    """Encode a split's first scenes, or find them in the cache.

    Args:
        source, split, seed, scenes: scene i is ``source.scene(split, seed, i)``.
        images, texts: the tokenizers.
        key: what determines source and tokenizers, for the cache.
    """
    determinants = {"pool": 1, "split": split, "seed": seed, "scenes": scenes, "of": key}
    folder = cached(
        "pool", determinants, lambda out: _build(out, source, split, seed, scenes, images, texts)
    )
    captions = np.load(folder / "captions.npz")
    return ScenePool(
        np.load(folder / "latents.npy", mmap_mode="r"),
        captions["caption_offsets"],
        captions["caption_tokens"],
        captions["scene_offsets"],
    )


def _build(
    folder: Path,
    source: SceneSource,
    split: str,
    seed: int,
    scenes: int,
    images: ImageTokenizer,
    texts: TextTokenizer,
) -> None:
    latents_NCHW = np.lib.format.open_memmap(
        folder / "latents.npy", "w+", np.float32, (scenes, *images.latent_shape)
    )
    lengths: list[int] = []
    tokens: list[int] = []
    per_scene: list[int] = []
    starts = range(0, scenes, ENCODE_BATCH)
    for start in track(starts, description=f"encoding {scenes} {split} scenes"):
        drawn = [
            source.scene(split, seed, i) for i in range(start, min(start + ENCODE_BATCH, scenes))
        ]
        pixels_NHWC = np.stack([source.render(scene) for scene in drawn])
        latents_NCHW[start : start + len(drawn)] = images.encode(pixels_NHWC).numpy()
        captions = [source.captions(scene) for scene in drawn]
        per_scene += [len(each) for each in captions]
        encoded = texts.encode_batch([caption for each in captions for caption in each])
        lengths += [len(ids) for ids in encoded]
        tokens += [token for ids in encoded for token in ids]
    latents_NCHW.flush()
    np.savez(
        folder / "captions.npz",
        caption_offsets=np.cumsum([0, *lengths]),
        caption_tokens=np.array(tokens, np.int32),
        scene_offsets=np.cumsum([0, *per_scene]),
    )
    (folder / "about.json").write_text(json.dumps({"split": split, "seed": seed, "scenes": scenes}))
