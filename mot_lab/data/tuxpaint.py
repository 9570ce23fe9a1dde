"""Tux Paint's stamps: pictures, captions in many languages, and people who speak them.

Debian's package ``tuxpaint-stamps-default`` (GPL-2+, 161 MB) is fetched and unpacked by whoever
wants it, never by this code:

    apt-get download tuxpaint-stamps-default
    dpkg-deb -x tuxpaint-stamps-default_*.deb tuxpaint

Of a stamp X there are ``X.png`` or ``X.svg``, ``X.txt`` (the English caption on the first line,
then lines like ``fr.utf8=Un écureuil.``), and recordings ``X_desc_fr.ogg``; ``X_desc.ogg`` is
English, ``X.ogg`` an effect.
"""

import glob
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mot_lab.data.recordings import SpokenCaption, split_of
from mot_lab.tokens.speech_features import speech_extra

ENGLISH = "en"
LETTERS = "alphabets"  # the folder of letters and digits, of which there are 158


@dataclass(frozen=True)
class Stamp:
    """One stamp.

    Attributes:
        picture: PNG, or SVG where there is no PNG.
        captions: by language.
        recordings: by language.
        letter: whether it is a letter or a digit.
    """

    picture: Path
    captions: dict[str, str]
    recordings: dict[str, Path]
    letter: bool


@dataclass(frozen=True)
class LanguageCount:
    """What there is in a language.

    Attributes:
        recordings: with a caption in the language.
        letters: those of them that speak a letter or a digit.
        captions: different ones.
        minutes: of sound.
        without_caption: recordings of a stamp that has no caption in the language.
    """

    recordings: int
    letters: int
    captions: int
    minutes: float
    without_caption: int


def read_stamps(folder: str | Path) -> list[Stamp]:
    """Every stamp with a picture below a folder, ordered by path.

    Raises:
        ValueError: no stamps there.
    """
    stamps = [
        stamp for path in sorted(Path(folder).rglob("*.txt")) if (stamp := _stamp(path)) is not None
    ]
    if not stamps:
        raise ValueError(
            f"no stamps below {str(folder)!r}: give the folder that tuxpaint-stamps-default was "
            f"unpacked to (dpkg-deb -x)"
        )
    return stamps


def spoken_captions(stamps: list[Stamp], language: str) -> list[SpokenCaption]:
    """Recordings in a language with their captions and pictures, in splits by caption.

    Raises:
        ValueError: there are none; with the languages that there are.
    """
    found = [
        SpokenCaption(
            stamp.recordings[language],
            stamp.captions[language],
            stamp.picture,
            split=split_of(stamp.captions[language]),
        )
        for stamp in stamps
        if language in stamp.recordings and language in stamp.captions
    ]
    if not found:
        spoken = sorted({each for stamp in stamps for each in stamp.recordings})
        raise ValueError(f"nothing is spoken in {language!r}, only in {', '.join(spoken)}")
    return found


def count_languages(stamps: list[Stamp]) -> dict[str, LanguageCount]:
    """What there is in every language that is spoken, most recordings first."""
    with speech_extra():
        import soundfile
    spoken = Counter(language for stamp in stamps for language in stamp.recordings)
    counts = {}
    for language, total in spoken.most_common():
        both = [
            stamp for stamp in stamps if language in stamp.recordings and language in stamp.captions
        ]
        seconds = sum(soundfile.info(stamp.recordings[language]).duration for stamp in both)
        counts[language] = LanguageCount(
            len(both),
            sum(stamp.letter for stamp in both),
            len({stamp.captions[language] for stamp in both}),
            seconds / 60,
            total - len(both),
        )
    return counts


def _stamp(path: Path) -> Stamp | None:
    pictures = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    picture = next((each for each in pictures if each.is_file()), None)
    if picture is None:
        return None
    return Stamp(
        picture,
        dict(_captions(path)),
        dict(_recordings(path)),
        LETTERS in path.parts,
    )


def _captions(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        language, found, text = line.partition(".utf8=")
        if number == 0:
            language, text = ENGLISH, line
        elif not found:
            continue
        if text.strip():
            yield language, text.strip()


def _recordings(path: Path) -> Iterator[tuple[str, Path]]:
    pattern = re.compile(re.escape(path.stem) + r"_desc(?:_(\w+))?\.ogg")
    for file in sorted(path.parent.glob(f"{glob.escape(path.stem)}_desc*.ogg")):
        if named := pattern.fullmatch(file.name):
            yield named.group(1) or ENGLISH, file
