"""What captions say about a scene: which emoji stands where and on which ground, in words."""

from collections.abc import Sequence

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")


def place(row: int, column: int, grid: int) -> str:
    """A cell of a ``grid`` x ``grid`` raster in words.

    Example:
        >>> place(0, 1, 2), place(1, 1, 3), place(4, 2, 6)
        ('top right', 'middle', 'row 5 column 3')
    """
    if grid == 1:
        return "middle"
    if grid > 3:
        return f"row {row + 1} column {column + 1}"
    # The last of two rows is the bottom, and the last of two columns the right.
    last = grid - 1
    vertical = "bottom" if row == last else ROWS[row]
    horizontal = "right" if column == last else COLUMNS[column]
    return vertical if vertical == horizontal else f"{vertical} {horizontal}"


def with_article(name: str) -> str:
    """The name with "a" or "an", or bare where it is a plural.

    Example:
        >>> [with_article(name) for name in ("umbrella", "unicorn", "french fries", "compass")]
        ['an umbrella', 'a unicorn', 'french fries', 'a compass']
    """
    if name.endswith("s") and not name.endswith(("ss", "us", "is", "lens")):
        return name
    sounded = name[0] in "aeiou" and not name.startswith(("uni", "eu", "one-", "ewe"))
    return f"{'an' if sounded else 'a'} {name}"


def phrasings(objects: Sequence[tuple[str, int, int]], ground: str, grid: int) -> list[str]:
    """Every wording of a scene; each alone determines it.

    Args:
        objects: (name, row, column) in reading order, at least one.
        ground: name of the ground's colour.
        grid: cells a side.

    Returns:
        Seven captions, always in the same order.
    """
    names = [with_article(name) for name, _, _ in objects]
    places = [place(row, column, grid) for _, row, column in objects]
    pairs = list(zip(names, places, strict=True))
    preposition = "in" if grid > 3 else "at the"
    placed = [f"{name} {preposition} {where}" for name, where in pairs]
    labels = [f"{where}: {name}" for (name, _, _), where in zip(objects, places, strict=True)]
    return [
        f"{_list(placed)} on {ground}",
        f"on {ground}, {_list(placed)}",
        f"{', '.join(f'{name} {where}' for name, where in pairs)}, {ground} ground",
        f"{preposition} {_list([f'{where} {name}' for name, where in pairs])} on {ground}",
        f"a {ground} picture with {_list(placed)}",
        f"{', '.join(labels)}, ground: {ground}",
        f"{_related(placed, objects)} on {ground}",
    ]


def _related(placed: list[str], objects: Sequence[tuple[str, int, int]]) -> str:
    """Two objects with the relation between them; any other number as a plain list."""
    if len(objects) != 2:
        return f"there is {_list(placed)}"
    relation = "left of" if objects[0][1] == objects[1][1] else "above"
    return f"{placed[0]}, {relation} {placed[1]}"


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
