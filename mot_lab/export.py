"""A trained model as files that others read: safetensors and settings for mot-lab, or, of Dense, a
language model of `transformers`.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mot_lab.plain import plain
from mot_lab.runtime.files import whole_folder, write_json
from mot_lab.saved import FORMAT, SETTINGS, WEIGHTS, read_saved
from mot_lab.trained import Trained, load_trained
from mot_lab.upcycling.language_model import layer_names
from mot_lab.upcycling.towers import is_dense


def export_model(path: Path, out: Path) -> None:
    """Write the weights that generate, their settings, the text tokenizer and, for an arm with
    experts, the causal router, to a new folder; `load_trained` reads it.

    Args:
        path: of a checkpoint, or of an earlier export.
        out: the folder.

    Raises:
        ValueError: no whole checkpoint, or the folder exists.
    """
    saved, trained = read_saved(path), load_trained(path)
    about = {
        "format": FORMAT,
        "arm": plain(saved.arm),
        "step": saved.step,
        "model": plain(saved.model),
        "data": plain(saved.data),
        "tokenizers": trained.data.key,
    }
    with whole_folder(out) as folder:
        weights = {name: each.contiguous() for name, each in _state(trained).items()}
        save_file(weights, folder / WEIGHTS, {"format": "pt"})
        write_json(folder / SETTINGS, about)
        trained.data.texts.save(folder / "tokenizer.json")
        if trained.router is not None:
            trained.router.save(folder / "router.safetensors")


def export_language_model(path: Path, out: Path) -> str:
    """Write Dense as a model that ``AutoModelForCausalLM`` loads, its tokenizer beside it.

    Codes of pictures and speech are entries of its vocabulary like others.

    Returns:
        the class of `transformers`.

    Raises:
        ValueError: no whole checkpoint, a model that `transformers` has no counterpart of (which
            setting is said), or the folder exists.
    """
    trained = load_trained(path)
    config = transformers_config(trained)
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(_their_weights(trained), strict=True, assign=True)
    with whole_folder(out) as folder:
        model.save_pretrained(folder)
        trained.data.texts.save(folder / "tokenizer.json")
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            bos_token="<bos>",
            eos_token="<eos>",
            pad_token="<pad>",
        )
        tokenizer.save_pretrained(folder)
    return type(model).__name__


def transformers_config(trained: Trained) -> Any:
    """The configuration of `transformers` that has the model's function.

    Raises:
        ValueError: there is none; says which setting is in the way.
    """
    module, interface = trained.module, trained.data.interface
    backbone = module.config.backbone
    for reason, met in {
        f"arm {module.arm.name} has several towers or experts": is_dense(module.arm.wiring),
        f"{interface.diffused} is denoised (setting transfusion)": interface.diffused is None,
        f"norm is {backbone.norm}": backbone.norm == "pre",
        "qk_norm is layer (Chameleon's)": backbone.qk_norm != "layer",
        "qkv_bias comes with qk_norm": not (backbone.qkv_bias and backbone.qk_norm != "none"),
        f"qk_norm_eps {backbone.qk_norm_eps} is not norm_eps {backbone.norm_eps}": (
            backbone.qk_norm == "none" or backbone.qk_norm_eps == backbone.norm_eps
        ),
    }.items():
        if not met:
            raise ValueError(
                f"{reason}, which no Llama or Qwen of transformers has: only Dense with codes, "
                f"norm pre and qk_norm none or rms can be exported to it; leave out --format"
            )
    from transformers import LlamaConfig, Qwen2Config, Qwen3Config

    kind: Any = Qwen3Config if backbone.qk_norm == "rms" else LlamaConfig
    if backbone.qkv_bias:
        kind = Qwen2Config
    heads, kv_heads, head_width = backbone.head_shape
    layout = trained.data.layout
    return kind(
        vocab_size=interface.vocab_size,
        hidden_size=backbone.width,
        intermediate_size=backbone.hidden,
        num_hidden_layers=backbone.layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_width,
        rms_norm_eps=backbone.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": backbone.rope_base},
        max_position_embeddings=layout.length,
        tie_word_embeddings=False,
        pad_token_id=layout.pad,
        bos_token_id=layout.bos,
        eos_token_id=layout.eos,
    )


def _their_weights(trained: Trained) -> dict[str, Tensor]:
    """Under the names of `transformers`."""
    net, backbone = trained.module.net, trained.module.config.backbone
    ours = {name: weight.detach().cpu() for name, weight in net.state_dict().items()}
    (tower,) = net.transformer.final_norm.tower
    heads, kv_heads, head_width = backbone.head_shape
    theirs = {
        "model.embed_tokens.weight": ours["autoregressive.embedding.weight"],
        "lm_head.weight": ours["autoregressive.output.weight"],
        "model.norm.weight": ours[f"transformer.final_norm.tower.{tower}.weight"],
    }
    sizes = {
        3: [heads * head_width, kv_heads * head_width, kv_heads * head_width],
        2: [backbone.hidden, backbone.hidden],
    }
    for layer in range(backbone.layers):
        for name, parts in layer_names(layer, backbone, tower).items():
            whole = ours[name]
            split = whole.split(sizes[len(parts)]) if len(parts) > 1 else [whole]
            theirs |= {part: each.clone() for part, each in zip(parts, split, strict=True)}
    return theirs


def _state(trained: Trained) -> dict[str, Tensor]:
    return {name: weight.cpu() for name, weight in trained.module.state_dict().items()}
