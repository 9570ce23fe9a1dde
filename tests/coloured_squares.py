"""Pictures that a tiny tokenizer learns in seconds."""

import numpy as np

CANVAS = 16
COLOURS = np.array([[248, 178, 196], [72, 118, 214], [20, 160, 40], [250, 240, 20]], np.uint8)


def squares(start: int, count: int) -> np.ndarray:
    """A coloured square in a quarter of a plain ground; picture i is a function of i."""
    pictures = np.empty((count, CANVAS, CANVAS, 3), np.uint8)
    for row in range(count):
        draw = np.random.default_rng(start + row)
        pictures[row] = COLOURS[draw.integers(4)]
        top, left = 8 * draw.integers(0, 2, 2)
        pictures[row, top : top + 8, left : left + 8] = COLOURS[draw.integers(4)]
    return pictures


def forbidden(start: int, count: int) -> np.ndarray:
    """Training pictures that must not be asked for."""
    raise AssertionError("asked for training pictures although nothing was to be fitted")
