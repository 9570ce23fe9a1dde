"""Which entries of a vocabulary another one has too, and what entries begin with that are new.

Shapes: V entries of the new vocabulary, W of the one it begins from, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mot_lab.data.interface import Codes, DataInterface

NEW = -1
LEAST_SHARED = 0.5  # of the text entries; fewer are of a tokenizer that cuts words otherwise


def shared_rows(
    ours: DataInterface,
    theirs: DataInterface,
    our_ids: Mapping[str, int] | None = None,
    their_ids: Mapping[str, int] | None = None,
    special: Mapping[str, int] | None = None,
) -> Tensor:
    """The entry of their vocabulary that each of ours begins as: int64 [V], -1 where it is new.

    Text entries are the same where they stand for the same string; without both tokenizers, where
    they have the same id. Codes are, where both have a modality of that name with as many codes.

    Args:
        ours, theirs: interfaces of the two models.
        our_ids, their_ids: ids of the entries of the text tokenizers, by their string.
        special: entries of theirs that ours of other names begin as (`special_rows`).

    Raises:
        ValueError: fewer than half of our text entries are among theirs.
    """
    rows_V = torch.full((ours.vocab_size,), NEW)
    if our_ids is None or their_ids is None:
        shared = min(ours.text_vocabulary, theirs.text_vocabulary)
        rows_V[:shared] = torch.arange(shared)
    else:
        known = {**(special or {}), **their_ids}
        for token, place in our_ids.items():
            row = known.get(token, NEW)
            rows_V[place] = row if row < theirs.text_vocabulary else NEW
        shared = int((rows_V[: ours.text_vocabulary] != NEW).sum())
        if shared < LEAST_SHARED * ours.text_vocabulary:
            raise ValueError(
                f"only {shared} of the {ours.text_vocabulary} entries of the text tokenizer are "
                f"among the {len(their_ids)} of the model that is started from: give "
                f"data.text.path the tokenizer.json of that model"
            )
    for name, part in ours.others.items():
        other = theirs.others.get(name)
        if isinstance(part, Codes) and isinstance(other, Codes) and part.size == other.size:
            first, their_first = ours.first_code(name), theirs.first_code(name)
            rows_V[first : first + part.size] = torch.arange(their_first, their_first + part.size)
    return rows_V


@torch.no_grad()
def fill_vocabulary(
    embedding: nn.Embedding,
    output: nn.Linear,
    their_embedding_WD: Tensor,
    their_output_WD: Tensor,
    rows_V: Tensor,
    seed: int,
) -> None:
    """Copy what is shared; give new entries weights that fit in.

    A new entry's embedding is drawn from the normal distribution with mean and standard deviation,
    dimension by dimension, of those copied, so that the first layer sees inputs of the size it
    knows; its output weights are the mean of those copied, so that it is as likely as the average
    entry and takes little from the others (Hewitt, "Initializing New Word Embeddings for Pretrained
    Language Models", 2021).

    Args:
        embedding, output: to be filled, [V, D] each.
        their_embedding_WD, their_output_WD: to begin from.
        rows_V: of `shared_rows`.
        seed: of what is drawn.
    """
    copied, new = rows_V != NEW, rows_V == NEW
    known_ND = their_embedding_WD[rows_V[copied]]
    embedding.weight[copied] = known_ND.to(embedding.weight)
    known_output_ND = their_output_WD[rows_V[copied]]
    output.weight[copied] = known_output_ND.to(output.weight)
    if new.any():
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(int(new.sum()), known_ND.shape[1], generator=generator)
        drawn = known_ND.mean(dim=0) + known_ND.std(dim=0) * drawn
        embedding.weight[new] = drawn.to(embedding.weight)
        output.weight[new] = known_output_ND.mean(dim=0).to(output.weight)
