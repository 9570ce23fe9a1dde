"""The slow twin of `mot_lab.generation`: one prompt at a time, the whole row computed anew for
every token and every denoising step, each rule written out.

Shapes: V vocabulary, S places, C x H x W latents.
"""

import numpy as np
import torch
from torch import Tensor

from mot_lab.batch import MultimodalBatch
from mot_lab.data.documents import CodeSegment, ImageSegment, Segment, TextSegment
from mot_lab.data.packing import Layout
from mot_lab.generation.generate import Answer
from mot_lab.generation.prompts import Prompt
from mot_lab.generation.sampling import Sampling
from mot_lab.model import MultimodalModel


class Document:
    """The places of one document: token, modality and picture of each, and the pictures."""

    def __init__(
        self, model: MultimodalModel, layout: Layout, segments: tuple[Segment, ...]
    ) -> None:
        self.model, self.layout = model, layout
        self.places: list[tuple[int, int, int]] = [(layout.bos, 0, -1)]
        self.latents: list[Tensor] = []
        self.segments: list[Segment] = []
        for segment in segments:
            if isinstance(segment, TextSegment):
                self.add_text(segment.ids.tolist())
            elif isinstance(segment, ImageSegment):
                self.open(layout.diffused)
                self.add_picture(torch.from_numpy(segment.latents_CHW))
                self.close(layout.diffused)
            else:
                self.open(segment.modality)
                for code in segment.codes.tolist():
                    self.add_code(segment.modality, code)
                self.close(segment.modality)
            self.segments.append(segment)

    def add_text(self, tokens: list[int]) -> None:
        self.places += [(token, 0, -1) for token in tokens]

    def open(self, name: str) -> None:
        self.add_text([self.layout.blocks[name].begin])

    def close(self, name: str) -> None:
        self.add_text([self.layout.blocks[name].end])

    def add_code(self, name: str, code: int) -> None:
        block = self.layout.blocks[name]
        self.places.append((block.first_code + code, block.modality_id, -1))

    def add_picture(self, latents_CHW: Tensor) -> None:
        block = self.layout.blocks[self.layout.diffused]
        self.places += [(0, block.modality_id, len(self.latents))] * block.length
        self.latents.append(latents_CHW)

    def hidden(self, times: list[float]) -> tuple[Tensor, Tensor | None, MultimodalBatch]:
        """Final hidden states [S, D] in sequence order, by the network that is trained."""
        token, modality, image = torch.tensor(self.places).t()[:, None]
        nothing = torch.zeros(0, dtype=torch.int64)
        dtype = self.model.autoregressive.output.weight.dtype
        latents_NCHW = torch.zeros(0, *self.layout.latent_shape, dtype=dtype)
        if self.latents:
            latents_NCHW = torch.stack(self.latents).to(dtype)
        names = self.layout.modalities
        batch = MultimodalBatch(
            token_BS=token,
            modality_BS=modality,
            document_BS=torch.zeros_like(token),
            position_BS=torch.arange(len(self.places))[None],
            image_BS=image,
            target_place_L=nothing,
            target_L=nothing,
            target_modality_L=nothing,
            patch_place_M=(image[0] >= 0).nonzero()[:, 0],
            latents_NCHW=latents_NCHW,
            noise_NCHW=torch.zeros_like(latents_NCHW),
            time_N=torch.tensor(times),
            counts={name: int((modality == i).sum()) for i, name in enumerate(names)},
            target_counts=dict.fromkeys(names, 0),
        )
        with torch.no_grad(), self.model.transformer.routing("causal"):
            hidden_TD, groups, kept = self.model.hidden(batch, latents_NCHW)
        return groups.restore(hidden_TD), kept, batch

    def next_logits(self) -> Tensor:
        """[V], all pictures read clean."""
        hidden_SD, _, _ = self.hidden([0.0] * len(self.latents))
        with torch.no_grad():
            return self.model.autoregressive.logits(hidden_SD[-1:])[0]

    def denoise(self, x_CHW: Tensor, time: float) -> Tensor:
        """Prediction [C, H, W] of a picture noised at a level, after the document so far."""
        other = Document(self.model, self.layout, ())
        other.places, other.latents = list(self.places), list(self.latents)
        other.add_picture(x_CHW)
        hidden_SD, kept, batch = other.hidden([0.0] * len(self.latents) + [time])
        codec = self.model.diffusion.codec
        hidden_NPD = hidden_SD[batch.patch_place_M].view(len(other.latents), codec.tokens, -1)
        with torch.no_grad():
            return codec.decode(hidden_NPD, batch.time_N, kept)[-1]


