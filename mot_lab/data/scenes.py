"""OpenMoji scenes: emojis in the cells of a coloured ground, with captions that tell all of it.

Scene i of a split is a function of (seed, i), so the data is unlimited and needs no files beside
the rendered emojis. Shapes: C pixels of a cell's side, H = W = canvas.
"""

from dataclasses import dataclass

import numpy as np

from mot_lab.data.captions import phrasings
from mot_lab.data.holdout import Holdout
from mot_lab.data.openmoji import render
from mot_lab.data.selection import select
from mot_lab.limits import require_between

SPLITS = ("train", "val", "test", "unseen")

# Grounds in the order in which they come into use: apart from each other and from OpenMoji's
# own palette, so that no drawing vanishes on one.
GROUNDS = {
    "pink": (248, 178, 196),
    "blue": (72, 118, 214),
    "green": (130, 195, 120),
    "yellow": (252, 240, 160),
    "purple": (160, 115, 205),
    "gray": (150, 150, 150),
    "orange": (240, 150, 70),
    "white": (255, 255, 255),
}
MAX_OBJECTS = 12
MOST_PIXELS = 4096
MOST_GRID = 64
# What OpenMoji 17 has: distinct drawings beside one unseen concept, and concepts to keep back.
MOST_EMOJIS, MOST_UNSEEN = 1061, 313
# Tries to put together a scene of one split before the configuration is called impossible.
TRIES = 1000


@dataclass(frozen=True)
class ScenesConfig:
    """The size of the scenes.

    Attributes:
        emojis: known emojis, drawn in train, val and test.
        unseen_concepts: base concepts kept back for the unseen split, with all their skin tones
            and genders.
        canvas: pixels a side of a picture.
        grid: cells a side; an emoji fills its cell, ``canvas / grid`` pixels.
        max_objects: a scene shows 1 to this many emojis, no emoji twice.
        grounds: colours of ground.
    """

    emojis: int = 16
    unseen_concepts: int = 32
    canvas: int = 32
    grid: int = 2
    max_objects: int = 2
    grounds: int = 4

    def __post_init__(self) -> None:
        require_between(self, 1, MOST_PIXELS, "canvas")
        require_between(self, 1, MOST_GRID, "grid")
        require_between(self, 1, MOST_EMOJIS, "emojis")
        require_between(self, 1, MOST_UNSEEN, "unseen_concepts")
        if self.canvas % self.grid:
            raise ValueError(
                f"canvas={self.canvas} does not divide into grid={self.grid} cells a side; "
                f"give a canvas that is a positive multiple of the grid"
            )
        if not 1 <= self.max_objects <= min(self.grid**2, MAX_OBJECTS):
            raise ValueError(
                f"max_objects={self.max_objects} must be between 1 and "
                f"{min(self.grid**2, MAX_OBJECTS)} on a grid of {self.grid} x {self.grid}; "
                f"lower it or raise grid"
            )
        if not 1 <= self.grounds <= len(GROUNDS):
            raise ValueError(f"grounds={self.grounds} must be between 1 and {len(GROUNDS)}")
        if self.emojis < max(4, 4 * self.max_objects):
            raise ValueError(
                f"emojis={self.emojis} leaves too few combinations to hold some out; give at "
                f"least {max(4, 4 * self.max_objects)} for max_objects={self.max_objects}"
            )
        if self.unseen_concepts < self.max_objects:
            raise ValueError(
                f"unseen_concepts={self.unseen_concepts} cannot fill a scene of "
                f"max_objects={self.max_objects}; give at least as many"
            )


@dataclass(frozen=True)
class PlacedObject:
    """One emoji, an index into ``SceneSource.drawings``, in the cell (row, column)."""

    emoji: int
    row: int
    column: int


@dataclass(frozen=True)
class Scene:
    """A ground, an index into ``SceneSource.ground_names``, and objects in reading order."""

    ground: int
    objects: tuple[PlacedObject, ...]


