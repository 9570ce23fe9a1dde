"""CIDEr of generated captions: pycocoevalcap's scorer on Penn-Treebank tokens.

CIDEr weighs words by how rare they are among the references it is given. With few pictures, or
captions as alike as those of generated scenes, its scale is not COCO's: read it between its floor
and its ceiling, at its n.
"""

from collections.abc import Sequence

import numpy as np
from pycocoevalcap.cider.cider import Cider

from evaluation.bootstrap import mean_draws
from evaluation.metric import Metric
from evaluation.metrics.caption_tokens import TOKENIZERS, CaptionWords, TokenizerName, caption_words
from evaluation.metrics.shuffle import derangement


def cider(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: TokenizerName | None = None,
    seed: int = 0,
) -> Metric:
    """CIDEr of one caption per picture; arguments and errors as ``caption_words``.

    Args:
        seed: of the shuffle and of the interval over pictures (document frequencies held fixed).
    """
    return cider_of_words(caption_words(candidates, references, tokenizer), seed)


def cider_of_words(words: CaptionWords, seed: int = 0) -> Metric:
    """CIDEr of captions already split into words.

    The ceiling scores real captions: of each picture one reference (another one from picture to
    picture) against the others, where every picture has two or more. The floor scores real captions
    of other pictures.
    """
    scores_N = cider_scores(words)
    held_out = [real[place % len(real)] for place, real in enumerate(words.references)]
    other = [held_out[place] for place in derangement(len(held_out), seed)]
    ceiling, note = None, "no ceiling: some pictures have a single reference"
    if min(map(len, words.references)) > 1:
        rest = [
            [*real[: place % len(real)], *real[place % len(real) + 1 :]]
            for place, real in enumerate(words.references)
        ]
        scores = cider_scores(CaptionWords(held_out, rest, words.tokenizer))
        ceiling, note = float(scores.mean()), ""
    floor = cider_scores(CaptionWords(other, words.references, words.tokenizer))
    return Metric.sampled(
        name="CIDEr",
        value=float(scores_N.mean()),
        draws=mean_draws(scores_N, seed=seed),
        n=len(scores_N),
        extractor=f"pycocoevalcap CIDEr, {TOKENIZERS[words.tokenizer]}",
        ceiling=ceiling,
        floor=float(floor.mean()),
        note=note,
    )


def cider_scores(words: CaptionWords) -> np.ndarray:
    """CIDEr of each picture, float64 [N]; their mean is the set's CIDEr."""
    return Cider().compute_score(*words.by_picture())[1]
