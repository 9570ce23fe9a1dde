"""Llamas and Qwens of `transformers`, saved as it saves them and loaded as Dense."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from factories import assert_close
from upcycling.language_models import (
    SMALL,
    language_model,
    our_logits,
    random_tokens,
    save,
    their_logits,
)

from mot_lab.upcycling.language_model import (
    language_model_backbone,
    load_language_model,
    special_rows,
)
from mot_lab.upcycling.start import local_path, start_digest

GROUPED = {"num_key_value_heads": 2, "tie_word_embeddings": True}
WHOLE = {"num_key_value_heads": 4, "tie_word_embeddings": False}
# Heads that are wider than their share of the width, a feed-forward narrower than 8/3 of it.
OTHER = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 6, "rms_norm_eps": 1e-5}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", WHOLE),
    "llama grouped tied": ("llama", {**GROUPED, **OTHER, "head_dim": 8}),
    "llama grouped untied": ("llama", {**WHOLE, "num_key_value_heads": 1}),
    "qwen2": ("qwen2", WHOLE),
    "qwen2 grouped tied": ("qwen2", {**GROUPED, **OTHER}),
    "qwen3": ("qwen3", {**WHOLE, "head_dim": 8}),
    "qwen3 grouped tied": ("qwen3", {**GROUPED, **OTHER, "head_dim": 8}),
}


@pytest.mark.parametrize(("kind", "changes"), CASES.values(), ids=CASES.keys())
def test_logits_are_those_of_transformers(
    kind: str, changes: dict[str, Any], tmp_path: Path, record_property: Any
) -> None:
    theirs = language_model(kind, **changes)
    ours = load_language_model(save(theirs, tmp_path))
    tokens_BS = random_tokens(SMALL["vocab_size"])
    expected_BSV, logits_BSV = their_logits(theirs, tokens_BS), our_logits(ours, tokens_BS)
    assert expected_BSV.std() > 0.3
    largest = (logits_BSV - expected_BSV).abs().max().item()
    record_property("largest_difference", largest)
    assert_close(logits_BSV, expected_BSV, 1e-5)
    tied = torch.equal(ours.autoregressive.embedding.weight, ours.autoregressive.output.weight)
    assert tied == changes["tie_word_embeddings"]
    pointers = {weight.data_ptr() for weight in ours.parameters()}
    assert len(pointers) == len(list(ours.parameters()))  # nothing is shared, all may be trained


def test_shards_and_an_older_configuration_give_the_same_model(tmp_path: Path) -> None:
    theirs = language_model("llama", **GROUPED)
    whole = load_language_model(save(theirs, tmp_path / "whole"))
    folder = save(theirs, tmp_path / "shards", max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"], config["head_dim"]
    config |= {"rope_theta": 500_000.0, "rope_scaling": None}  # as before transformers 5
    (folder / "config.json").write_text(json.dumps(config))
    sharded = load_language_model(folder)
    assert sharded.transformer.config == whole.transformer.config
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, sharded.get_parameter(name)), name


def test_the_backbone_is_known_without_the_weights(tmp_path: Path) -> None:
    folder = save(language_model("qwen3", **GROUPED, head_dim=16), tmp_path)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    backbone = language_model_backbone(folder)
    assert (backbone.width, backbone.head_shape) == (32, (4, 2, 16))
    assert (backbone.hidden, backbone.qk_norm, backbone.qkv_bias) == (72, "rms", False)
    assert (backbone.norm_eps, backbone.qk_norm_eps, backbone.rope_base) == (1e-6, 1e-6, 5e5)
    assert special_rows(folder) == {"<bos>": 1, "<eos>": 2}


LLAMA_3_1 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu' has no counterpart"),
        ("llama", {"attention_bias": True}, "attention_bias True has no counterpart"),
        ("qwen3", {"attention_bias": True}, "attention_bias True has no counterpart"),
        ("llama", {"mlp_bias": True}, "mlp_bias True has no counterpart"),
        ("llama", {"rope_parameters": LLAMA_3_1}, "rope_type 'llama3' has no counterpart"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
            "use_sliding_window True has no counterpart",
        ),
        ("qwen3", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_its_key(
    kind: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = save(language_model(kind, **changes), tmp_path)
    with pytest.raises(ValueError, match=said) as refused:
        load_language_model(folder)
    assert str(folder) in str(refused.value)


def test_other_models_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    folder = save(language_model("llama"), tmp_path / "model")
    (file,) = folder.glob("*.safetensors")
    content, config = file.read_bytes(), (folder / "config.json").read_text()
    faults: dict[str, tuple[bytes, str]] = {
        "no whole language model in safetensors": (content[:-100], config),
        "model_type 'gpt2' must be one of llama, qwen2, qwen3": (content, '{"model_type": "gpt2"}'),
        "no configuration of a language model": (content, "{"),
        "configuration of a language model at .*'hidden_size'": (
            content,
            config.replace('"hidden_size": 32', '"hidden_size": "wide"'),
        ),
        "missing keys, like model.layers.2": (
            content,
            config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'),
        ),
    }
    for said, (weights, settings) in faults.items():
        file.write_bytes(weights)
        (folder / "config.json").write_text(settings)
        with pytest.raises(ValueError, match=said):
            load_language_model(folder)


def test_a_hub_id_is_found_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's client lays it out; nothing is downloaded."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--somebody--small-llama"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    folder = save(language_model("llama"), kept / "snapshots" / ("0" * 40))
    assert local_path("somebody/small-llama").resolve() == folder.resolve()
    before = start_digest(str(folder))
    assert start_digest("somebody/small-llama") == before
    with pytest.raises(ValueError, match="'somebody/nothing', a hub id"):
        local_path("somebody/nothing")
    with pytest.raises(ValueError, match="no model to start from at '/no/such/place'"):
        local_path("/no/such/place")
