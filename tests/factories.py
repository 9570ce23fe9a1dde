"""Tiny random models and batches, without any prepared data.

Shapes: B rows, S positions, T tokens in grouped order, D width, C x H x W latents.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mot_lab.backbones.auxiliary_router import AuxiliaryRouter
from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.transformer import Transformer
from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import Wiring, parse_arm
from mot_lab.batch import PADDING, MultimodalBatch
from mot_lab.data.documents import DocumentStream, Mixture
from mot_lab.data.interface import Codes, DataInterface, Latents
from mot_lab.data.packing import Block, Layout, collate, pack_row
from mot_lab.data.pool import ScenePool
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.model import MultimodalModel

TWO = ("text", "image")
THREE = ("text", "image", "speech")
INTERFACE = DataInterface(40, {"image": Latents((3, 4, 4), patch=2)})
CHAMELEON = DataInterface(40, {"image": Codes(12, 4)})
CHAMELEON_SPEECH = DataInterface(40, {"image": Codes(12, 4), "speech": Codes(7)})
TRANSFUSION_SPEECH = DataInterface(40, {"image": Latents((3, 4, 4), patch=2), "speech": Codes(7)})
# A block's begin and end tokens follow those of documents.
PAD, BOS, EOS, BOI, EOI, BOS_SPEECH, EOS_SPEECH, FIRST_WORD = range(8)


def tiny_backbone(**changes: Any) -> TransformerConfig:
    """Two layers of width 16."""
    return TransformerConfig(
        **{"width": 16, "layers": 2, "heads": 2, "feed_forward_multiple": 16, **changes}
    )


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Large random weights everywhere, norms and biases too, so that nothing hides in symmetry."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.copy_(mean + 0.3 * values)


def tiny_transformer(
    arm: object = "mot",
    modalities: Sequence[str] = TWO,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **changes: Any,
) -> Transformer:
    """A backbone alone, with large random weights."""
    wiring = parse_arm(arm, modalities).wiring
    transformer = Transformer(tiny_backbone(**changes), wiring).to(dtype)
    randomize(transformer, seed)
    return transformer


def tiny_model(
    arm: object = "mot",
    interface: DataInterface = INTERFACE,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    diffusion: DiffusionConfig | None = None,
    **changes: Any,
) -> MultimodalModel:
    """Backbone and both heads, with large random weights."""
    wiring = parse_arm(arm, interface.modalities).wiring
    config = diffusion or DiffusionConfig(unet_channels=8)
    model = MultimodalModel(tiny_backbone(**changes), wiring, config, interface).to(dtype)
    randomize(model, seed)
    return model


def shared_name(name: str) -> str:
    """A parameter's name without its tower: the same in Dense and in every copy in MoT."""
    return re.sub(r"\.tower\.\w+\.", ".tower.", name)


def copy_into_towers(dense: nn.Module, other: nn.Module) -> None:
    """Give every tower of ``other`` the weights of the one tower of ``dense``."""
    source = {shared_name(name): each for name, each in dense.named_parameters()}
    for name, parameter in other.named_parameters():
        parameter.data.copy_(source[shared_name(name)].data)


def gradients_by_shared_name(model: nn.Module) -> dict[str, Tensor]:
    """Gradients, those of towers of one kind summed."""
    gradients: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            shared = shared_name(name)
            gradients[shared] = gradients.get(shared, 0) + parameter.grad
    return gradients


def assert_close(actual: Tensor, expected: Tensor, relative: float, floor: float = 0.0) -> None:
    """Largest difference at most ``relative`` times the largest expected value, or ``floor``."""
    assert actual.shape == expected.shape
    if not expected.numel():
        return
    scale = max(expected.abs().max().item(), floor)
    difference = (actual - expected).abs().max().item()
    assert difference <= relative * scale, f"differs by {difference / scale:.1e} relative"


def assert_same_gradients(
    actual: dict[str, Tensor], expected: dict[str, Tensor], relative: float
) -> None:
    """`assert_close` of each; those that are zero but for rounding count as 1% of the largest."""
    assert actual.keys() == expected.keys()
    floor = 0.01 * max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        assert_close(actual[name], gradient, relative, floor)


