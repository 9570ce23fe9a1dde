"""What a token can know of others, bit for bit; and that expert choice knows more than it should.

Shapes: B rows, S positions, D width, N images, C x H x W latents.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import FIRST_WORD, INTERFACE, TWO, always_documents, tiny_layout, tiny_model
from torch import Tensor

from mot_lab.batch import MultimodalBatch
from mot_lab.data.documents import Document, ImageSegment, TextSegment
from mot_lab.data.packing import Row, collate
from mot_lab.model import MultimodalModel

CAUSAL_ARMS = ["dense", "mot", "untie_ffn", "untie_ffn_qkv"]
LEAKING_ARMS = ["moe_4x", "moe_2x", "mot_text_moe_4x"]
SWITCHES = [{}, {"norm": "post"}, {"qk_norm": "none"}]
every_causal = pytest.mark.parametrize("arm", CAUSAL_ARMS)


def make_batch() -> MultimodalBatch:
    """Two rows; row 0 holds text, then a document with two pictures around text, then text."""
    rng = np.random.default_rng(0)

    def words(count: int) -> TextSegment:
        return TextSegment(rng.integers(FIRST_WORD, INTERFACE.vocab_size, count))

    def picture() -> ImageSegment:
        return ImageSegment(rng.standard_normal((3, 4, 4), np.float32))

    pictures = Document((words(2), picture(), words(2), picture(), words(3)))
    layout = tiny_layout(32)
    rows = []
    for documents in (
        (Document((words(3),)), pictures, Document((words(4),))),
        (Document((picture(), words(9))), Document((words(5),))),
    ):
        row = Row.empty(layout.length)
        for document in documents:
            row.add(document, layout)
        for latents in row.latents:
            row.noise.append(rng.standard_normal(latents.shape, np.float32))
            row.time.append(int(rng.integers(1000)) / 1000)
        rows.append(row)
    return collate(rows, 0, layout)


BATCH = make_batch()


@pytest.fixture(autouse=True, params=["documents", "sdpa"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of attention: the CPU's own, and the one that reads whole rows."""
    chosen = "mot_lab.backbones.transformer.chosen_kernel"
    monkeypatch.setattr(chosen, lambda *of_what: request.param)
    always_documents(monkeypatch)


def hidden(model: MultimodalModel, batch: MultimodalBatch) -> Tensor:
    """Final hidden states [B, S, D], zeros at padding."""
    noised = model.diffusion.add_noise(batch.latents_NCHW, batch.noise_NCHW, batch.time_N)
    with torch.no_grad():
        hidden_TD, groups, _ = model.hidden(batch, noised)
    return groups.restore(hidden_TD).view(*batch.token_BS.shape, -1)


def other_token(batch: MultimodalBatch, row: int, places: list[int]) -> MultimodalBatch:
    """Other words at some places of text."""
    token_BS = batch.token_BS.clone()
    assert (batch.modality_BS[row, places] == 0).all()
    span = INTERFACE.vocab_size - FIRST_WORD
    token_BS[row, places] = (token_BS[row, places] - FIRST_WORD + 1) % span + FIRST_WORD
    return replace(batch, token_BS=token_BS)


def other_image(batch: MultimodalBatch, image: int) -> MultimodalBatch:
    """Another picture under the same noise."""
    latents_NCHW = batch.latents_NCHW.clone()
    latents_NCHW[image] += 1
    return replace(batch, latents_NCHW=latents_NCHW)


def changed(model: MultimodalModel, other: MultimodalBatch) -> Tensor:
    """bool [B, S]: hidden states with any other bit than the batch's."""
    return (hidden(model, BATCH) != hidden(model, other)).any(dim=-1)


def text_places(row: int, document: int) -> list[int]:
    inside = (BATCH.document_BS[row] == document) & (BATCH.modality_BS[row] == 0)
    return inside.nonzero()[:, 0].tolist()


