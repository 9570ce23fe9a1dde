"""Entries of a vocabulary that another one has too, and what new ones begin with."""

import pytest
import torch
from torch import nn

from mot_lab.data.interface import Codes, DataInterface, Latents
from mot_lab.upcycling.vocabulary import fill_vocabulary, shared_rows

THEIRS = {"a": 0, "b": 1, "c": 2, "d": 3}


def rows(*arguments: object) -> list[int]:
    return shared_rows(*arguments).tolist()


def test_text_is_the_same_where_the_string_is() -> None:
    ours = DataInterface(6, {"image": Codes(2, 1)})
    theirs = DataInterface(5, {})  # one entry more than its tokenizer has: it stands for nothing
    ids = {"<bos>": 0, "b": 1, "a": 2, "d": 3, "c": 4, "<eos>": 5}
    assert rows(ours, theirs, ids, THEIRS) == [-1, 1, 0, 3, 2, -1, -1, -1]
    assert rows(ours, theirs, ids, THEIRS, {"<eos>": 3}) == [-1, 1, 0, 3, 2, 3, -1, -1]


def test_entries_behind_the_tokenizers_own_are_new_even_where_the_model_has_rows_for_them() -> None:
    """A vocabulary is often padded: those rows were never trained."""
    ours, theirs = DataInterface(5, {}), DataInterface(8, {})
    assert rows(ours, theirs, {**THEIRS, "<bos>": 4}, THEIRS) == [0, 1, 2, 3, -1]


def test_text_is_taken_by_id_where_there_is_no_tokenizer() -> None:
    ours, theirs = DataInterface(4, {"image": Codes(2, 1)}), DataInterface(3, {})
    assert rows(ours, theirs, THEIRS, None) == [0, 1, 2, -1, -1, -1]


def test_codes_are_the_same_where_the_modality_is() -> None:
    speech, image = Codes(3), Codes(2, 1)
    ours = DataInterface(2, {"speech": speech, "image": image})
    theirs = DataInterface(4, {"image": image, "speech": Codes(2)})
    assert rows(ours, theirs) == [0, 1, -1, -1, -1, 4, 5]
    assert rows(ours, DataInterface(2, {"image": Latents((3, 4, 4), 2)})) == [0, 1, *[-1] * 5]


def test_another_tokenizer_is_refused() -> None:
    ours = DataInterface(4, {})
    with pytest.raises(ValueError, match=r"only 1 of the 4 entries .* among the 4 of the model"):
        shared_rows(ours, DataInterface(4, {}), {"a": 0, "x": 1, "y": 2, "z": 3}, THEIRS)


def test_new_entries_are_drawn_like_the_copied_ones_and_as_likely_as_their_average() -> None:
    generator = torch.Generator().manual_seed(0)
    mean_D, spread_D = torch.linspace(-1, 1, 6), torch.linspace(0.1, 2, 6)
    their_embedding = mean_D + spread_D * torch.randn(500, 6, generator=generator)
    their_output = torch.randn(500, 6, generator=generator) + mean_D
    embedding, output = nn.Embedding(4500, 6), nn.Linear(6, 4500, bias=False)
    rows_V = torch.cat([torch.arange(499, -1, -1), torch.full((4000,), -1)])
    fill_vocabulary(embedding, output, their_embedding, their_output, rows_V, 0)
    assert torch.equal(embedding.weight[:500], their_embedding.flip(0))
    assert torch.equal(output.weight[:500], their_output.flip(0))
    new_ND = embedding.weight[500:].detach()
    assert torch.allclose(new_ND.mean(dim=0), their_embedding.mean(dim=0), atol=0.1)
    assert torch.allclose(new_ND.std(dim=0), their_embedding.std(dim=0), rtol=0.05)
    hidden_D = torch.randn(6, generator=generator)
    logits_V = output(hidden_D)
    average = logits_V[:500].mean()
    assert torch.allclose(logits_V[500:], average.expand(4000), atol=1e-5)
    other = nn.Embedding(4500, 6)
    fill_vocabulary(other, output, their_embedding, their_output, rows_V, 0)
    assert torch.equal(other.weight, embedding.weight)
    fill_vocabulary(other, output, their_embedding, their_output, rows_V, 1)
    assert not torch.equal(other.weight[500:], embedding.weight[500:])
