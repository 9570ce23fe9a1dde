"""Spoken captions: espeak-ng, from the wheel ``espeakng-loader``, through ctypes.

The library is GPL-3. It is an optional extra, loaded only where recordings are prepared.
"""

import _ctypes
import ctypes
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from mot_lab.parsing import shown
from mot_lab.tokens.speech_features import speech_extra

RATE = 22_050
# Of speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakRATE, espeakPITCH, POS_CHARACTER and
# espeakCHARS_UTF8.
SYNCHRONOUS, SPEED, PITCH, CHARACTERS, UTF8 = 2, 1, 3, 1, 1
SEED = 1
SPEED_RANGE, PITCH_RANGE = (80, 450), (0, 99)

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
# The library keeps its state in global variables: one sentence is spoken at a time.
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Speaker:
    """One way of speaking.

    Attributes:
        voice: a language of espeak-ng and, behind "+", one of its variants: "en-us+f2".
        speed: words a minute, 80 to 450.
        pitch: 0 to 99.
    """

    voice: str
    speed: int
    pitch: int


def speakers(voices: Sequence[str], speeds: Sequence[int], pitches: Sequence[int]) -> list[Speaker]:
    """Every combination.

    Raises:
        ValueError: a list is empty, or a speed or pitch is out of range.
    """
    for name, values in (("voices", voices), ("speeds", speeds), ("pitches", pitches)):
        if not values:
            raise ValueError(f"{name} is empty: give at least one")
    for name, numbers, (low, high) in (
        ("speeds", speeds, SPEED_RANGE),
        ("pitches", pitches, PITCH_RANGE),
    ):
        for number in numbers:
            if not low <= number <= high:
                raise ValueError(f"{name} has {shown(number)}, must be from {low} to {high}")
    return [Speaker(v, speed, pitch) for v in voices for speed in speeds for pitch in pitches]


def require_voices(voices: Sequence[str]) -> None:
    """Refuse voices that the installed espeak-ng lacks.

    Raises:
        ValueError: naming the voice, or the package where it is absent.
    """
    variants = {path.name for path in (_data_folder() / "voices" / "!v").iterdir()}
    for voice in voices:
        _, _, variant = voice.partition("+")
        if variant and variant not in variants:
            raise ValueError(
                f"voice {voice!r}: espeak-ng has no variant {variant!r}, only "
                f"{', '.join(sorted(variants))}"
            )
        speak("a", Speaker(voice, 160, 50))


def speak(text: str, speaker: Speaker) -> np.ndarray:
    """The sound of a text at 22,050 samples a second, float32 [n].

    The same text and speaker give the same samples, whatever was spoken before and in whichever
    process: tremor, breath and random numbers go on from sentence to sentence inside the library
    and survive its re-initialisation, so it is loaded afresh for each one (4 ms).

    Raises:
        ValueError: the package or the voice is absent, or nothing can be said.
    """
    path = _loader().get_library_path()
    with _LOCK:
        library = ctypes.CDLL(path)
        try:
            samples = _speak(library, text, speaker)
        finally:
            library.espeak_Terminate()
            _unload(library)
    if not samples.any():
        raise ValueError(f"espeak-ng says nothing for {text!r}: give it words")
    return samples.astype(np.float32) / 32768


def _speak(library: ctypes.CDLL, text: str, speaker: Speaker) -> np.ndarray:
    chunks: list[np.ndarray] = []

    @_CALLBACK
    def keep(samples, count, _events):  # type: ignore[no-untyped-def]
        if count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    data = str(_data_folder()).encode()
    if library.espeak_Initialize(SYNCHRONOUS, 0, data, 0) != RATE:
        raise ValueError(f"espeak-ng does not start with its data at {_data_folder()}")
    library.espeak_ng_SetRandSeed(ctypes.c_long(SEED))
    library.espeak_SetSynthCallback(keep)
    if library.espeak_SetVoiceByName(speaker.voice.encode()):
        raise ValueError(f"espeak-ng has no voice {speaker.voice!r}, like en-us or en-gb-x-rp+f2")
    library.espeak_SetParameter(SPEED, speaker.speed, 0)
    library.espeak_SetParameter(PITCH, speaker.pitch, 0)
    words = text.encode() + b"\0"
    library.espeak_Synth(words, len(words), 0, CHARACTERS, 0, UTF8, None, None)
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16)


def _unload(library: ctypes.CDLL) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)


def _loader() -> ModuleType:
    with speech_extra():
        import espeakng_loader
    return espeakng_loader


def _data_folder() -> Path:
    return Path(_loader().get_data_path())
