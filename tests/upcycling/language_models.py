"""Small random Llamas and Qwens, saved as `transformers` saves them.

Shapes: B rows, S positions, V vocabulary.
"""

from pathlib import Path
from typing import Any

import torch
from factories import randomize, text_batch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mot_lab.model import MultimodalModel
from mot_lab.tokens.text import special_tokens

KINDS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
}
WORDS = ["a red fish on blue ground", "two stars above the yellow moon", "in the beginning was"]


def language_model(kind: str, seed: int = 0, **changes: Any) -> nn.Module:
    """With large random weights everywhere."""
    config, network = KINDS[kind]
    model = network(config(**{**SMALL, **changes})).eval()
    randomize(model, seed)
    return model


def save(model: nn.Module, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    return folder


def their_logits(model: nn.Module, tokens_BS: Tensor) -> Tensor:
    """[B, S, V]"""
    with torch.no_grad():
        return model(input_ids=tokens_BS, use_cache=False).logits


def our_logits(net: MultimodalModel, tokens_BS: Tensor) -> Tensor:
    """[B, S, V] of documents that are text alone."""
    batch = text_batch(tokens_BS)
    with torch.no_grad():
        hidden_TD, groups, _ = net.hidden(batch, batch.latents_NCHW)
        return net.autoregressive.logits(groups.restore(hidden_TD)).unflatten(0, tokens_BS.shape)


def random_tokens(vocabulary: int, rows: int = 3, length: int = 20) -> Tensor:
    """int64 [B, S]"""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (rows, length), generator=generator)


def save_tokenizers(folder: Path, ours: Path, modalities: tuple[str, ...] = ("image",)) -> int:
    """A byte-level BPE beside a language model, and the same with our special tokens behind its
    own, for ``data.text.path``; returns how many entries the model's has.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    entries = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(list(special_tokens(modalities)))
    tokenizer.save(str(ours))
    return entries