@dataclass(frozen=True)
class RandomLayout:
    """Ids of a random batch [B, S]: documents with runs of modalities and images, padding last."""

    modality_BS: Tensor
    document_BS: Tensor
    image_BS: Tensor
    position_BS: Tensor

    def counts(self, modalities: Sequence[str]) -> dict[str, int]:
        """Real tokens per modality."""
        return {name: int((self.modality_BS == i).sum()) for i, name in enumerate(modalities)}

    def to(self, device: str) -> "RandomLayout":
        """A copy on another device."""
        return RandomLayout(*(getattr(self, each.name).to(device) for each in fields(self)))

    def groups(self, wiring: Wiring) -> TokenGroups:
        """Its tokens grouped for an arm."""
        return TokenGroups.build(self.modality_BS, self.counts(wiring.modalities), wiring)


def random_layout(
    seed: int,
    rows: int,
    length: int,
    ids: Sequence[int] = (0, 1),
    padding: int = 3,
    longest: int = 6,
) -> RandomLayout:
    """Random documents of 2 to ``longest`` places in runs of 1 to 4 of one modality.

    Args:
        seed, rows, length: of the batch.
        ids: modalities that occur; half of the runs of modality 1 are images (seen both ways).
        padding: at most this many places at the end of each row, at least one of them if not 0.
    """
    rng = np.random.default_rng(seed)
    ids_4BS = np.full((4, rows, length), PADDING)
    ids_4BS[3] = 0
    modality_BS, document_BS, image_BS, position_BS = ids_4BS
    for row in range(rows):
        end = length - (int(rng.integers(1, padding + 1)) if padding else 0)
        start = document = image = 0
        while start < end:
            stop = min(end, start + int(rng.integers(2, longest + 1)))
            document_BS[row, start:stop] = document
            position_BS[row, start:stop] = np.arange(stop - start)
            while start < stop:
                run = slice(start, min(stop, start + int(rng.integers(1, 5))))
                modality_BS[row, run] = rng.choice(ids)
                if modality_BS[row, start] == 1 and rng.random() < 0.5:
                    image_BS[row, run] = image
                    image += 1
                start = run.stop
            document += 1
    return RandomLayout(*(torch.from_numpy(each) for each in ids_4BS))


def run_backbone(transformer: Transformer, layout: RandomLayout, x_BSD: Tensor) -> Tensor:
    """The grouped computation on sequences [B, S, D] -> [B, S, D], zeros at padding."""
    groups = layout.groups(transformer.wiring)
    context = transformer.context(groups, layout.document_BS, layout.image_BS, layout.position_BS)
    y_TD = transformer(groups.group(x_BSD.flatten(0, 1)), groups, context)
    return groups.restore(y_TD).view(x_BSD.shape)


