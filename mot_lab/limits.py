"""Numbers of a configuration that lie between bounds; what is not finite lies nowhere.

The upper bounds are far above whatever was trained, and keep a slip of the pen (a size of 10^12)
from being built.
"""

import math

from mot_lab.parsing import shown

MOST_STEPS = 10_000_000
MOST_SEED = 2**32 - 1  # numpy's and Lightning's
MOST_THINGS = 2**31 - 1  # scenes, recordings: what indices of 32 bits count
MOST_PLACES = 2**20  # rows of a batch, tokens of a row, entries of a vocabulary


def require_between(settings: object, least: float, most: float, *names: str) -> None:
    """Refuse numbers below ``least`` or above ``most``.

    Args:
        settings: whose attributes they are.
        least, most: both allowed.
        names: of the attributes; a list or tuple is checked number by number.

    Raises:
        ValueError: names the attribute, its value and the bounds.
    """
    for name in names:
        value = getattr(settings, name)
        for each in value if isinstance(value, list | tuple) else (value,):
            if not least <= each <= most:  # NaN is refused here too
                raise ValueError(
                    f"{name} {shown(value)} must be at least {least} and at most {most:,}"
                )


def require_share(settings: object, *names: str) -> None:
    """Refuse what is not from 0 to 1."""
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name} {shown(getattr(settings, name))} must be between 0 and 1")


def require_positive(settings: object, most: float, *names: str) -> None:
    """Refuse what is not above 0, or above ``most``."""
    for name in names:
        value = getattr(settings, name)
        if not (0 < value <= most and math.isfinite(value)):
            raise ValueError(f"{name} {shown(value)} must be above 0 and at most {most:g}")
