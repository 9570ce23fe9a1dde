"""Language models of `transformers`, Llama and Qwen, as Dense: one tower, whose modality is text.

What the backbone has no counterpart of is refused, by key and value of ``config.json``. Tied
embeddings become two equal matrices; training may move them apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import parse_arm
from mot_lab.data.interface import TEXT, DataInterface
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.model import MultimodalModel
from mot_lab.parsing import one_line

QK_NORM = {"llama": "none", "qwen2": "none", "qwen3": "rms"}
FULL = "full_attention"
NEEDED: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,  # Llama's and Qwen3's, of O as well
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "use_sliding_window": False,
    "layer_types": [FULL],
    "quantization_config": None,
}
NEEDED_ROPE: dict[str, Any] = {"rope_type": "default", "partial_rotary_factor": 1.0}
OLD_BUFFER = "rotary_emb.inv_freq"  # saved with the first Llamas; computed, no weight


def load_language_model(folder: Path) -> MultimodalModel:
    """The model of a folder that `transformers` saved (safetensors, whole or in shards), as Dense.

    Returns:
        in fp32, for the modality text and a vocabulary of as many entries as the checkpoint has.

    Raises:
        ValueError: no such model, one that the backbone cannot represent, or missing weights.
    """
    config = _read_config(folder)
    backbone = backbone_of(config, folder)
    weights = _dense_weights(_read_weights(folder), backbone)
    interface = DataInterface(config.vocab_size, {})
    with torch.device("meta"):
        wiring = parse_arm("dense", interface.modalities).wiring
        net = MultimodalModel(backbone, wiring, DiffusionConfig(), interface)
    net.load_state_dict(weights, assign=True)
    return net.requires_grad_().eval()


def language_model_backbone(folder: Path) -> TransformerConfig:
    """The backbone that a language model needs, from its ``config.json`` alone.

    Raises:
        ValueError: as `load_language_model`.
    """
    return backbone_of(_read_config(folder), folder)


def special_rows(folder: Path) -> dict[str, int]:
    """Entries of the vocabulary that the model itself takes for ours, by our name."""
    config = _read_config(folder)
    found = {}
    for ours, theirs in (("<pad>", "pad"), ("<bos>", "bos"), ("<eos>", "eos")):
        row = getattr(config, f"{theirs}_token_id", None)
        row = row[0] if isinstance(row, list) and row else row
        if isinstance(row, int) and 0 <= row < config.vocab_size:
            found[ours] = row
    return found


def backbone_of(config: Any, where: object) -> TransformerConfig:
    """The backbone that has a `transformers` configuration's function.

    Raises:
        ValueError: names the key and the value that it has no counterpart of.
    """
    if config.model_type not in QK_NORM:
        raise ValueError(
            f"{where}: model_type {config.model_type!r} must be one of {', '.join(QK_NORM)}"
        )
    rope, values = dict(config.rope_parameters), config.to_dict()
    values["layer_types"] = sorted(set(values.get("layer_types") or [FULL]))
    for found, needed in ((values, NEEDED), (rope, NEEDED_ROPE)):
        for key, only in needed.items():
            if key in found and found[key] != only:
                raise ValueError(
                    f"{where}: {key} {found[key]!r} has no counterpart in the backbone; it can "
                    f"only be {only!r}"
                )
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = config.num_key_value_heads
    try:
        return TransformerConfig(
            width=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=None if kv_heads == heads else kv_heads,
            head_width=None if head_width * heads == config.hidden_size else head_width,
            qkv_bias=config.model_type == "qwen2",
            feed_forward_width=config.intermediate_size,
            norm="pre",
            norm_eps=config.rms_norm_eps,
            qk_norm=QK_NORM[config.model_type],  # type: ignore[arg-type]
            qk_norm_eps=config.rms_norm_eps,
            rope_base=float(rope["rope_theta"]),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _read_config(folder: Path) -> Any:
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise ValueError(
            f"language models need transformers: pip install transformers ({error})"
        ) from error
    try:
        return AutoConfig.from_pretrained(folder)
    except Exception as error:  # transformers validates with errors of many kinds
        raise ValueError(
            f"no configuration of a language model at {folder}: {one_line(error)}"
        ) from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Under the names of `transformers`, tied embeddings under both of theirs."""
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # safetensors and transformers have errors of many kinds
        raise ValueError(
            f"no whole language model in safetensors at {folder}: {one_line(error)}"
        ) from error
    model, found = loaded
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(each) for each in found.get(what, ()) if OLD_BUFFER not in str(each))
        if names:
            raise ValueError(
                f"no whole language model at {folder}: {len(names)} {what.replace('_', ' ')}, "
                f"like {names[0]}"
            )
    return dict(model.state_dict())


def _dense_weights(theirs: Mapping[str, Tensor], backbone: TransformerConfig) -> dict[str, Tensor]:
    """Under the names of a Dense network: Q, K and V are one matrix, gate and up another."""
    ours = {
        "autoregressive.embedding.weight": theirs["model.embed_tokens.weight"].clone(),
        "autoregressive.output.weight": theirs["lm_head.weight"].clone(),
        f"transformer.final_norm.tower.{TEXT}.weight": theirs["model.norm.weight"],
    }
    for layer in range(backbone.layers):
        for name, parts in layer_names(layer, backbone).items():
            ours[name] = torch.cat([theirs[part] for part in parts])
    return ours


def layer_names(
    layer: int, backbone: TransformerConfig, tower: str = TEXT
) -> dict[str, tuple[str, ...]]:
    """Our name of every weight of a layer, and theirs of which it is the concatenation."""
    ours, theirs = f"transformer.blocks.{layer}", f"model.layers.{layer}"
    attention = [f"{theirs}.self_attn.{each}_proj" for each in "qkv"]
    names = {
        f"{ours}.attention.qkv.tower.{tower}.weight": [f"{each}.weight" for each in attention],
        f"{ours}.attention.out.tower.{tower}.weight": [f"{theirs}.self_attn.o_proj.weight"],
        f"{ours}.attention_norm.tower.{tower}.weight": [f"{theirs}.input_layernorm.weight"],
        f"{ours}.feed_forward.tower.{tower}.gate_up.weight": [
            f"{theirs}.mlp.gate_proj.weight",
            f"{theirs}.mlp.up_proj.weight",
        ],
        f"{ours}.feed_forward.tower.{tower}.down.weight": [f"{theirs}.mlp.down_proj.weight"],
        f"{ours}.feed_forward_norm.tower.{tower}.weight": [
            f"{theirs}.post_attention_layernorm.weight"
        ],
    }
    if backbone.qkv_bias:
        names[f"{ours}.attention.qkv.tower.{tower}.bias"] = [f"{each}.bias" for each in attention]
    if backbone.qk_norm != "none":
        norm = f"{ours}.attention.qk_norm.tower.{tower}"
        names[f"{norm}.query.weight"] = [f"{theirs}.self_attn.q_norm.weight"]
        names[f"{norm}.key.weight"] = [f"{theirs}.self_attn.k_norm.weight"]
    return {name: tuple(parts) for name, parts in names.items()}
