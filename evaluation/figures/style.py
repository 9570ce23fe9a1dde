"""How figures look: one colour per arm everywhere, readable in print and by colour-blind readers.

Colours are those of Okabe and Ito (2008) that stand out on white; arms differ in line style and
marker as well, so that a figure survives a black-and-white printer.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from mot_lab.runtime.files import atomic_file

BLACK, BLUE, ORANGE, GREEN = "#222222", "#0072B2", "#E69F00", "#009E73"
PURPLE, VERMILION, SKY = "#CC79A7", "#D55E00", "#56B4E9"
LINES = ("-", "--", ":", "-.")
MARKERS = {  # of every colour one marker per line style
    BLACK: "oH8",
    BLUE: "sdp_",
    ORANGE: "^<>",
    GREEN: "Dp*2",
    PURPLE: "vh13",
    VERMILION: "P+d.",
    SKY: "X*4|",
}

SETTINGS = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.titlesize": 13,
    "pdf.fonttype": 42,  # letters stay letters: a paper's figure can be searched and edited
    "svg.hashsalt": "mot-lab",  # the same identifiers, so the same bytes, every time
}


@dataclass(frozen=True)
class ArmStyle:
    """Colour (hex), line style and marker of one arm."""

    color: str
    line: str

    @property
    def marker(self) -> str:
        """One marker per colour and line style."""
        return MARKERS[self.color][LINES.index(self.line)]


KNOWN = {
    "dense": ArmStyle(BLACK, "-"),
    "mot": ArmStyle(BLUE, "-"),
    "moe_4x": ArmStyle(ORANGE, "-"),
    "moe_3x": ArmStyle(ORANGE, "--"),
    "moe_2x": ArmStyle(ORANGE, ":"),
    "mot_text_moe_4x": ArmStyle(GREEN, "-"),
    "untie_ffn": ArmStyle(SKY, "-"),
    "untie_ffn_qkv": ArmStyle(PURPLE, "-"),
    "untie_ffn_qkv_shared_o": ArmStyle(PURPLE, "--"),
    "loo_text": ArmStyle(VERMILION, "-"),
    "loo_image": ArmStyle(GREEN, "--"),
    "loo_speech": ArmStyle(SKY, "--"),
}
FREE = [
    ArmStyle(color, line)
    for line in LINES
    for color in (VERMILION, SKY, PURPLE, GREEN, BLUE)
    if ArmStyle(color, line) not in KNOWN.values()
]


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """The style of each arm: fixed for the known ones, from the name's hash for any other.

    Unknown arms whose names meet in one colour are set apart in alphabetical order, by colour while
    there are any left and then by line, so that a study's figures all agree, whatever order the
    arms come in. Arms beyond the styles that there are share them.

    Example:
        >>> arm_styles(["mot"])["mot"].color
        '#0072B2'
    """
    taken: dict[str, ArmStyle] = {}
    for arm in sorted(set(arms) - set(KNOWN)):
        slot = zlib.crc32(arm.encode()) % len(FREE)
        turned = FREE[slot:] + FREE[:slot]
        left = [style for style in turned if style not in taken.values()] or turned
        colors = {style.color for style in taken.values()}
        taken[arm] = next((style for style in left if style.color not in colors), left[0])
    return {arm: KNOWN.get(arm) or taken[arm] for arm in arms}


@contextmanager
def drawing() -> Iterator[None]:
    """The settings under which every figure is drawn and saved; the caller's are left alone."""
    with matplotlib.style.context(["default", SETTINGS]):
        yield


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure as the suffix says (.png, .svg, .pdf), without the date of writing."""
    dateless = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    with drawing(), atomic_file(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=dateless)
    figure.set_layout_engine("none")  # settled now: every further format looks the same
    return path
