"""Seconds to draw pictures and to write text at the demo's size, cached and recomputed, as JSON.

Random weights: what is drawn does not matter for the time. Pictures take 50 DDIM steps without
guidance; text is 256 tokens after a prompt, read once by a cache, or again for every token.

python -m benchmarks.generation [scenes] [tokens]
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.progress import track

from mot_lab.backbones.auxiliary_router import AuxiliaryRouter
from mot_lab.backbones.wiring import parse_arm
from mot_lab.config import StudyConfig, load_study
from mot_lab.data.documents import TextSegment
from mot_lab.data.packing import TEXT_ID, Layout
from mot_lab.environment import environment
from mot_lab.generation.decoder import Decoder
from mot_lab.generation.prompts import Piece, document_piece, token_piece
from mot_lab.generation.tasks import generate_images
from mot_lab.model import MultimodalModel
from mot_lab.tokens.text import fit_text_tokenizer

STUDY = Path(__file__).parent.parent / "experiments" / "openmoji" / "transfusion.yaml"
RESULTS = Path(__file__).parent / "results"
STEPS = 50
CAPTION = 12  # tokens
ROWS = (1, 4)
TARGETS = {"pictures_s": 60.0, "speedup": 5.0}


def main() -> None:
    scenes = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    config = load_study(STUDY)
    arms = [arm.name for arm in config.parsed_arms]
    result = {
        "study": config.name,
        "scenes": scenes,
        "denoising_steps": STEPS,
        "tokens": tokens,
        "targets": TARGETS,
        "arms": {arm: _arm(config, arm, scenes, tokens) for arm in track(arms, "generating")},
        "environment": environment("32-true"),
    }
    text = json.dumps(result, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "generation.json").write_text(text + "\n")
    print(text)


def _arm(config: StudyConfig, arm: str, scenes: int, tokens: int) -> dict[str, object]:
    model, layout = _model(config, arm)
    rng = np.random.default_rng(0)
    captions = [rng.integers(9, 256, CAPTION) for _ in range(scenes)]
    generate_images(model, captions[:2], layout, 0, 2)  # once, to have everything loaded
    pictures = _seconds(lambda: generate_images(model, captions, layout, 0, STEPS))
    texts: dict[str, object] = {}
    for rows in ROWS:
        prompt = document_piece([TextSegment(captions[0])], None, layout)
        cached = _seconds(lambda: _write(model, layout, prompt, rows, tokens))  # noqa: B023
        again = _seconds(lambda: _rewrite(model, layout, prompt, rows, tokens))  # noqa: B023
        texts[f"{rows} rows"] = {
            "cached_s": cached,
            "recomputed_s": again,
            "speedup": again / cached,
            "cached_tokens_per_s": rows * tokens / cached,
        }
    return {"pictures_s": pictures, "text": texts}


def _model(config: StudyConfig, arm: str) -> tuple[MultimodalModel, Layout]:
    interface = config.data.interface()
    torch.manual_seed(0)
    wiring = parse_arm(arm, interface.modalities).wiring
    diffusion = replace(config.model.diffusion, objective="epsilon", sampler="ddim")
    model = MultimodalModel(config.model.backbone, wiring, diffusion, interface).eval()
    generator = torch.Generator().manual_seed(0)
    model.transformer.set_auxiliary_routers(
        {
            f"{layer}/{tower}": AuxiliaryRouter.random(
                module.router.in_features, module.router.out_features, 0.5, generator
            )
            for layer, tower, module in model.transformer.expert_choice()
        }
    )
    names = list(interface.others)
    texts = fit_text_tokenizer(["a red heart"], interface.text_vocabulary, names)
    return model, Layout.of(texts, config.data.row_length, interface)


def _write(model: MultimodalModel, layout: Layout, prompt: Piece, rows: int, tokens: int) -> None:
    """The likeliest tokens, each fed alone."""
    decoder = Decoder(model, layout, rows)
    pieces = dict.fromkeys(range(rows), prompt)
    with model.transformer.routing("causal"):
        for _ in range(tokens):
            chosen = decoder.feed(pieces).argmax(dim=-1).tolist()
            pieces = {row: token_piece([token], [TEXT_ID]) for row, token in enumerate(chosen)}


def _rewrite(model: MultimodalModel, layout: Layout, prompt: Piece, rows: int, tokens: int) -> None:
    """The same, by reading everything so far again for every token."""
    written = [list(prompt.token_S) for _ in range(rows)]
    with model.transformer.routing("causal"):
        for _ in range(tokens):
            pieces = {
                row: token_piece(ids, [TEXT_ID] * len(ids)) for row, ids in enumerate(written)
            }
            chosen = Decoder(model, layout, rows).feed(pieces).argmax(dim=-1).tolist()
            for ids, token in zip(written, chosen, strict=True):
                ids.append(token)


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


if __name__ == "__main__":
    main()
