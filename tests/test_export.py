"""``mot-lab export``: the same tokens from the export, the same logits in `transformers`.

Shapes: B rows, S positions, V vocabulary.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import give_routers, randomize
from tiny_studies import CODES, TINY_SCENES
from transformers import AutoModelForCausalLM, AutoTokenizer
from upcycling.language_models import our_logits, random_tokens, their_logits

from mot_lab.causal_router import (
    CausalRouter,
    RouterConfig,
    RouterQuality,
    load_router,
    router_path,
    weights_digest,
)
from mot_lab.cli import main
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import DataConfig
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.parsing import from_dict
from mot_lab.plain import plain
from mot_lab.runtime.averaging import ExponentialMovingAverage
from mot_lab.saved import read_saved
from mot_lab.trained import load_trained
from mot_lab.upcycling.start import load_dense

CHAMELEON = {**TINY_SCENES, "image": CODES}
SMALL = {"width": 32, "layers": 2, "heads": 4, "feed_forward_width": 48, "qk_norm": "none"}


def checkpoint(folder: Path, arm: str = "dense", data: Any = CHAMELEON, **backbone: Any) -> Path:
    """As a run would write it: large random weights, and other ones as their averages."""
    model = from_dict(ModelConfig, {"backbone": {**SMALL, **backbone}})
    settings = from_dict(DataConfig, data)
    module = MultimodalModule(model, settings.interface(), arm)
    randomize(module.net, seed=1)
    raw = {name: weight.detach().clone() for name, weight in module.state_dict().items()}
    randomize(module.net, seed=2)
    content: dict[str, Any] = {
        "state_dict": raw,
        "loops": {},
        "global_step": 7,
        MultimodalDataModule.__qualname__: {"config": plain(settings), "seed": 0},
        "callbacks": {
            ExponentialMovingAverage.__qualname__: {
                "averages": {name: w.detach() for name, w in module.named_parameters()}
            }
        },
    }
    module.on_save_checkpoint(content)
    path = folder / "checkpoint.ckpt"
    torch.save(content, path)
    if module.arm.wiring.experts:
        transformer = module.net.transformer
        give_routers(transformer)
        routers = {f"{i}/{tower}": each.auxiliary for i, tower, each in transformer.expert_choice()}
        digest = weights_digest(module.net)
        quality = RouterQuality(1.0, 1.0, 1.0)
        CausalRouter(routers, RouterConfig(), quality, digest, 7).save(router_path(path))
    return path


def command(*arguments: object) -> None:
    main([str(each) for each in arguments])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("arm", ["dense", "mot", "mot_text_moe_4x"])
def test_an_export_generates_what_the_checkpoint_does(
    arm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = checkpoint(tmp_path, arm), tmp_path / "export"
    command("export", path, "--out", out)
    assert f"Written to {out}" in capsys.readouterr().out
    files = {"model.safetensors", "mot_lab.json", "tokenizer.json"}
    if arm == "mot_text_moe_4x":
        files.add("router.safetensors")
        assert load_router(router_path(out)).weights == load_router(router_path(path)).weights
    assert {each.name for each in out.iterdir()} == files
    kept, exported = load_trained(path), load_trained(out)
    assert exported.step == 7 and exported.module.arm == kept.module.arm
    for name, weight in kept.module.state_dict().items():
        assert torch.equal(exported.module.state_dict()[name], weight), name
    prompt = ["--text", "a cat", "--want", "free", "--max-tokens", 12, "--temperature", 1]
    answers = []
    for place in (path, out):
        folder = tmp_path / f"of_{place.stem}"
        command("generate", place, *prompt, "--number", 3, "--out", folder)
        said = capsys.readouterr().out.replace(str(folder), "")
        answers.append((said, [each.read_bytes() for each in sorted(folder.glob("*.png"))]))
    assert answers[0] == answers[1]
    assert len(set(answers[0][0].splitlines())) > 1


def test_a_damaged_export_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = checkpoint(tmp_path), tmp_path / "export"
    command("export", path, "--out", out)
    assert "exists already" in refusal(capsys, "export", path, "--out", out)
    assert "no model that mot-lab exported" in refusal(capsys, "generate", tmp_path, "--text", "a")
    about, weights = (out / "mot_lab.json").read_text(), (out / "model.safetensors").read_bytes()

    def said(settings: str, content: bytes) -> str:
        (out / "mot_lab.json").write_text(settings)
        (out / "model.safetensors").write_bytes(content)
        return refusal(capsys, "generate", out, "--text", "a")

    assert "no whole safetensors file" in said(about, weights[:-9])
    assert "is not of the format" in said("[]", weights)
    values = json.loads(about)
    del values["arm"]
    assert "laid out otherwise than this version reads (KeyError: 'arm')" in said(
        json.dumps(values), weights
    )
    assert "with other tokenizers" in said(
        json.dumps({**json.loads(about), "tokenizers": "0"}), weights
    )
    narrow = json.loads(about)
    narrow["model"]["backbone"]["feed_forward_width"] = 40
    assert "is of shape [96, 32], its settings say [80, 32]" in said(json.dumps(narrow), weights)


KINDS = {
    "LlamaForCausalLM": {"kv_heads": 2},
    "Qwen2ForCausalLM": {"qkv_bias": True, "kv_heads": 1, "norm_eps": 1e-6},
    "Qwen3ForCausalLM": {"qk_norm": "rms", "head_width": 16, "rope_base": 1e6},
}


@pytest.mark.parametrize(("kind", "backbone"), KINDS.items())
def test_dense_goes_back_to_transformers(
    kind: str, backbone: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = checkpoint(tmp_path, **backbone), tmp_path / "export"
    command("export", path, "--out", out, "--format", "transformers")
    assert capsys.readouterr().out.endswith(f"a {kind} of transformers\n")
    ours, theirs = load_trained(path), AutoModelForCausalLM.from_pretrained(out).eval()
    assert type(theirs).__name__ == kind
    tokens_BS = random_tokens(ours.data.interface.vocab_size)
    expected_BSV = our_logits(ours.module.net, tokens_BS)
    assert expected_BSV.std() > 0.3
    assert (their_logits(theirs, tokens_BS) - expected_BSV).abs().max() <= 1e-5
    tokenizer = AutoTokenizer.from_pretrained(out)
    text = "a red heart, é"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ours.data.texts.encode(text)
    assert tokenizer.eos_token_id == ours.data.texts.eos_id == theirs.config.eos_token_id
    again = load_dense(str(out))
    assert (our_logits(again.net, tokens_BS) - expected_BSV).abs().max() <= 1e-5
    assert again.text_ids == ours.data.texts.ids()


@pytest.mark.parametrize(
    ("arm", "data", "backbone", "said"),
    [
        ("mot", CHAMELEON, {}, "arm mot has several towers or experts"),
        ("moe_4x", CHAMELEON, {}, "arm moe_4x has several towers or experts"),
        ("dense", TINY_SCENES, {}, "image is denoised (setting transfusion)"),
        ("dense", CHAMELEON, {"norm": "post"}, "norm is post"),
        ("dense", CHAMELEON, {"qk_norm": "layer"}, "qk_norm is layer (Chameleon's)"),
        ("dense", CHAMELEON, {"qk_norm": "rms", "qk_norm_eps": 1e-3}, "qk_norm_eps 0.001 is not"),
        ("dense", CHAMELEON, {"qk_norm": "rms", "qkv_bias": True}, "qkv_bias comes with qk_norm"),
    ],
)
def test_what_transformers_has_no_counterpart_of_is_refused(
    arm: str,
    data: Any,
    backbone: dict[str, Any],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, out = checkpoint(tmp_path, arm, data, **backbone), tmp_path / "export"
    message = refusal(capsys, "export", path, "--out", out, "--format", "transformers")
    assert said in message and "only Dense" in message
    assert not out.exists()


def test_settings_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    path, out = checkpoint(tmp_path), tmp_path / "export"
    command("export", path, "--out", out)
    kept, exported = read_saved(path), read_saved(out)
    same = {"path": path, "weights": kept.weights, "tokenizers": None}
    assert replace(exported, **same) == kept  # type: ignore[arg-type]
