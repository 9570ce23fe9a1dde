"""What a trained model makes of held-out prompts, scored: pictures, captions, transcripts, speech.

Every arm and seed answers the same prompts; what a prompt becomes is a function of the prompt's
number and one seed. The first few answers of every kind are kept to be shown.

Shapes: N pictures of H x W pixels.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.io import wavfile

from evaluation.metric import Metric, not_available
from evaluation.metrics.shuffle import derangement
from evaluation.metrics.suite import Evaluators, score_captions, score_images
from evaluation.metrics.word_error_rate import word_error_rate, word_errors
from mot_lab.config import EvaluationConfig
from mot_lab.data.documents import CodeSegment, TextSegment
from mot_lab.data.prepare import PreparedData
from mot_lab.data.scene_data import SceneData
from mot_lab.data.speech_pool import SpeechPool
from mot_lab.generation.generate import generate
from mot_lab.generation.prompts import Prompt
from mot_lab.generation.sampling import Sampling
from mot_lab.generation.tasks import generate_captions, generate_images, generate_texts
from mot_lab.model import MultimodalModel
from mot_lab.runtime.files import atomic_file
from mot_lab.tokens.speech import SpeechTokenizer
from mot_lab.tokens.vq import VQTokenizer

PROMPT_SEED = 0
SPEECH = "speech"


def picture_samples(
    data: PreparedData, config: EvaluationConfig, folder: Path
) -> list[dict[str, Any]]:
    """The first prompts with their references and real pictures, as the report shows them."""
    pairs = data.pairs("test")
    if pairs is None or not config.shown:
        return []
    return [
        {
            "prompt": pairs.prompt(i),
            "references": pairs.references(i),
            "reference": _save_picture(real_HWC, folder, f"samples/{i}_real.png"),
        }
        for i, real_HWC in enumerate(pairs.pictures(0, config.shown))
    ]


def picture_answers(
    net: MultimodalModel,
    data: PreparedData,
    config: EvaluationConfig,
    evaluators: Evaluators,
    folder: Path,
) -> tuple[list[Metric], list[dict[str, Any]]]:
    """Pictures drawn for captions and captions written for pictures, scored, and the first few."""
    pairs = data.pairs("test")
    assert pairs is not None, "only asked where there are some"
    prompts = [pairs.prompt(i) for i in range(config.images)]
    tokens = [np.array(data.texts.encode(prompt)) for prompt in prompts]
    encoded = generate_images(net, tokens, data.layout, PROMPT_SEED, config.sample_steps)
    if isinstance(data.images, VQTokenizer):
        generated_NHWC = data.images.decode(encoded.numpy())
    else:
        generated_NHWC = data.images.decode(encoded)
    # Frechet distances are taken to other real pictures of the same split.
    real_NHWC = pairs.pictures(0, config.images)
    reference_MHWC = pairs.pictures(config.images, config.images)
    scenes, source = None, None
    if isinstance(data, SceneData):
        source = data.source
        scenes = [source.scene("test", data.config.seed, i) for i in range(config.images)]
    metrics = score_images(
        generated_NHWC, prompts, real_NHWC, reference_MHWC, evaluators, scenes, source
    )
    real = torch.from_numpy(pairs.encoded(config.images))
    ids = generate_captions(net, real, data.layout, pairs.longest_caption + 1)
    captions = [data.texts.decode(each) for each in ids]
    metrics += score_captions(captions, [pairs.references(i) for i in range(config.images)])
    samples = picture_samples(data, config, folder)
    for i, sample in enumerate(samples):
        sample["generated"] = _save_picture(generated_NHWC[i], folder, f"samples/{i}.png")
        sample["caption"] = captions[i]
    return metrics, samples


def speech_samples(
    data: PreparedData, config: EvaluationConfig, folder: Path
) -> list[dict[str, Any]]:
    """The first transcripts with their recordings, as their units sound."""
    pool, tokenizer = _speech(data)
    return [
        {
            "text": pool.wave_text(i),
            "recording": _save_sound(tokenizer, pool.units(i), folder, f"samples/{i}_said.wav"),
        }
        for i in range(min(config.shown, len(pool)))
    ]


def speech_answers(
    net: MultimodalModel, data: PreparedData, config: EvaluationConfig, folder: Path
) -> tuple[list[Metric], list[dict[str, Any]]]:
    """Transcripts written for recordings, scored, and the first few with captions spoken."""
    pool, tokenizer = _speech(data)
    number = min(config.images, len(pool))
    said = [pool.wave_text(i) for i in range(number)]
    recordings = [(CodeSegment(SPEECH, pool.units(i)),) for i in range(number)]
    longest = max(len(pool.text(i)) for i in range(number)) + 1
    heard = [
        data.texts.decode(ids) for ids in generate_texts(net, recordings, data.layout, longest)
    ]
    metrics = [transcript_errors(heard, said)]
    samples = speech_samples(data, config, folder)
    asked = [Prompt((TextSegment(pool.text(i)),), SPEECH) for i in range(len(samples))]
    sampling = Sampling(temperature=1.0, max_codes=pool.longest, seed=PROMPT_SEED)
    for i, answer in enumerate(generate(net, data.layout, asked, sampling)):
        units = [each.codes for each in answer if isinstance(each, CodeSegment)]
        samples[i]["heard"] = heard[i]
        if units and len(units[0]):
            samples[i]["spoken"] = _save_sound(tokenizer, units[0], folder, f"samples/{i}.wav")
    return metrics, samples


def transcript_errors(heard: Sequence[str], said: Sequence[str]) -> Metric:
    """Word error rate of generated transcripts, case and punctuation aside.

    Args:
        heard: what the model wrote for each recording.
        said: its transcript.
    """
    written, spoken = [words(each) for each in heard], [words(each) for each in said]
    others = [spoken[place] for place in derangement(len(spoken), PROMPT_SEED)]
    floor = word_errors(others, spoken).sum() / sum(len(each.split()) for each in spoken)
    return word_error_rate(
        written, spoken, "transcripts of recordings by the model itself", 0.0, float(floor)
    )


def words(text: str) -> str:
    """A transcript in one form: small letters, no punctuation, single blanks.

    Example:
        >>> words("Top left: a fish, ground:  pink.")
        'top left a fish ground pink'
    """
    return " ".join(re.sub(r"[^\w\s']", " ", text.lower()).split())


def unavailable(evaluators: Evaluators, data: PreparedData, reason: str) -> list[Metric]:
    """What would have been measured, had the model been able to answer."""
    metrics = pictures_unavailable(evaluators, data, reason)
    if speaks(data):
        recogniser = "transcripts of recordings by the model itself"
        metrics.append(not_available("word error rate", recogniser, reason))
    return metrics


def pictures_unavailable(evaluators: Evaluators, data: PreparedData, reason: str) -> list[Metric]:
    """What would have been measured of pictures and captions."""
    named = [(each.distance, each.name) for each in evaluators.extractors]
    named += [("CLIP score", each.name) for each in evaluators.clips]
    if isinstance(data, SceneData):
        read = ("objects", "relations", "ground", "scenes")
        named += [(f"{what} right", "exact scene checker") for what in read]
    named.append(("CIDEr", "pycocoevalcap CIDEr"))
    return [not_available(name, extractor, reason) for name, extractor in named]


def speaks(data: PreparedData) -> bool:
    """Whether there are held-out recordings with transcripts, and what makes sound of units."""
    return data.speech is not None and data.speech_pool("test") is not None


def _speech(data: PreparedData) -> tuple[SpeechPool, SpeechTokenizer]:
    pool = data.speech_pool("test")
    assert pool is not None and data.speech is not None, "only asked where there is speech"
    return pool, data.speech


def _save_picture(image_HWC: np.ndarray, folder: Path, name: str) -> str:
    with atomic_file(folder / name) as file:
        Image.fromarray(image_HWC).save(file, "PNG")
    return name


def _save_sound(tokenizer: SpeechTokenizer, units: np.ndarray, folder: Path, name: str) -> str:
    wave, rate = tokenizer.decode(units)
    loudest = max(float(np.abs(wave).max()), 1e-6)
    with atomic_file(folder / name) as file:
        wavfile.write(file, rate, (32767 * 0.9 * wave / loudest).astype(np.int16))
    return name
