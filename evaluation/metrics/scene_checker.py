"""An exact checker of scenes: reads back which emoji stands where, on which ground.

Every cell of a picture is compared with every known drawing on every ground, and with the bare
ground; the ground of the whole picture is the one whose best matches have the least error.

Shapes: N pictures, H = W = canvas, L cells, P numbers in a cell (C * C * 3), T tiles: the
candidate emojis and, last, the bare ground.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mot_lab.data.scenes import PlacedObject, Scene, SceneSource

# Pictures compared at a time: keeps the table of errors in the low hundreds of megabytes.
CHUNK = 256


@dataclass(frozen=True)
class SceneScore:
    """How far pictures show what their prompts say, for each of N pictures.

    Attributes:
        objects_right_N: int, objects of the prompt whose emoji stands in the cell that it names.
        objects_N: int, objects of the prompt.
        relation_right_N: bool, both objects of the prompt are there, once each, and stand to each
            other as its caption says (left of, above), wherever that is.
        related_N: bool, the prompt has two objects, so that its caption names their relation.
        ground_right_N: bool, the ground is the prompt's.
        scene_right_N: bool, everything is: ground, objects, and cells that should be bare.
    """

    objects_right_N: np.ndarray
    objects_N: np.ndarray
    relation_right_N: np.ndarray
    related_N: np.ndarray
    ground_right_N: np.ndarray
    scene_right_N: np.ndarray

    @property
    def objects_right(self) -> int:
        """Objects right over all pictures."""
        return int(self.objects_right_N.sum())

    @property
    def objects(self) -> int:
        """Objects asked for over all pictures."""
        return int(self.objects_N.sum())

    @property
    def ground_right(self) -> int:
        """Pictures with the right ground."""
        return int(self.ground_right_N.sum())

    @property
    def scenes_right(self) -> int:
        """Pictures with everything right."""
        return int(self.scene_right_N.sum())

    @property
    def scenes(self) -> int:
        """Pictures looked at."""
        return len(self.objects_N)


def check(
    images_NHWC: np.ndarray, source: SceneSource, emojis: Sequence[int] | None = None
) -> list[Scene]:
    """Read pictures back into scenes.

    Args:
        images_NHWC: uint8 [N, canvas, canvas, 3].
        source: what the drawings, grounds and cells are taken from.
        emojis: the candidates, indices into ``source.drawings``; None for the known ones.

    Returns:
        N scenes; a cell in which the bare ground fits best holds no object.

    Raises:
        ValueError: when the pictures are not uint8 pictures of the source's size.
    """
    size, grid, cell = source.config.canvas, source.config.grid, source.cell
    if images_NHWC.dtype != np.uint8 or images_NHWC.shape[1:] != (size, size, 3):
        raise ValueError(
            f"pictures are {images_NHWC.dtype} {list(images_NHWC.shape)}; "
            f"give uint8 [N, {size}, {size}, 3]"
        )
    candidates = np.arange(len(source.known)) if emojis is None else np.asarray(emojis)
    tiles = [_tiles(source, candidates, ground) for ground in range(source.config.grounds)]
    scenes: list[Scene] = []
    for start in range(0, len(images_NHWC), CHUNK):
        part = images_NHWC[start : start + CHUNK]
        cells = part.reshape(len(part), grid, cell, grid, cell, 3).transpose(0, 1, 3, 2, 4, 5)
        cells_NLP = _centred(cells.reshape(len(part), grid * grid, -1))
        errors = [_errors(cells_NLP, tiles_TP) for tiles_TP in tiles]
        # [grounds, N, L]: the least error in each cell and the tile that has it.
        least = np.stack([error_NLT.min(axis=2) for error_NLT in errors])
        best = np.stack([error_NLT.argmin(axis=2) for error_NLT in errors])
        ground_N = least.sum(axis=2).argmin(axis=0)
        for picture, ground in enumerate(ground_N.tolist()):
            found = best[ground, picture].tolist()
            objects = tuple(
                PlacedObject(int(candidates[tile]), *divmod(place, grid))
                for place, tile in enumerate(found)
                if tile < len(candidates)
            )
            scenes.append(Scene(ground, objects))
    return scenes


def score(images_NHWC: np.ndarray, prompts: Sequence[Scene], source: SceneSource) -> SceneScore:
    """Compare pictures with the scenes that they were to show.

    With the prompts shuffled it gives the floor: what a picture of something else scores.

    Args:
        images_NHWC: uint8 [N, canvas, canvas, 3].
        prompts: N scenes. Where all are of known emojis, those alone are the candidates; where
            any shows an unseen one, every drawing of the source is.
        source: the source of the prompts.

    Raises:
        ValueError: when there are not as many prompts as pictures.
    """
    if len(prompts) != len(images_NHWC):
        raise ValueError(f"{len(images_NHWC)} pictures, but {len(prompts)} prompts; give one each")
    known = all(each.emoji < len(source.known) for scene in prompts for each in scene.objects)
    candidates = None if known else range(len(source.drawings))
    return compare(check(images_NHWC, source, candidates), prompts)


def compare(found: Sequence[Scene], prompts: Sequence[Scene]) -> SceneScore:
    """Score scenes that ``check`` found against the prompts, pair by pair."""
    pairs = list(zip(found, prompts, strict=True))
    return SceneScore(
        objects_right_N=np.array([len(set(a.objects) & set(b.objects)) for a, b in pairs], int),
        objects_N=np.array([len(prompt.objects) for prompt in prompts], int),
        relation_right_N=np.array([_related_alike(a, b) for a, b in pairs], bool),
        related_N=np.array([len(prompt.objects) == 2 for prompt in prompts], bool),
        ground_right_N=np.array([a.ground == b.ground for a, b in pairs], bool),
        scene_right_N=np.array([a == b for a, b in pairs], bool),
    )


def _related_alike(found: Scene, prompt: Scene) -> bool:
    """Whether the two objects of a prompt are found in the relation that its caption names."""
    if len(prompt.objects) != 2:
        return False
    first, second = prompt.objects
    places = [
        [(each.row, each.column) for each in found.objects if each.emoji == wanted.emoji]
        for wanted in (first, second)
    ]
    if [len(each) for each in places] != [1, 1]:
        return False
    ((row, column),), ((other_row, other_column),) = places
    # As `mot_lab.data.captions` words it: side by side is "left of", anything else "above".
    return column < other_column if first.row == second.row else row < other_row


def _tiles(source: SceneSource, candidates: np.ndarray, ground: int) -> np.ndarray:
    """The candidates on one ground and, last, the ground alone, [T, P]."""
    drawn = source.tile(candidates, ground).reshape(len(candidates), -1)
    bare = np.tile(source.ground_colours[ground], source.cell**2)[None]
    return _centred(np.concatenate([drawn, bare]))


def _centred(pixels: np.ndarray) -> np.ndarray:
    # Around zero, so that the expanded square below loses little in float32.
    return pixels.astype(np.float32) / 255 - 0.5


def _errors(cells_NLP: np.ndarray, tiles_TP: np.ndarray) -> np.ndarray:
    """Squared error of every cell against every tile, [N, L, T]: |x|^2 - 2 x.t + |t|^2."""
    squares_NL = (cells_NLP**2).sum(axis=2)
    cross_NLT = cells_NLP @ tiles_TP.T
    return squares_NL[..., None] - 2 * cross_NLT + (tiles_TP**2).sum(axis=1)