class SceneSource:
    """Scenes of every split, their pictures and their captions.

    Attributes:
        known: drawings of train, val and test.
        unseen: drawings of the unseen split; no concept is in both.
        drawings: ``known + unseen``, what ``PlacedObject.emoji`` counts through.
        ground_names: names of the grounds.
        ground_colours: uint8 [grounds, 3].
    """

    def __init__(self, config: ScenesConfig) -> None:
        """Choose and render the emojis (cached); raise ValueError when there are not so many."""
        self.config = config
        self.known, self.unseen = select(config.emojis, config.unseen_concepts)
        self.drawings = self.known + self.unseen
        self.ground_names = list(GROUNDS)[: config.grounds]
        self.ground_colours = np.array(list(GROUNDS.values())[: config.grounds], dtype=np.uint8)
        self.cell = config.canvas // config.grid
        rgba = render(self.drawings, self.cell).astype(np.uint16)
        # Opacity and colour times opacity, so that a tile is one multiply and one add.
        self._ink = rgba[..., :3] * rgba[..., 3:]
        self._clear = 255 - rgba[..., 3:]
        by_concept: dict[str, list[int]] = {}
        for emoji, drawing in enumerate(self.unseen, start=len(self.known)):
            by_concept.setdefault(drawing.concept, []).append(emoji)
        self._unseen_by_concept = list(by_concept.values())
        self._holdout = Holdout(
            [drawing.hexcode for drawing in self.known], config.grid**2, config.grounds
        )

    def scene(self, split: str, seed: int, index: int) -> Scene:
        """Scene ``index`` of a split: the same for the same arguments, on every machine.

        Args:
            split: one of ``SPLITS``.
            seed, index: not negative.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        level = SPLITS.index(split)
        rng = np.random.default_rng((seed, level, index))
        count = int(rng.integers(1, self.config.max_objects + 1))
        if split != "unseen" and count == 1:
            return self._single(rng, level)
        if split == "unseen":
            emojis = self._unseen_emojis(rng, count)
        else:
            emojis = self._known_emojis(rng, level, count)
        grid = self.config.grid
        cells = rng.permutation(grid**2)[:count].tolist()
        placed = sorted((cell, emoji) for cell, emoji in zip(cells, emojis, strict=True))
        objects = tuple(PlacedObject(emoji, *divmod(cell, grid)) for cell, emoji in placed)
        return Scene(int(rng.integers(self.config.grounds)), objects)

    def split_of(self, scene: Scene) -> str:
        """The one split that a scene of this source belongs to."""
        emojis = [each.emoji for each in scene.objects]
        if max(emojis) >= len(self.known):
            return "unseen"
        if len(emojis) == 1:
            (only,) = scene.objects
            cell = only.row * self.config.grid + only.column
            flat = (only.emoji * self.config.grid**2 + cell) * self.config.grounds + scene.ground
            return SPLITS[self._holdout.single_K[flat]]
        pairs = self._holdout.pair_EE[np.ix_(emojis, emojis)]
        return SPLITS[pairs[~np.eye(len(emojis), dtype=bool)].max()]

    def render(self, scene: Scene) -> np.ndarray:
        """The picture of a scene, uint8 [H, W, 3]."""
        size, cell = self.config.canvas, self.cell
        picture = np.empty((size, size, 3), dtype=np.uint8)
        picture[:] = self.ground_colours[scene.ground]
        for each in scene.objects:
            top, left = each.row * cell, each.column * cell
            picture[top : top + cell, left : left + cell] = self.tile(each.emoji, scene.ground)
        return picture

    def pictures(self, split: str, seed: int, start: int, count: int) -> np.ndarray:
        """Scenes ``start .. start + count`` of a split as pictures, uint8 [count, H, W, 3]."""
        return np.stack([self.render(self.scene(split, seed, start + i)) for i in range(count)])

    def tile(self, emoji: int | slice | np.ndarray, ground: int) -> np.ndarray:
        """Emojis over a ground, uint8 [..., C, C, 3]: exactly the pixels that scenes hold."""
        # At most 255 * 255, which 16 bits hold, with room for rounding to the nearest.
        over = self._ink[emoji] + self._clear[emoji] * self.ground_colours[ground] + 127
        return (over // 255).astype(np.uint8)

    def captions(self, scene: Scene) -> list[str]:
        """Every wording of a scene, in a fixed order; each one alone determines the scene."""
        objects = [(self.drawings[o.emoji].name, o.row, o.column) for o in scene.objects]
        return phrasings(objects, self.ground_names[scene.ground], self.config.grid)

    def _single(self, rng: np.random.Generator, level: int) -> Scene:
        keys = self._holdout.singles[level]
        rest, ground = divmod(int(keys[rng.integers(len(keys))]), self.config.grounds)
        emoji, cell = divmod(rest, self.config.grid**2)
        return Scene(ground, (PlacedObject(emoji, *divmod(cell, self.config.grid)),))

    def _known_emojis(self, rng: np.random.Generator, level: int, count: int) -> list[int]:
        """A pair of the split, then others that meet none of a later split."""
        pairs = self._holdout.pairs[level]
        for _ in range(TRIES):
            chosen = pairs[rng.integers(len(pairs))].tolist()
            while len(chosen) < count:
                fitting = np.flatnonzero((self._holdout.pair_EE[chosen] <= level).all(axis=0))
                if not len(fitting):
                    break
                chosen.append(int(fitting[rng.integers(len(fitting))]))
            else:
                return chosen
        raise ValueError(
            f"found no {SPLITS[level]} scene of {count} objects among {self.config.emojis} emojis "
            f"in {TRIES} tries; lower max_objects or raise emojis"
        )

    def _unseen_emojis(self, rng: np.random.Generator, count: int) -> list[int]:
        """Concepts with equal chance, then one drawing of each."""
        concepts = rng.permutation(len(self._unseen_by_concept))[:count]
        variants = [self._unseen_by_concept[concept] for concept in concepts]
        return [int(each[rng.integers(len(each))]) for each in variants]
