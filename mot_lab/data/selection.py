"""Which emojis a data set draws: distinct known ones, and concepts kept back as unseen.

Shapes: N drawings compared, F features (pixels of the drawing over white and over black).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np

from mot_lab.data.openmoji import Drawing, catalogue, render

# Compared at one size whatever the canvas is, so that the choice depends on nothing else.
COMPARED_AT = 16
# Mean squared difference (colours 0..1) under which two drawings count as the same one: it
# joins the clock faces and the chess-like pairs of arrows, and keeps a dog and a fox apart.
NEAR_DUPLICATE = 0.01
# A drawing leaves some of its cell's ground to be seen.
MOST_OPACITY = 0.95

# Everyday things with short natural names, drawn in flat colours: the first to be chosen.
FAMILIAR = (
    "red apple", "banana", "pear", "lemon", "strawberry", "watermelon", "carrot", "eggplant",
    "broccoli", "pineapple", "avocado", "pizza", "doughnut", "cookie", "hamburger",
    "birthday cake", "ice cream", "fish", "whale", "octopus", "crab", "frog", "turtle", "snail",
    "butterfly", "lady beetle", "bird", "penguin", "owl", "pig", "cow face", "tiger face", "panda",
    "rabbit face", "fox", "elephant", "red heart", "star", "sun", "rainbow", "snowman", "fire",
    "droplet", "cactus", "evergreen tree", "sunflower", "tulip", "mushroom", "house", "rocket",
    "sailboat", "automobile", "tractor", "locomotive", "bicycle", "umbrella",
    "balloon", "bell", "key", "guitar", "drum", "trophy", "soccer ball", "basketball", "ghost",
    "robot", "alien", "crown", "t-shirt", "teapot", "light bulb", "alarm clock", "camera",
)  # fmt: skip


@cache
def select(emojis: int, unseen_concepts: int) -> tuple[list[Drawing], list[Drawing]]:
    """Known drawings to train on, and the drawings of concepts that training never shows.

    Known: concepts of a single drawing, each the farthest in pixels from those chosen before it
    and from the bare cell, familiar things first. Unseen: concepts in the order of a hash, with
    all their skin tones and genders; no unseen drawing is a near-duplicate of a known one. The
    unseen ones do not depend on how many are known, and a smaller choice of known ones is the
    beginning of a larger one.

    Args:
        emojis: how many known drawings.
        unseen_concepts: how many concepts to keep back.

    Returns:
        (known, unseen): ``emojis`` drawings, and at least ``unseen_concepts`` drawings.

    Raises:
        ValueError: when OpenMoji has not so many.
    """
    variants: dict[str, list[Drawing]] = defaultdict(list)
    for drawing in catalogue():
        variants[drawing.concept].append(drawing)
    familiar = [variants[name][0] for name in FAMILIAR]
    unseen = _unseen(variants, familiar, unseen_concepts)

    kept_back = {drawing.concept for drawing in unseen}
    pool = familiar + [
        drawing
        for concept, (drawing, *others) in variants.items()
        if not others
        and concept not in kept_back
        and concept not in FAMILIAR
        and re.fullmatch(r"[a-z][a-z-]*( [a-z-]+){0,3}", drawing.name)
    ]
    features_NF = _features(pool)
    opacity = render(pool, COMPARED_AT)[..., 3].mean(axis=(1, 2)) / 255
    usable = opacity <= MOST_OPACITY
    if unseen:
        usable &= _distances(features_NF, _features(unseen)).min(axis=1) >= NEAR_DUPLICATE
    # The bare cell counts as chosen before all others: thin drawings come late.
    order = _farthest_first(
        _distances(features_NF, features_NF),
        _distances(features_NF, _bare(features_NF))[:, 0],
        usable,
        len(familiar),
        emojis,
    )
    if len(order) < emojis:
        raise ValueError(
            f"emojis={emojis}, but OpenMoji has {len(order)} distinct drawings beside "
            f"{unseen_concepts} unseen concepts; lower emojis or unseen_concepts"
        )
    return [pool[index] for index in order], unseen


def _unseen(
    variants: dict[str, list[Drawing]], familiar: list[Drawing], count: int
) -> list[Drawing]:
    """All drawings of ``count`` concepts, in hash order, like nothing familiar and no bare cell."""
    plain = [
        concept
        for concept, drawings in variants.items()
        if concept not in FAMILIAR
        and all(re.fullmatch(r"[a-z][a-z -]*", drawing.name) for drawing in drawings)
    ]
    if count > len(plain) // 4:
        raise ValueError(
            f"unseen_concepts={count} leaves too few to train on; give at most {len(plain) // 4}"
        )
    plain.sort(key=lambda concept: hashlib.sha256(concept.encode()).digest())
    candidates = [drawing for concept in plain[: 2 * count] for drawing in variants[concept]]
    if not candidates:
        return []
    features_NF, familiar_MF = _features(candidates), _features(familiar)
    avoided = np.concatenate([familiar_MF, _bare(familiar_MF)])
    nearest = _distances(features_NF, avoided).min(axis=1)
    too_near = {
        drawing.concept
        for drawing, distance in zip(candidates, nearest, strict=True)
        if distance < NEAR_DUPLICATE
    }
    chosen = [concept for concept in plain[: 2 * count] if concept not in too_near][:count]
    drawings = [drawing for concept in chosen for drawing in variants[concept]]
    # Some genders are drawn alike, to the pixel: a picture with two names is taken once.
    first: dict[bytes, Drawing] = {}
    pixels = [picture.tobytes() for picture in render(drawings, COMPARED_AT)]
    for picture, drawing in zip(pixels, drawings, strict=True):
        first.setdefault(picture, drawing)
    return [
        drawing
        for picture, drawing in zip(pixels, drawings, strict=True)
        if first[picture] is drawing
    ]


def _farthest_first(
    distance_NN: np.ndarray,
    nearest_N: np.ndarray,
    usable_N: np.ndarray,
    first_class: int,
    count: int,
) -> list[int]:
    """Greedy farthest-point order: row 0, the rest of ``first_class`` rows, then the others.

    ``nearest_N`` is the distance from what counts as chosen before row 0.
    """
    chosen = [0]
    nearest_N = np.minimum(nearest_N, distance_NN[0])
    for group in (np.arange(len(usable_N)) < first_class, np.arange(len(usable_N)) >= first_class):
        while len(chosen) < count:
            candidate_N = np.where(group & usable_N, nearest_N, -1.0)
            best = int(candidate_N.argmax())
            if candidate_N[best] < NEAR_DUPLICATE:
                break
            chosen.append(best)
            nearest_N = np.minimum(nearest_N, distance_NN[best])
    return chosen[:count]


def _features(drawings: Sequence[Drawing]) -> np.ndarray:
    """float64 [N, F]: the drawings over white and over black, colours 0..1."""
    rgba = render(drawings, COMPARED_AT).astype(np.float64) / 255
    inked = rgba[..., :3] * rgba[..., 3:]
    return np.stack([inked + 1 - rgba[..., 3:], inked], axis=1).reshape(len(drawings), -1)


def _bare(features_NF: np.ndarray) -> np.ndarray:
    """The features of a cell without a drawing, [1, F]: white, then black."""
    return np.repeat([1.0, 0.0], features_NF.shape[1] // 2)[None]


def _distances(left_NF: np.ndarray, right_MF: np.ndarray) -> np.ndarray:
    """Mean squared difference of every left row from every right row, [N, M]."""
    squares_NM = (left_NF**2).sum(1)[:, None] + (right_MF**2).sum(1)[None]
    return np.maximum(squares_NM - 2 * left_NF @ right_MF.T, 0) / left_NF.shape[1]
