"""Perplexity from summed negative log-likelihoods.

Tensor legend: S documents, T tokens, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np

from evaluation.bootstrap import ratio_draws
from evaluation.metric import Metric

LARGEST_MEAN_NLL = 500.0  # nats; far above any vocabulary, and its exponential still fits a float


def perplexity(
    nll_S: Sequence[float] | np.ndarray,
    tokens_S: Sequence[int] | np.ndarray,
    extractor: str,
    name: str = "perplexity",
    ceiling: float | None = None,
    floor: float | None = None,
    seed: int = 0,
) -> Metric:
    """exp(total negative log-likelihood / total tokens), with an interval over documents.

    Equals ``torchmetrics.text.Perplexity`` on the same logits.

    Args:
        nll_S: negative log-likelihood of each document, summed over its tokens, in nats.
        tokens_S: number of tokens predicted in each document.
        extractor: the tokenizer and the routing that the likelihoods come from: perplexities of
            two tokenizers cannot be compared.
        ceiling: what a perfect model would get, where that is known (the entropy of a generator).
        floor: what no skill gets; ``unigram_perplexity`` is one.

    Raises:
        ValueError: lengths differ, there are no tokens, a likelihood is NaN or infinite, or the
            perplexity is too large for a number.
    """
    nll, tokens = np.asarray(nll_S, dtype=np.float64), np.asarray(tokens_S, dtype=np.float64)
    if nll.ndim != 1 or nll.shape != tokens.shape:
        raise ValueError(f"{nll.shape} likelihoods and {tokens.shape} token counts; give one each")
    if not np.isfinite(nll).all():
        place = int(np.flatnonzero(~np.isfinite(nll))[0])
        raise ValueError(f"the negative log-likelihood of document {place} is {nll[place]}")
    if (tokens < 0).any() or tokens.sum() == 0:
        raise ValueError(
            f"token counts must not be negative, nor all zero; they sum to {tokens.sum()}"
        )
    mean = nll.sum() / tokens.sum()
    if mean > LARGEST_MEAN_NLL:
        raise ValueError(f"a mean negative log-likelihood of {mean:g} nats has no perplexity")
    return Metric.sampled(
        name=name,
        value=float(np.exp(mean)),
        draws=np.exp(ratio_draws(nll, tokens, seed=seed)),
        n=int(tokens.sum()),
        extractor=extractor,
        ceiling=ceiling,
        floor=floor,
        note=f"n counts tokens; interval over {len(nll)} documents",
    )


def unigram_perplexity(training_T: np.ndarray, held_out_T: np.ndarray, vocabulary: int) -> float:
    """Perplexity of held-out tokens under the training tokens' frequencies (add-one smoothed).

    The floor for a language model: what knowing the words but not their order gives.

    Args:
        training_T, held_out_T: int token ids, all below ``vocabulary``.
    """
    counts = np.bincount(training_T, minlength=vocabulary) + 1.0
    log_probabilities = np.log(counts / counts.sum())
    return float(np.exp(-log_probabilities[held_out_T].mean()))
