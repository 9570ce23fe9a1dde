"""The decoder reads every place once, and says what reading everything again says.

Shapes: B rows, T tokens in grouped order, V vocabulary.
"""

from collections.abc import Iterator

import numpy as np
import oracle_generation
import pytest
import torch
from factories import CHAMELEON_SPEECH, FIRST_WORD, INTERFACE, give_routers, tiny_layout, tiny_model
from torch import Tensor

from mot_lab.backbones.cache import KVCache
from mot_lab.data.documents import CodeSegment, ImageSegment, Segment, TextSegment
from mot_lab.data.interface import DataInterface, Latents
from mot_lab.data.packing import TEXT_ID
from mot_lab.generation.decoder import Decoder
from mot_lab.generation.generate import generate
from mot_lab.generation.prompts import Piece, Prompt, document_piece, picture_piece, token_piece
from mot_lab.generation.sampling import Sampling

ARMS = ["dense", "mot", "untie_ffn", "untie_ffn_qkv", "moe_4x", "mot_text_moe_4x"]
SETTINGS = {"transfusion": INTERFACE, "chameleon speech": CHAMELEON_SPEECH}


def documents(interface: DataInterface, rows: int) -> list[list[Segment]]:
    """Of 2 to 5 segments each, of every modality."""
    rng = np.random.default_rng(0)
    made: list[list[Segment]] = []
    for _ in range(rows):
        segments: list[Segment] = []
        for name in rng.choice(interface.modalities, rng.integers(2, 6)):
            part = interface.others.get(name)
            if part is None:
                segments.append(TextSegment(rng.integers(FIRST_WORD, 40, rng.integers(1, 5))))
            elif isinstance(part, Latents):
                segments.append(ImageSegment(rng.standard_normal(part.shape)))
            else:
                length = part.length or rng.integers(1, 6)
                segments.append(CodeSegment(name, rng.integers(0, part.size, length)))
        made.append(segments)
    return made


def pieces_of(segments: list[Segment], interface: DataInterface) -> Iterator[tuple[Piece, int]]:
    """A document as it is generated: its first segment at once, then token by token and picture by
    picture; each piece with the number of segments that are whole after it.
    """
    layout = tiny_layout(interface=interface)
    yield document_piece(segments[:1], None, layout), 1
    for number, segment in enumerate(segments[1:], start=2):
        if isinstance(segment, TextSegment):
            for i, token in enumerate(segment.ids, start=1):
                yield token_piece([token], [TEXT_ID]), number if i == len(segment.ids) else 0
            continue
        block = layout.block_of(segment)
        yield token_piece([block.begin], [TEXT_ID]), 0
        if isinstance(segment, ImageSegment):
            yield picture_piece(segment, layout), number
        else:
            for code in segment.codes:
                yield token_piece([block.first_code + code], [block.modality_id]), 0
            yield token_piece([block.end], [TEXT_ID]), number


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_logits_are_those_of_the_whole_row(setting: str, arm: str, norm: str) -> None:
    """In fp64 within 1e-10, rows at different modalities in the same step."""
    interface = SETTINGS[setting]
    layout = tiny_layout(interface=interface)
    model = tiny_model(arm, interface, torch.float64, norm=norm)
    give_routers(model.transformer)
    rows = documents(interface, 4)
    streams = [pieces_of(segments, interface) for segments in rows]
    decoder, compared = Decoder(model, layout, len(rows)), 0
    while True:
        fed = {row: each for row, stream in enumerate(streams) if (each := next(stream, None))}
        if not fed:
            break
        with model.transformer.routing("causal"):
            logits_RV = decoder.feed({row: piece for row, (piece, _) in fed.items()})
        for logits_V, (row, (_, whole)) in zip(logits_RV, fed.items(), strict=True):
            if whole:
                document = oracle_generation.Document(model, layout, tuple(rows[row][:whole]))
                expected_V = document.next_logits()
                assert (logits_V - expected_V).abs().max() < 1e-10
                compared += 1
    assert compared == sum(map(len, rows))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_every_place_is_computed_once(guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt before the first denoising step, the picture at each and once when it is clean,
    every token of text once.
    """
    model, layout = tiny_model("mot"), tiny_layout()
    model.autoregressive.output.weight.data[layout.eos] = 0  # never the likeliest: none ends early
    computed: list[int] = []
    run = KVCache.run

    def counted(cache: KVCache, step: object, x_ND: Tensor) -> Tensor:
        computed.append(step.groups.tokens)
        return run(cache, step, x_ND)

    monkeypatch.setattr(KVCache, "run", counted)
    prompts = [Prompt((TextSegment(np.full(n, FIRST_WORD)),), "text", "image") for n in (3, 9)]
    sampling = Sampling(steps=6, guidance=guidance, max_tokens=4)
    answers = generate(model, layout, prompts, sampling)
    texts = [len(text.ids) for _, text in answers]
    assert texts == [4, 4]
    prefill, written = (1 + 3 + 1) + (1 + 9 + 1), 2 * (4 + 1)
    expected = [prefill, *[8] * 6, written, *[2] * 3]
    if guidance != 1:  # <bos><begin_image> and the picture at each step, in a cache of its own
        expected = [prefill, 2 * 2, *[8] * 12, written, *[2] * 3]
    assert computed == expected


def test_another_document_in_a_row_sees_nothing_of_the_first() -> None:
    model, layout = tiny_model("mot", dtype=torch.float64), tiny_layout()
    first, second = (
        document_piece([TextSegment(np.array(ids))], None, layout)
        for ids in ([9, 11, 30, 8], [20, 7])
    )
    decoder = Decoder(model, layout, 2)
    decoder.feed({0: first, 1: first})
    decoder.restart(1)
    again_RV = decoder.feed({1: second, 0: token_piece([9], [TEXT_ID])})
    fresh = Decoder(model, layout, 2)
    assert (again_RV[0] - fresh.feed({0: second})[0]).abs().max() < 1e-10
    fresh.restart(0)
    fresh.feed({0: first})
    alone_V = fresh.feed({0: token_piece([9], [TEXT_ID])})[0]
    assert (again_RV[1] - alone_V).abs().max() < 1e-10