def draw_token(logits_V: Tensor, allowed: set[int], sampling: Sampling, uniform: float) -> int:
    """The likeliest, or the one whose share of [0, 1) the number lies in, in order of the ids."""
    if not sampling.temperature:
        return max(sorted(allowed), key=lambda token: logits_V[token].item())
    highest = max(logits_V[token].item() for token in allowed)
    weight = {
        token: np.exp((logits_V[token].item() - highest) / sampling.temperature)
        for token in allowed
    }
    total = sum(weight.values())
    nucleus, mass = [], 0.0
    for token in sorted(allowed, key=lambda token: (-weight[token], token)):
        if mass < sampling.top_p:
            nucleus.append(token)
            mass += weight[token] / total
    below = 0.0
    for token in sorted(nucleus):
        below += weight[token] / total / mass
        if uniform < below:
            return token
    raise AssertionError("the shares sum to one")


def answer(
    model: MultimodalModel, layout: Layout, prompt: Prompt, sampling: Sampling, index: int
) -> Answer:
    """The answer to prompt number ``index``."""
    rng = np.random.default_rng((sampling.seed, index))
    document = Document(model, layout, prompt.segments)
    answered: list[Segment] = []
    texts: list[int] = []
    spoken = blocks = 0
    stops = prompt.want not in ("text", "free")
    name = prompt.want if stops else prompt.opened
    if name is not None:
        document.open(name)
    codes = set(range(document.next_logits().numel()))
    for block in layout.blocks.values():
        if block.first_code is not None:
            codes -= set(range(block.first_code, block.first_code + block.size))
    words = codes - {layout.pad, layout.bos}
    for block in layout.blocks.values():
        words -= {block.begin, block.end}
    begins = {block.begin: each for each, block in layout.blocks.items()}

    def uniform() -> float:
        return rng.random() if sampling.temperature else 0.0

    def flush() -> None:
        if texts:
            answered.append(TextSegment(np.array(texts)))
            texts.clear()

    while True:
        if name is not None:
            block = _block(document, answered, prompt, name, sampling, rng, uniform)
            answered.append(block)
            blocks += 1
            if stops:
                return tuple(answered)
            document.close(name)
            name = None
        free = prompt.want == "free" and blocks < sampling.max_blocks
        allowed = words | (set(begins) if free else set())
        token = draw_token(document.next_logits(), allowed, sampling, uniform())
        if token == layout.eos:
            flush()
            return tuple(answered)
        document.add_text([token])
        if token in begins:
            flush()
            name = begins[token]
        else:
            texts.append(token)
            spoken += 1
            if spoken == sampling.max_tokens:
                flush()
                return tuple(answered)


def _block(document, answered, prompt, name, sampling, rng, uniform) -> Segment:
    """The inside of a block whose begin token is the document's last place."""
    model, layout = document.model, document.layout
    textless = [s for s in (*prompt.segments, *answered) if not isinstance(s, TextSegment)]
    base = Document(model, layout, tuple(textless))
    base.open(name)
    scale = sampling.guidance
    block = layout.blocks[name]
    if name == layout.diffused:
        dtype = model.autoregressive.output.weight.dtype
        noise = torch.from_numpy(rng.standard_normal(layout.latent_shape, np.float32)).to(dtype)
        chance = [torch.Generator().manual_seed(int(rng.integers(2**63)))]

        def predict(x_NCHW: Tensor, time_N: Tensor) -> Tensor:
            given = document.denoise(x_NCHW[0], time_N[0].item())
            if scale == 1:
                return given[None]
            free = base.denoise(x_NCHW[0], time_N[0].item())
            return (free + scale * (given - free))[None]

        steps, sampler = sampling.steps, sampling.sampler
        drawn = model.diffusion.sample(predict, noise[None], chance, steps, sampler)[0]
        document.add_picture(drawn)
        return ImageSegment(drawn.numpy())
    ids: list[int] = []
    while len(ids) < (block.length or sampling.max_codes):
        logits_V = document.next_logits()
        if scale != 1 and block.length is not None:
            base_V = base.next_logits()
            logits_V = base_V + scale * (logits_V - base_V)
        allowed = set(range(block.first_code, block.first_code + block.size))
        if block.length is None and ids:
            allowed.add(block.end)
        token = draw_token(logits_V, allowed, sampling, uniform())
        if token == block.end:
            break
        ids.append(token - block.first_code)
        for each in (document, base):
            each.add_code(name, ids[-1])
    return CodeSegment(name, np.array(ids))
