"""One `generate` for every setting and arm: prompts and answers mix text, pictures and speech.

Experts are routed causally: training routing looks at later tokens and at other prompts. Every
place is computed once; a picture that is denoised is written into the cache from its clean latents
after its last step, and only if something follows it.

Shapes: R rows of a step, K of these that take a token, V vocabulary, N pictures, C x H x W latents.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from mot_lab.backbones.transformer import NO_CAUSAL_ROUTING
from mot_lab.data.documents import Segment
from mot_lab.data.packing import Layout
from mot_lab.generation.decoder import Decoder
from mot_lab.generation.prompts import Piece, Prompt
from mot_lab.generation.sampling import Sampling, choose
from mot_lab.generation.writer import Vocabulary, Writer
from mot_lab.model import MultimodalModel

GENERATE_BATCH = 64
Answer = tuple[Segment, ...]


def why_not(model: MultimodalModel) -> str | None:
    """The reason why a model cannot generate, or None where it can."""
    return None if model.transformer.can_route_causally() else NO_CAUSAL_ROUTING


@torch.inference_mode()
def generate(
    model: MultimodalModel,
    layout: Layout,
    prompts: Sequence[Prompt],
    sampling: Sampling | None = None,
    label: str = "",
) -> list[Answer]:
    """The answer to each prompt, up to the end of its document, what is wanted, or a limit.

    Args:
        model: of any arm; one with experts needs its causal routers.
        layout: of documents.
        prompts: of any kinds and lengths, mixed as one likes.
        sampling: how answers are drawn; by default the likeliest text, pictures without guidance.
        label: shown by the progress bar; none without it.

    Returns:
        segments in reading order, without special tokens; latents in the precision of the weights.

    Raises:
        ValueError: the model has experts and no causal routers, a prompt does not fit the layout,
            or the sampler is not one of the model's objective.
    """
    sampling = sampling or Sampling()
    output = model.autoregressive.output
    vocabulary = Vocabulary(layout, output.out_features, output.weight.device)
    for prompt in prompts:
        prompt.check(layout, vocabulary.text)
    answers: list[Answer] = []
    with model.transformer.routing("causal"):
        starts = range(0, len(prompts), GENERATE_BATCH)
        for start in track(starts, description=label, disable=not label):
            writers = [
                Writer(prompt, layout, sampling, start + i)
                for i, prompt in enumerate(prompts[start : start + GENERATE_BATCH])
            ]
            _Batch(model, vocabulary, writers, sampling).run()
            answers += [tuple(writer.answer) for writer in writers]
    return answers


class _Batch:
    """Prompts answered together, each in a row of the decoder; rows that are done drop out.

    ``unconditional`` reads, in the same rows, what guidance compares a picture with.
    """

    def __init__(
        self,
        model: MultimodalModel,
        vocabulary: Vocabulary,
        writers: list[Writer],
        sampling: Sampling,
    ) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.writers = writers
        self.sampling = sampling
        self.decoder = Decoder(model, vocabulary.layout, len(writers))
        self.unconditional: Decoder | None = None
        if sampling.guidance != 1:
            self.unconditional = Decoder(model, vocabulary.layout, len(writers))

    def run(self) -> None:
        pieces = {row: writer.first_piece() for row, writer in enumerate(self.writers)}
        while pieces:
            logits_RV = self._read(pieces)
            drawing = [row for row in pieces if self.writers[row].draws]
            writing = [row for row in pieces if not self.writers[row].draws]
            next_pieces = {}
            if writing:
                if drawing:
                    at_K = [i for i, row in enumerate(pieces) if not self.writers[row].draws]
                    logits_RV = logits_RV[at_K]
                for row, token in zip(writing, self._choose(logits_RV, writing), strict=True):
                    next_pieces[row] = self.writers[row].take(token)
            if drawing:
                latents_NCHW = self._draw(drawing).cpu().numpy()
                for row, latents_CHW in zip(drawing, latents_NCHW, strict=True):
                    next_pieces[row] = self.writers[row].take_picture(latents_CHW)
            pieces = {row: each for row, each in next_pieces.items() if not self.writers[row].done}

    def _read(self, pieces: Mapping[int, Piece]) -> Tensor:
        """Next-token logits [R, V], guided inside pictures of codes."""
        logits_RV = self.decoder.feed(pieces)
        if self.unconditional is None:
            return logits_RV
        beside = {}
        for row, piece in pieces.items():
            writer = self.writers[row]
            if writer.guided and writer.begins_block:
                self.unconditional.restart(row)
                beside[row] = writer.unconditional_piece()
            elif writer.guided:
                beside[row] = piece
        if beside:
            base_KV = self.unconditional.feed(beside)
            place_K = torch.tensor([i for i, row in enumerate(pieces) if row in beside])
            place_K = place_K.to(logits_RV.device)
            guided_KV = base_KV + self.sampling.guidance * (logits_RV[place_K] - base_KV)
            logits_RV = logits_RV.index_copy(0, place_K, guided_KV)
        return logits_RV

    def _choose(self, logits_KV: Tensor, rows: Sequence[int]) -> list[int]:
        writers = [self.writers[row] for row in rows]
        barred_KV = self.vocabulary.barred([each.state() for each in writers])
        logits_KV = logits_KV.masked_fill(barred_KV, -torch.inf)
        uniform = [each.rng.random() for each in writers] if self.sampling.temperature else []
        return choose(logits_KV, self.sampling, uniform).tolist()

    def _draw(self, rows: Sequence[int]) -> Tensor:
        """Latents [N, C, H, W] of the pictures that were opened in some rows."""
        head = self.model.diffusion
        assert head is not None
        predict = conditional = self.decoder.denoiser(rows)
        if self.unconditional is not None:
            # `_read` has fed it with what stands before the pictures.
            unconditional, scale = self.unconditional.denoiser(rows), self.sampling.guidance

            def predict(x_NCHW: Tensor, time_N: Tensor) -> Tensor:
                base_NCHW = unconditional(x_NCHW, time_N)
                return base_NCHW + scale * (conditional(x_NCHW, time_N) - base_NCHW)

        rngs = [self.writers[row].rng for row in rows]
        noise = np.stack([rng.standard_normal(head.latent_shape, np.float32) for rng in rngs])
        weight = self.model.autoregressive.output.weight
        noise_NCHW = torch.from_numpy(noise).to(weight)
        generators = [torch.Generator().manual_seed(int(rng.integers(2**63))) for rng in rngs]
        return head.sample(
            predict, noise_NCHW, generators, self.sampling.steps, self.sampling.sampler
        )
