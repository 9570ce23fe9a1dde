"""Answers of a trained model, printed or saved as pictures (``mot-lab generate``)."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mot_lab.data.documents import TextSegment
from mot_lab.generate import generate_captions, generate_images, generate_text
from mot_lab.trained import Trained


def draw(trained: Trained, captions: list[str], out: Path, steps: int, seed: int) -> None:
    """Save a picture for each caption as ``out/<number>.png``."""
    data = trained.data
    prompts = [np.array(data.texts.encode(caption)) for caption in captions]
    net = trained.module.net
    latents_NCHW = generate_images(net, prompts, data.layout, seed, steps, "drawing")
    out.mkdir(parents=True, exist_ok=True)
    for number, image_HWC in enumerate(data.images.decode(latents_NCHW)):
        path = out / f"{number}.png"
        Image.fromarray(image_HWC).save(path)
        print(f"{path}  {captions[number]}")


def answer_pictures(trained: Trained, paths: list[Path], max_tokens: int) -> None:
    """Print a caption for each picture; pictures are resized to the canvas of training.

    Raises:
        ValueError: a file that is missing or no picture.
    """
    canvas = trained.data.config.scenes.canvas
    pixels_NHWC = np.stack([_read(path, canvas) for path in paths])
    latents_NCHW = trained.data.images.encode(pixels_NHWC)
    net, layout = trained.module.net, trained.data.layout
    for path, ids in zip(
        paths, generate_captions(net, latents_NCHW, layout, max_tokens), strict=True
    ):
        print(f"{path}  {trained.data.texts.decode(ids)}")


def answer_text(
    trained: Trained, texts: list[str], max_tokens: int, temperature: float, seed: int
) -> None:
    """Print each text with what the model goes on with."""
    data = trained.data
    prompts = [(TextSegment(np.array(data.texts.encode(text))),) for text in texts]
    answers = generate_text(trained.module.net, prompts, data.layout, max_tokens, temperature, seed)
    for text, ids in zip(texts, answers, strict=True):
        print(f"{text}{data.texts.decode(ids)}")


def _read(path: Path, canvas: int) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB").resize((canvas, canvas)))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{path} is no readable picture: {error}") from None
