"""Files and words as prompts, answers as lines and files (``mot-lab generate``).

Shapes: H x W pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.io import wavfile

from mot_lab.data.documents import (
    CodeSegment,
    ImageSegment,
    Segment,
    TextSegment,
    picture_segment,
)
from mot_lab.data.interface import TEXT
from mot_lab.data.prepare import PreparedData
from mot_lab.data.recordings import read_picture, read_recording
from mot_lab.generation.generate import Answer, generate
from mot_lab.generation.prompts import Prompt
from mot_lab.generation.sampling import Sampling
from mot_lab.runtime.files import atomic_file
from mot_lab.tokens.speech import SpeechTokenizer
from mot_lab.tokens.vq import VQTokenizer
from mot_lab.trained import Trained

IMAGE, SPEECH = "image", "speech"
Part = tuple[str, str]  # kind (text, image or speech) and its words or file


def answer_prompts(
    trained: Trained, prompts: Sequence[Sequence[Part]], want: str, sampling: Sampling, out: Path
) -> None:
    """Print a line for each prompt: its text and what the model goes on with, files in brackets.

    Args:
        trained: of any setting and arm.
        prompts: parts in reading order; pictures are fitted into the canvas of training.
        want: see `Prompt`.
        sampling: how answers are drawn.
        out: folder of pictures (``<number of the prompt>.png``) and sound (``.wav``).

    Raises:
        ValueError: a file that cannot be read, or a modality that the model does not have.
    """
    data = trained.data
    asked = [Prompt(tuple(_segment(part, data) for part in parts), want) for parts in prompts]
    answers = generate(trained.module.net, data.layout, asked, sampling)
    for number, (parts, answer) in enumerate(zip(prompts, answers, strict=True)):
        words = "".join(value if kind == TEXT else f"[{value}]" for kind, value in parts)
        print(words + "".join(_written(answer, number, data, out)))


def _segment(part: Part, data: PreparedData) -> Segment:
    kind, value = part
    if kind == TEXT:
        return TextSegment(np.array(data.texts.encode(value), np.int64))
    if kind == IMAGE:
        pixels_HWC = read_picture(Path(value), data.config.scenes.canvas)
        return picture_segment(IMAGE, np.asarray(data.images.encode(pixels_HWC[None].copy()))[0])
    recording = read_recording(Path(value))
    (units,) = _speech(data).encode([recording.wave_n], recording.rate, [recording.name])
    return CodeSegment(SPEECH, units)


def _written(answer: Answer, number: int, data: PreparedData, out: Path) -> list[str]:
    """Text as it is; pictures and sound are saved, and named in brackets."""
    words = []
    files = 0
    for segment in answer:
        if isinstance(segment, TextSegment):
            words.append(data.texts.decode(segment.ids.tolist()))
            continue
        stem = f"{number}_{files}" if files else str(number)
        words.append(f"[{_save(segment, out / stem, data)}]")
        files += 1
    return words


def _save(segment: ImageSegment | CodeSegment, stem: Path, data: PreparedData) -> Path:
    if isinstance(segment, CodeSegment) and segment.modality == SPEECH:
        wave_n, rate = _speech(data).decode(segment.codes)
        path = stem.with_suffix(".wav")
        with atomic_file(path) as file:
            wavfile.write(file, rate, (32767 * wave_n).astype(np.int16))
        return path
    path = stem.with_suffix(".png")
    with atomic_file(path) as file:
        Image.fromarray(_pixels(segment, data)).save(file, "PNG")
    return path


def _pixels(segment: ImageSegment | CodeSegment, data: PreparedData) -> np.ndarray:
    """uint8 [H, W, 3]."""
    name = segment.modality if isinstance(segment, CodeSegment) else data.layout.diffused
    tokenizer = data.images if name == IMAGE else data.styles[name or ""]
    if isinstance(tokenizer, VQTokenizer):
        assert isinstance(segment, CodeSegment)
        return tokenizer.decode(segment.codes[None])[0]
    assert isinstance(segment, ImageSegment)
    return tokenizer.decode(torch.from_numpy(segment.latents_CHW)[None])[0]


def _speech(data: PreparedData) -> SpeechTokenizer:
    if data.speech is None:
        raise ValueError("the model was trained without speech: give text and pictures")
    return data.speech