@every_causal
@pytest.mark.parametrize("switches", SWITCHES, ids=["pre", "post", "no qk-norm"])
def test_later_token_changes_nothing_before_it(arm: str, switches: dict) -> None:
    model = tiny_model(arm, **switches)
    for place in text_places(0, 1):
        changed_BS = changed(model, other_token(BATCH, 0, [place]))
        assert changed_BS[0, place]
        assert not changed_BS[0, :place].any()
        assert not changed_BS[1].any()


@every_causal
def test_other_documents_and_rows_change_nothing(arm: str) -> None:
    model = tiny_model(arm)
    for document in (0, 2):
        changed_BS = changed(model, other_token(BATCH, 0, text_places(0, document)))
        assert torch.equal(changed_BS[0], BATCH.document_BS[0] == document)
        assert not changed_BS[1].any()
    images = other_image(other_image(BATCH, 0), 1)  # both of document 1
    changed_BS = changed(model, other_token(images, 0, text_places(0, 1)))
    assert torch.equal(changed_BS[0], BATCH.document_BS[0] == 1)
    assert not changed_BS[1].any()
    changed_BS = changed(model, other_image(BATCH, 2))  # of row 1
    assert not changed_BS[0].any()


@every_causal
def test_logits_and_predictions_before_a_change_are_equal(arm: str) -> None:
    model = tiny_model(arm)
    place = text_places(0, 1)[-3]
    with torch.no_grad():
        one, other = model(BATCH), model(other_token(BATCH, 0, [place]))
    same_L = (one.logits_LV == other.logits_LV).all(dim=1)
    affected_L = (BATCH.target_place_L >= place) & (BATCH.target_place_L <= place + 2)
    assert affected_L.any()
    assert torch.equal(same_L, ~affected_L)
    assert torch.equal(one.prediction_NCHW, other.prediction_NCHW)


@every_causal
def test_patches_of_an_image_see_each_other_only(arm: str) -> None:
    model = tiny_model(arm)
    first, second = ((BATCH.image_BS[0] == image).nonzero()[:, 0] for image in (0, 1))
    latents_NCHW = BATCH.latents_NCHW.clone()
    latents_NCHW[1, :, 2:, 2:] += 1  # the last patch of the second image
    changed_BS = changed(model, replace(BATCH, latents_NCHW=latents_NCHW))
    assert changed_BS[0, second].all()  # its earlier patches too
    assert not changed_BS[0, : second[0]].any()  # not <boi>, not the first image
    inside = BATCH.document_BS[0] == 1
    assert changed_BS[0, second[0] :][inside[second[0] :]].all()  # all that is later sees it
    assert not changed_BS[0][~inside].any()
    assert not changed_BS[1].any()
    changed_BS = changed(model, other_image(BATCH, 0))
    assert changed_BS[0, first].all()
    assert not changed_BS[0, : first[0]].any()


@pytest.mark.parametrize("arm", LEAKING_ARMS)
def test_expert_choice_leaks_under_training_routing(arm: str) -> None:
    """The reason why its losses are marked and why it may not generate."""
    model = tiny_model(arm)
    places = [*text_places(0, 2), *text_places(1, 1)]
    later = other_token(BATCH, 0, text_places(0, 2))
    changed_BS = changed(model, later)
    assert changed_BS[0, : places[0]].any(), "an earlier document did not change"
    assert changed_BS[1].any(), "another row did not change"


def test_towers_are_chosen_by_the_input_token() -> None:
    """<boi> and <eoi> pass through the text tower, patches through the image tower."""
    model = tiny_model("mot")
    with torch.no_grad():
        before_BSD = hidden(model, BATCH)
        for name, parameter in model.named_parameters():
            if "final_norm.tower.image" in name:
                parameter.mul_(2)
        after_BSD = hidden(model, BATCH)
    doubled_BS = (before_BSD != after_BSD).any(dim=-1)
    assert torch.equal(doubled_BS, BATCH.modality_BS == TWO.index("image"))