def always_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention by documents, even of rows so short that it would read them whole."""
    # Whole rows are asked about in a list, tables of documents in a tuple.
    monkeypatch.setattr("mot_lab.backbones.attending.cost", lambda tables: isinstance(tables, list))


class TinyRecordings:
    """Recordings of 1 to 6 units with transcripts; every second has a picture."""

    def __init__(self, rng: np.random.Generator, pictures: np.ndarray) -> None:
        sizes = [int(rng.integers(1, 7)) for _ in pictures]
        self._units = [rng.integers(0, 7, size).astype(np.int32) for size in sizes]
        self._texts = [rng.integers(FIRST_WORD, 40, 3).astype(np.int32) for _ in pictures]
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._units)

    def units(self, record: int) -> np.ndarray:
        return self._units[record]

    def text(self, record: int) -> np.ndarray:
        return self._texts[record]

    def picture(self, record: int) -> np.ndarray | None:
        return self._pictures[record] if record % 2 else None


def tiny_stream(
    seed: int = 0,
    prose_share: float = 0.2,
    caption_first: float = 0.8,
    interface: DataInterface = INTERFACE,
    caption_dropout: float = 0.0,
) -> DocumentStream:
    """Six random pictures with two captions of 2 to 5 tokens, and ten passages of 4 to 30; with
    speech in the interface, a third of the documents has some.
    """
    rng = np.random.default_rng(seed)
    scenes = 6

    def words(low: int, high: int) -> np.ndarray:
        size = int(rng.integers(low, high + 1))
        return rng.integers(FIRST_WORD, interface.text_vocabulary, size).astype(np.int32)

    captions = [words(2, 5) for _ in range(2 * scenes)]
    image = interface.others["image"]
    if isinstance(image, Latents):
        pictures = rng.standard_normal((scenes, *image.shape), np.float32)
    else:
        pictures = rng.integers(0, image.size, (scenes, image.length or 0)).astype(np.int32)
    pool = ScenePool(
        pictures,
        np.cumsum([0, *map(len, captions)]),
        np.concatenate(captions),
        np.arange(scenes + 1) * 2,
    )
    passages = [words(4, 30) for _ in range(10)]
    directions = ("text_speech", "speech_text", "image_speech", "speech")
    mixture = Mixture(prose_share, caption_first, caption_dropout, 1 / 3, directions)
    spoken = TinyRecordings(rng, pictures) if "speech" in interface.others else None
    return DocumentStream(pool, passages, mixture, spoken)


def tiny_layout(length: int = 24, interface: DataInterface = INTERFACE) -> Layout:
    """How the stream's documents are laid out."""
    blocks = {}
    for i, (name, part) in enumerate(interface.others.items(), start=1):
        discrete = isinstance(part, Codes)
        blocks[name] = Block(
            i,
            begin=BOI + 2 * (i - 1),
            end=EOI + 2 * (i - 1),
            first_code=interface.first_code(name) if discrete else None,
            size=part.size if isinstance(part, Codes) else 0,
            length=part.length,
        )
    shape = interface.latents.shape if interface.latents else (0, 0, 0)
    return Layout(length, PAD, BOS, EOS, blocks, interface.diffused, shape)


def random_batches(
    rows: int = 3, length: int = 24, interface: DataInterface = INTERFACE, **stream: Any
) -> Iterator[MultimodalBatch]:
    """Packed batches of a `tiny_stream`, endlessly."""
    source = tiny_stream(interface=interface, **stream)
    layout = tiny_layout(length, interface)
    for step in count():
        indices = range(step * rows, (step + 1) * rows)
        packed = [pack_row(source, layout, (0, index)) for index in indices]
        yield collate(packed, step, layout)


def random_batch(**changes: Any) -> MultimodalBatch:
    """The first of the `random_batches` with every modality in it."""
    return next(batch for batch in random_batches(**changes) if all(batch.counts.values()))


def full_batch(**changes: Any) -> MultimodalBatch:
    """The first of the `random_batches` with an image and without any padding."""
    return next(
        batch
        for batch in random_batches(**changes)
        if batch.num_images and batch.num_tokens == batch.token_BS.numel()
    )


def text_batch(tokens: Tensor) -> MultimodalBatch:
    """One document of text per row [B, S], every next token predicted, no image."""
    rows, length = tokens.shape
    place_BS = torch.arange(rows * length).view(rows, length)
    nothing = torch.zeros(0, 3, 4, 4)
    target_L = tokens[:, 1:].flatten()
    return MultimodalBatch(
        token_BS=tokens,
        modality_BS=torch.zeros_like(tokens),
        document_BS=torch.zeros_like(tokens),
        position_BS=torch.arange(length).expand(rows, length).contiguous(),
        image_BS=torch.full_like(tokens, PADDING),
        target_place_L=place_BS[:, :-1].flatten(),
        target_L=target_L,
        target_modality_L=torch.zeros_like(target_L),
        patch_place_M=torch.zeros(0, dtype=torch.int64),
        latents_NCHW=nothing,
        noise_NCHW=nothing,
        time_N=torch.zeros(0),
        counts={"text": rows * length, "image": 0},
        target_counts={"text": target_L.numel(), "image": 0},
    )


def give_routers(transformer: Transformer, seed: int = 0) -> None:
    """Random auxiliary routers, under which tokens go to none, one or several experts."""
    generator = torch.Generator().manual_seed(seed)
    routers = {}
    for layer, tower, module in transformer.expert_choice():
        experts, width = module.router.weight.shape
        routers[f"{layer}/{tower}"] = AuxiliaryRouter.random(width, experts, 0.5, generator)
    transformer.set_auxiliary_routers(routers)
