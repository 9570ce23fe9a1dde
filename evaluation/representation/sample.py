"""Which tokens of the held-out batches are looked at: equally many of every modality.

The scores of separation depend on how many tokens each modality has, so all have the same number
as far as there are enough. The draw looks at the batches only, never at a model: every arm shows
the same tokens.

Special tokens are left out. They mark where documents and pictures begin and end, and trained
transformers use some of them as attention sinks with states far larger than any other (Xiao et
al., arXiv 2309.17453; Sun et al., arXiv 2402.17762): the first components would show them alone.

Shapes: B rows, S positions, A places of all batches, N tokens drawn.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mot_lab.batch import PADDING, MultimodalBatch

LEAST_DOCUMENTS = 5  # that a modality must stand in: a probe is judged on a fifth of them at a time


@dataclass(frozen=True)
class TokenSample:
    """Tokens in the order of the batches.

    Attributes:
        modalities: names that ``modality_N`` counts from 0.
        modality_N: int64, of each token.
        batch_N: int64, the batch that each token stands in.
        place_N: int64, its flat place ``b * S + s`` there.
        document_N: int64, its document, counted from 0 over all batches.
    """

    modalities: tuple[str, ...]
    modality_N: np.ndarray
    batch_N: np.ndarray
    place_N: np.ndarray
    document_N: np.ndarray

    def counts(self) -> dict[str, int]:
        """Tokens of each modality."""
        return {name: int((self.modality_N == i).sum()) for i, name in enumerate(self.modalities)}


def draw_tokens(
    batches: Sequence[MultimodalBatch],
    modalities: Sequence[str],
    tokens: int,
    seed: int,
    special: Collection[int] = (),
) -> TokenSample:
    """Tokens without replacement, ``tokens`` shared out equally; all that a modality has where it
    has fewer.

    Args:
        batches: to draw from; padding is never drawn.
        modalities: names by the batches' modality ids; those without a token are left out.
        tokens: how many in all.
        seed: of the draw.
        special: ids of the text's special tokens.

    Raises:
        ValueError: fewer than two modalities, or one of them in too few documents to be judged.
    """
    modality_A = np.concatenate([_modality(batch, special) for batch in batches])
    present = [i for i in range(len(modalities)) if (modality_A == i).any()]
    if len(present) < 2:
        names = ", ".join(modalities[i] for i in present) or "nothing"
        raise ValueError(f"the batches hold {names} alone: there is nothing to be told apart")
    rng = np.random.default_rng(seed)
    drawn = []
    for i in present:
        (candidates,) = np.nonzero(modality_A == i)
        size = min(tokens // len(present), len(candidates))
        drawn.append(rng.choice(candidates, size, replace=False))
    chosen_N = np.sort(np.concatenate(drawn))
    sizes = [batch.token_BS.numel() for batch in batches]
    first_of_batch = np.cumsum([0, *sizes])
    batch_N = np.searchsorted(first_of_batch, chosen_N, side="right") - 1
    sample = TokenSample(
        tuple(modalities[i] for i in present),
        np.searchsorted(present, modality_A[chosen_N]),
        batch_N,
        chosen_N - first_of_batch[batch_N],
        np.unique(_documents(batches)[chosen_N], return_inverse=True)[1],
    )
    _require_documents(sample, tokens)
    return sample


def _modality(batch: MultimodalBatch, special: Collection[int]) -> np.ndarray:
    """Of each place, int64 [B * S]; -1 for padding and special tokens."""
    modality_A, token_A = batch.modality_BS.flatten().numpy(), batch.token_BS.flatten().numpy()
    is_special_A = (modality_A == 0) & np.isin(token_A, list(special))
    return np.where(is_special_A, PADDING, modality_A)


def _documents(batches: Sequence[MultimodalBatch]) -> np.ndarray:
    """A number of each place's document, another for every document, int64 [places]."""
    numbers, rows = [], 0
    longest = max(batch.token_BS.shape[1] for batch in batches) + 1
    for batch in batches:
        document_BS = batch.document_BS.numpy()
        row_B1 = rows + np.arange(len(document_BS))[:, None]
        numbers.append((row_B1 * longest + document_BS + 1).ravel())
        rows += len(document_BS)
    return np.concatenate(numbers)


def _require_documents(sample: TokenSample, tokens: int) -> None:
    for i, name in enumerate(sample.modalities):
        documents = len(np.unique(sample.document_N[sample.modality_N == i]))
        if documents < LEAST_DOCUMENTS:
            raise ValueError(
                f"tokens: {tokens} give {name} tokens of {documents} documents, too few to be "
                f"judged (at least {LEAST_DOCUMENTS}): ask for more tokens, or hold more rows out "
                f"(data.val_rows)"
            )
