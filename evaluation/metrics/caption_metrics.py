"""BLEU, METEOR and SPICE of generated captions, by pycocoevalcap's scorers.

METEOR needs Java and the archive that comes with the package, SPICE also Stanford's models, which
``python -m pycocoevalcap.spice.get_stanford_models`` fetches. Where a part is missing the metric
says so instead of a figure.

Tensor legend: N pictures, D draws, K n-gram orders.
"""

import contextlib
import subprocess
from pathlib import Path

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.meteor import meteor as meteor_package
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.spice import spice as spice_package
from pycocoevalcap.spice.spice import Spice

from evaluation.bootstrap import mean_draws
from evaluation.metric import Metric, not_available
from evaluation.metrics.caption_tokens import TOKENIZERS, CaptionWords, java_runs
from evaluation.metrics.cider import cider_of_words

ORDERS = 4
SPICE_MODELS = "lib/stanford-corenlp-3.6.0-models.jar"
TINY, SMALL = 1e-15, 1e-9  # pycocoevalcap's, against division by zero
NO_JAVA = "Java does not run here: install a Java runtime"


def caption_metrics(words: CaptionWords, seed: int = 0) -> list[Metric]:
    """CIDEr, BLEU-1 to BLEU-4, METEOR and SPICE of one caption per picture."""
    return [
        cider_of_words(words, seed),
        *bleu(words, seed),
        meteor(words, seed),
        spice(words, seed),
    ]


def bleu(words: CaptionWords, seed: int = 0) -> list[Metric]:
    """BLEU-1 to BLEU-4 of the whole set, with the reference length closest to each caption's.

    A draw takes the n-gram counts and lengths of resampled pictures.
    """
    values = Bleu(ORDERS).compute_score(*words.by_picture(), verbose=0)[0]
    draws_KD = _bleu_draws(words, seed)
    return [
        Metric.sampled(
            name=f"BLEU-{order + 1}",
            value=float(values[order]),
            draws=draws_KD[order],
            n=len(words.candidates),
            extractor=f"pycocoevalcap BLEU, {TOKENIZERS[words.tokenizer]}",
            ceiling=None,
            floor=None,
            note="of the whole set, closest reference length; higher is better",
        )
        for order in range(ORDERS)
    ]


def _bleu_draws(words: CaptionWords, seed: int) -> np.ndarray:
    """Float64 [K, D]; at the positions of all pictures in order it would be the value itself."""
    scorer = BleuScorer(n=ORDERS)
    for caption, references in zip(words.candidates, words.references, strict=True):
        scorer += (caption, references)
    lengths = [[each["testlen"], _closest(each)] for each in scorer.ctest]
    counts = np.hstack([lengths, *([c[key] for c in scorer.ctest] for key in ("guess", "correct"))])
    sums = len(counts) * np.stack([mean_draws(column, seed=seed) for column in counts.T])
    return bleu_of_counts(sums[0], sums[1], sums[2 : 2 + ORDERS], sums[2 + ORDERS :])


def bleu_of_counts(
    length_D: np.ndarray, reference_D: np.ndarray, guessed_KD: np.ndarray, right_KD: np.ndarray
) -> np.ndarray:
    """BLEU-1 to BLEU-K from total lengths and n-gram counts (Papineni et al., 2002), [K, D]."""
    precision_KD = (right_KD + TINY) / (guessed_KD + SMALL)
    orders_K1 = np.arange(1, len(right_KD) + 1)[:, None]
    ratio_D = (length_D + TINY) / (reference_D + SMALL)
    return np.cumprod(precision_KD, axis=0) ** (1 / orders_K1) * np.exp(
        np.minimum(1 - 1 / ratio_D, 0)
    )


def _closest(counts: dict) -> int:
    """Length of the reference closest to the caption's, the shorter of two."""
    return min((abs(length - counts["testlen"]), length) for length in counts["reflen"])[1]


def meteor(words: CaptionWords, seed: int = 0) -> Metric:
    """METEOR 1.5 of the whole set.

    A draw has METEOR's archive score the summed statistics of resampled pictures.
    """
    extractor = f"pycocoevalcap METEOR 1.5, {TOKENIZERS[words.tokenizer]}"
    jar = Path(meteor_package.__file__).parent / meteor_package.METEOR_JAR
    if not java_runs():
        return not_available("METEOR", extractor, NO_JAVA)
    if not jar.is_file():
        return not_available("METEOR", extractor, f"{jar.name} is missing: reinstall pycocoevalcap")
    try:
        value, draws = _meteor_and_draws(words, seed)
    except (OSError, ValueError) as error:
        return not_available("METEOR", extractor, f"its Java program failed ({error})")
    note = "of the whole set; higher is better"
    return Metric.sampled(
        "METEOR", value, draws, len(words.candidates), extractor, None, None, note
    )


def _meteor_and_draws(words: CaptionWords, seed: int) -> tuple[float, np.ndarray]:
    scorer = Meteor()
    try:
        lines = [
            scorer._stat(caption, [each.replace("|||", "") for each in references])
            for caption, references in zip(words.candidates, words.references, strict=True)
        ]
        statistics = np.array([[float(figure) for figure in line.split()] for line in lines])
        sums = len(lines) * np.stack([mean_draws(s, seed=seed) for s in statistics.T], axis=1)
        return (
            _meteor_of_sums(scorer, statistics.sum(axis=0)),
            np.array([_meteor_of_sums(scorer, each) for each in sums]),
        )
    finally:
        with contextlib.suppress(OSError):  # of a program that has died
            scorer.meteor_p.stdin.close()


def _meteor_of_sums(scorer: Meteor, statistics: np.ndarray) -> float:
    """The score of a set from its summed statistics: METEOR sums them over pictures itself."""
    line = " ".join(f"{figure:.1f}" for figure in statistics)
    scorer.meteor_p.stdin.write(f"EVAL ||| {line}\n".encode())
    scorer.meteor_p.stdin.flush()
    scorer.meteor_p.stdout.readline()  # of the one part; the next is of the set
    return float(scorer.meteor_p.stdout.readline())


def spice(words: CaptionWords, seed: int = 0) -> Metric:
    """SPICE: the mean F score over pictures of the facts that captions and references state."""
    extractor = f"pycocoevalcap SPICE 1.0, {TOKENIZERS[words.tokenizer]}"
    if not java_runs():
        return not_available("SPICE", extractor, NO_JAVA)
    if not (Path(spice_package.__file__).parent / SPICE_MODELS).is_file():
        why = (
            "Stanford's models are not installed: "
            "python -m pycocoevalcap.spice.get_stanford_models fetches them"
        )
        return not_available("SPICE", extractor, why)
    try:
        scores = Spice().compute_score(*words.by_picture())[1]
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        return not_available("SPICE", extractor, f"its Java program failed ({error})")
    scores_N = np.array([score["All"]["f"] for score in scores])
    stated = scores_N[np.isfinite(scores_N)]  # captions and references may state no facts at all
    note = f"over the {len(stated)} of {len(scores_N)} pictures with facts; higher is better"
    if not len(stated):
        return not_available("SPICE", extractor, "no caption or reference states a fact")
    return Metric.sampled(
        name="SPICE",
        value=float(stated.mean()),
        draws=mean_draws(stated, seed=seed),
        n=len(stated),
        extractor=extractor,
        ceiling=None,
        floor=None,
        note=note,
    )
