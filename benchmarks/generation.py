"""Seconds to draw pictures and to write text at the demo's size, as JSON.

Random weights: what is drawn does not matter for the time, but how many experts a token goes to
does: the routers' thresholds are set so that it is one on average, as in training. Pictures take 50
DDIM steps without guidance. Text is the likeliest tokens after a prompt, in three ways that take
turns in each round: by `generate`, which reads every place once; by reading everything again for
each token (timed for every 16th: the time depends on nothing but the length); and by transformers'
`generate` with the Llama of equal shape and its default cache. One thread.

python -m benchmarks.generation [rounds] [tokens] [scenes]
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.progress import track

from benchmarks.results_file import keep
from mot_lab.backbones.auxiliary_router import AuxiliaryRouter
from mot_lab.backbones.wiring import parse_arm
from mot_lab.config import StudyConfig, load_study
from mot_lab.data.documents import TextSegment
from mot_lab.data.packing import TEXT_ID, Layout
from mot_lab.environment import environment
from mot_lab.generation.decoder import Decoder
from mot_lab.generation.prompts import document_piece, token_piece
from mot_lab.generation.tasks import generate_images, generate_texts
from mot_lab.generation.writer import Vocabulary
from mot_lab.model import MultimodalModel
from mot_lab.tokens.text import fit_text_tokenizer

STUDY = Path(__file__).parent.parent / "experiments" / "openmoji" / "transfusion.yaml"
STEPS = 50
CAPTION = 12  # tokens
ROWS = (1, 4)
TARGETS = {"pictures_s": 60.0, "speedup": 5.0, "of_llama": 1.0}
AGAIN = 16
TOKENS_SEEN = 128  # by which thresholds are set
Texts = list[list[int]]
Write = Callable[[np.ndarray, int, int], Texts]  # prompt, rows, tokens


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]]
    rounds, tokens, scenes = (*numbers, *(5, 256, 64)[len(numbers) :])
    torch.set_num_threads(1)
    config = load_study(STUDY)
    arms = [arm.name for arm in config.parsed_arms]
    models = {arm: _model(config, arm) for arm in arms}
    rng = np.random.default_rng(0)
    captions = [rng.integers(9, 256, CAPTION) for _ in range(scenes)]
    result = {
        "study": config.name,
        "rounds": rounds,
        "scenes": scenes,
        "denoising_steps": STEPS,
        "tokens": tokens,
        "targets": TARGETS,
        "text": {
            f"{rows} rows": _texts(models, captions[0], rows, tokens, rounds) for rows in ROWS
        },
        "pictures_s": {arm: _pictures(*models[arm], captions) for arm in arms},
        "environment": environment("32-true"),
    }
    keep("generation", result)


def _pictures(model: MultimodalModel, layout: Layout, captions: list[np.ndarray]) -> float:
    generate_images(model, captions[:2], layout, 0, 2)  # once, to have everything loaded
    began = perf_counter()
    generate_images(model, captions, layout, 0, STEPS)
    return perf_counter() - began


def _texts(
    models: dict[str, tuple[MultimodalModel, Layout]],
    prompt: np.ndarray,
    rows: int,
    tokens: int,
    rounds: int,
) -> dict[str, object]:
    """Milliseconds of a step (a token of every row) in every way, and their ratios in a round."""
    first, _ = next(iter(models.values()))
    ways = {"llama": _llama(first)} | {arm: _cached(*models[arm]) for arm in models}
    times: dict[str, list[float]] = {name: [] for name in (*ways, *map(_again, models))}
    same = dict.fromkeys(models, True)
    for write in ways.values():
        write(prompt, rows, 2)  # once, to have everything loaded
    for _ in track(range(rounds), f"{rows} rows"):
        for name, write in ways.items():
            began = perf_counter()
            texts = write(prompt, rows, tokens)
            times[name].append((perf_counter() - began) / tokens)
            assert [len(text) for text in texts] == [tokens] * rows, name
            if name in models:
                began = perf_counter()
                chosen = _recomputed(*models[name], prompt, texts)
                times[_again(name)].append((perf_counter() - began) / len(chosen))
                same[name] &= chosen == list(zip(*texts, strict=True))[::AGAIN]
    ms = {name: 1000 * np.array(seconds) for name, seconds in times.items()}
    return {
        "llama_ms": _spread(ms["llama"]),
        "arms": {
            arm: {
                "cached_ms": _spread(ms[arm]),
                "recomputed_ms": _spread(ms[_again(arm)]),
                "speedup": _spread(ms[_again(arm)] / ms[arm]),
                "of_llama": _spread(ms[arm] / ms["llama"]),
                "same_text": same[arm],
            }
            for arm in models
        },
    }


def _again(arm: str) -> str:
    return f"{arm} again"


def _spread(values: np.ndarray) -> dict[str, float]:
    return {name: float(getattr(np, name)(values)) for name in ("median", "min", "max")}


def _model(config: StudyConfig, arm: str) -> tuple[MultimodalModel, Layout]:
    interface = config.data.interface()
    torch.manual_seed(0)
    wiring = parse_arm(arm, interface.modalities).wiring
    diffusion = replace(config.model.diffusion, objective="epsilon", sampler="ddim")
    model = MultimodalModel(config.model.backbone, wiring, diffusion, interface).eval()
    names = list(interface.others)
    texts = fit_text_tokenizer(["a red heart"], interface.text_vocabulary, names)
    layout = Layout.of(texts, config.data.row_length, interface)
    with torch.no_grad():
        model.autoregressive.output.weight[layout.eos] = 0  # never the likeliest: none ends early
    _set_routers(model, layout)
    return model, layout


@torch.inference_mode()
def _set_routers(model: MultimodalModel, layout: Layout) -> None:
    """Random routers by which a token of text goes to one expert on average."""
    experts = model.transformer.expert_choice()
    generator = torch.Generator().manual_seed(0)
    seen: dict[str, torch.Tensor] = {}
    for layer, tower, module in experts:
        name = f"{layer}/{tower}"
        module.register_forward_pre_hook(lambda _, x, name=name: seen.__setitem__(name, x[0]))
    token_S = np.random.default_rng(1).integers(9, 256, TOKENS_SEEN).tolist()
    Decoder(model, layout, 1).feed({0: token_piece(token_S, [TEXT_ID] * TOKENS_SEEN)})
    routers = {}
    for layer, tower, module in experts:
        name, count = f"{layer}/{tower}", module.router.out_features
        module._forward_pre_hooks.clear()
        router = AuxiliaryRouter.random(module.router.in_features, count, 0.5, generator)
        scores_TE = router.logits(seen[name]).sigmoid()
        routers[name] = replace(router, threshold=float(scores_TE.quantile(1 - 1 / count)))
    model.transformer.set_auxiliary_routers(routers)


def _cached(model: MultimodalModel, layout: Layout) -> Write:
    def write(prompt: np.ndarray, rows: int, tokens: int) -> Texts:
        return generate_texts(model, [(TextSegment(prompt),)] * rows, layout, tokens)

    return write


@torch.inference_mode()
def _recomputed(
    model: MultimodalModel, layout: Layout, prompt: np.ndarray, texts: Texts
) -> list[tuple[int, ...]]:
    """What every 16th token of texts is when everything before it is read again."""
    vocabulary = Vocabulary(layout, model.autoregressive.output.out_features, torch.device("cpu"))
    barred_1V = vocabulary.barred([(None, False)])
    begun = document_piece([TextSegment(prompt)], None, layout).token_S.tolist()
    chosen = []
    with model.transformer.routing("causal"):
        for length in range(0, len(texts[0]), AGAIN):
            ids = [begun + text[:length] for text in texts]
            pieces = {row: token_piece(each, [TEXT_ID] * len(each)) for row, each in enumerate(ids)}
            logits_RV = Decoder(model, layout, len(texts)).feed(pieces)
            chosen.append(tuple(logits_RV.masked_fill(barred_1V, -torch.inf).argmax(-1).tolist()))
    return chosen


def _llama(model: MultimodalModel) -> Write:
    """Of the same width, layers, heads, hidden width and vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.transformer.config
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=model.autoregressive.output.out_features,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    ).eval()

    def write(prompt: np.ndarray, rows: int, tokens: int) -> Texts:
        token_BS = torch.from_numpy(prompt).expand(rows, -1)
        token_BS = llama.generate(token_BS, max_new_tokens=tokens, do_sample=False)
        return token_BS[:, len(prompt) :].tolist()

    return write


if __name__ == "__main__":
    main()
