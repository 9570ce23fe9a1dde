"""Word error rate of transcripts: torchmetrics' counts, with an interval over utterances.

    WER = (substitutions + deletions + insertions) / words of the references

over the whole set. It may exceed 1.
"""

from collections.abc import Sequence

import numpy as np
from torchmetrics.text import WordErrorRate

from evaluation.bootstrap import ratio_draws
from evaluation.metric import Metric


def word_error_rate(
    transcripts: Sequence[str],
    references: Sequence[str],
    extractor: str,
    ceiling: float | None = None,
    floor: float | None = None,
    seed: int = 0,
) -> Metric:
    """Equals ``torchmetrics.text.WordErrorRate``.

    Words are what spaces part, compared as they are: bring case and punctuation to one form first.

    Args:
        transcripts: what was recognised in each of N utterances, possibly nothing.
        references: what was said. In an empty one each transcribed word is an error; the note
            counts them.
        extractor: what transcribed.
        ceiling, floor: the rate of real recordings, and of shuffled transcripts, where known.
        seed: of the interval over utterances, errors and words resampled together.

    Raises:
        ValueError: not one transcript per reference, or no words in any reference.
    """
    if len(transcripts) != len(references):
        raise ValueError(
            f"{len(transcripts)} transcripts and {len(references)} references: give one each, "
            "empty where nothing was recognised"
        )
    words_N = np.array([len(reference.split()) for reference in references], dtype=float)
    if not words_N.sum():
        raise ValueError(
            f"the {len(references)} references hold no words: there is nothing to be wrong about"
        )
    errors_N = word_errors(transcripts, references)
    empty = words_N == 0
    note = f"n counts words; interval over {len(references)} utterances; lower is better"
    if empty.any():
        note += (
            f"; {int(empty.sum())} empty references, "
            f"whose {int(errors_N[empty].sum())} transcribed words are errors"
        )
    return Metric.sampled(
        name="word error rate",
        value=float(errors_N.sum() / words_N.sum()),
        draws=ratio_draws(errors_N, words_N, seed=seed),
        n=int(words_N.sum()),
        extractor=extractor,
        ceiling=ceiling,
        floor=floor,
        note=note,
    )


def word_errors(transcripts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Substitutions, deletions and insertions of each utterance, float64 [N]."""
    counter, errors = WordErrorRate(), []
    for transcript, reference in zip(transcripts, references, strict=True):
        counter.reset()
        counter.update([transcript], [reference])
        errors.append(float(counter.errors))
    return np.array(errors)
