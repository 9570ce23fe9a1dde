"""The figures of the MoT paper (arXiv 2411.04996v2) that a study can be compared with, by name.

A name is checked when the configuration is read; the slopes themselves are in ``evaluation.paper``.
"""

from collections.abc import Sequence

# What of a figure is tabulated: the sizes of its models.
PAPER_FIGURES: dict[str, tuple[str, ...]] = {
    "figure_6": ("37M", "94M", "443M", "1.5B", "7B"),
    "figure_8": ("7B",),
    "figure_9": ("443M", "880M", "1.5B"),
    "figure_10": ("7B",),
    "figure_12": ("163M", "760M", "1.4B"),
    "figure_14": ("880M",),
    "figure_15": ("443M",),
    "figure_16": ("443M",),
    "figure_17": ("760M",),
    "figure_18": ("443M",),
    "figure_19": ("7B",),
    "figure_24": ("37M", "94M", "443M", "1.5B", "7B"),
    "figure_26": ("163M", "760M", "1.4B"),
}


def parse_paper_figure(name: str) -> tuple[str, tuple[str, ...]]:
    """A figure and the sizes that are meant: all of them, or the one after a slash.

    Raises:
        ValueError: no such figure, or it has no such size; with those there are.

    Example:
        >>> parse_paper_figure("figure_6/443M")
        ('figure_6', ('443M',))
    """
    figure, slash, size = name.partition("/")
    if figure not in PAPER_FIGURES:
        raise ValueError(
            f"paper: {name!r} is no tabulated figure; there are {', '.join(PAPER_FIGURES)}"
        )
    sizes = PAPER_FIGURES[figure]
    if not slash:
        return figure, sizes
    if size not in sizes:
        raise ValueError(f"paper: {name!r} is no size of {figure}; there are {', '.join(sizes)}")
    return figure, (size,)


def check_paper_figures(names: Sequence[str], baseline: str) -> None:
    """Refuse names that mean nothing or say the same twice, and slopes of another baseline.

    Raises:
        ValueError: what is wrong, in one line.
    """
    if names and baseline != "dense":
        raise ValueError(
            f"paper: its slopes are shares of dense's steps, and the baseline is {baseline!r}; "
            f"say baseline: dense"
        )
    seen: set[tuple[str, str]] = set()
    for name in names:
        figure, sizes = parse_paper_figure(name)
        for size in sizes:
            if (figure, size) in seen:
                raise ValueError(f"paper: {name!r} names {figure} of {size} again; once is enough")
            seen.add((figure, size))
