"""VQ models of others: a diffusers VQModel, Chameleon's alone, in a Chameleon, with a decoder."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from coloured_squares import CANVAS, forbidden, squares
from diffusers import AutoencoderKL, VQModel
from diffusers.models.autoencoders.vae import Decoder
from safetensors.torch import load_file, save_file
from transformers import ChameleonConfig, ChameleonForConditionalGeneration, ChameleonVQVAE
from transformers.models.chameleon.configuration_chameleon import ChameleonVQVAEConfig

from evaluation.metrics.evaluators import load_evaluators
from mot_lab.config import EvaluationConfig
from mot_lab.tokens.image import ImageTokenizerConfig, load_image_tokenizer
from mot_lab.tokens.pictures import to_bytes, to_unit_range
from mot_lab.tokens.vq import VQTokenizer
from mot_lab.tokens.vq_chameleon import ChameleonDecoder, ChameleonVQ, ChameleonVQTokenizer

CODES = np.random.default_rng(0).integers(0, 12, (3, 64))
MISSING = "1 weights are missing, like quantize[.]embedding[.]weight"


def load(path: Path, subfolder: str = "") -> VQTokenizer:
    config = ImageTokenizerConfig(kind="vq", path=str(path), subfolder=subfolder)
    tokenizer = load_image_tokenizer(config, CANVAS, forbidden, "")
    assert isinstance(tokenizer, VQTokenizer)
    assert (tokenizer.size, tokenizer.length) == config.codes(CANVAS) == (12, 64)
    return tokenizer


def chameleon_config(**changes: object) -> ChameleonVQVAEConfig:
    values = {
        "embed_dim": 6,
        "num_embeddings": 12,
        "latent_channels": 8,
        "resolution": CANVAS,
        "base_channels": 32,
        "channel_multiplier": [1, 2],
        "num_res_blocks": 1,
    }
    return ChameleonVQVAEConfig(**{**values, **changes})


def spread(model: torch.nn.Module) -> None:
    """Weights at random but apart, so that pictures have different codes."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(0, 0.1)


@pytest.mark.parametrize("changes", [{}, {"norm_type": "spatial"}, {"lookup_from_codebook": True}])
def test_a_vq_model_of_diffusers(changes: dict[str, object], tmp_path: Path) -> None:
    model = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 32),
        latent_channels=4,
        num_vq_embeddings=12,
        **changes,
    )
    spread(model)
    model.eval().save_pretrained(tmp_path / "vqvae")
    tokenizer = load(tmp_path, "vqvae")
    images = squares(0, 5)
    with torch.inference_mode():
        latents = model.encode(to_unit_range(torch.from_numpy(images))).latents
        expected = model.quantize(latents)[2][2].view(5, 64)
        grid = model.quantize.embedding(torch.from_numpy(CODES)).view(3, 8, 8, 4)
        quantized = model.quantize(grid.permute(0, 3, 1, 2))[0]  # codes of themselves
        model.register_to_config(lookup_from_codebook=False)
        pixels = model.decode(quantized, force_not_quantize=True).sample
    assert np.array_equal(tokenizer.encode(images), expected.numpy())
    assert len(expected.unique()) > 2
    difference = tokenizer.decode(CODES).astype(int) - to_bytes(pixels).numpy()
    assert np.abs(difference).max() <= 1  # rounding


@pytest.fixture(scope="module")
def chameleon() -> ChameleonVQVAE:
    model = ChameleonVQVAE(chameleon_config())
    spread(model)
    return model


def same_codes(tokenizer: VQTokenizer, model: ChameleonVQVAE) -> None:
    images = squares(0, 5)
    with torch.inference_mode():
        expected = model.encode(to_unit_range(torch.from_numpy(images))).image_tokens.view(5, 64)
    assert np.array_equal(tokenizer.encode(images), expected.numpy())
    assert len(expected.unique()) > 2


def test_chameleons_alone(chameleon: ChameleonVQVAE, tmp_path: Path) -> None:
    chameleon.save_pretrained(tmp_path)
    tokenizer = load(tmp_path)
    same_codes(tokenizer, chameleon)
    assert tokenizer.usage(squares(0, 5))["n"] == 5 * 64
    with pytest.raises(ValueError, match="holds Chameleon's VQ encoder alone"):
        tokenizer.decode(CODES)
    with pytest.raises(ValueError, match="holds Chameleon's VQ encoder alone"):
        tokenizer.reconstruction_error(squares(0, 5))
    # a study that would draw pictures is refused before it trains
    with pytest.raises(ValueError, match="holds Chameleon's VQ encoder alone"):
        load_evaluators(EvaluationConfig(), SimpleNamespace(images=tokenizer))


def test_inside_a_chameleon(chameleon: ChameleonVQVAE, tmp_path: Path) -> None:
    config = ChameleonConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vq_config=chameleon.config.to_dict(),
        vocabulary_map={"<image>": 3},
    )
    whole = ChameleonForConditionalGeneration(config).to(torch.bfloat16)
    whole.model.vqmodel.load_state_dict(chameleon.state_dict())
    whole.save_pretrained(tmp_path / "whole")
    same_codes(load(tmp_path / "whole"), whole.model.vqmodel.float())


def test_with_a_decoder(chameleon: ChameleonVQVAE, tmp_path: Path) -> None:
    """Decoder weights beside the encoder's, and an own folder of them all."""
    chameleon.save_pretrained(tmp_path / "released")
    decoder = ChameleonDecoder(chameleon.config)
    spread(decoder)
    add_weights(tmp_path / "released", {f"decoder.{k}": v for k, v in decoder.state_dict().items()})
    tokenizer = load(tmp_path / "released")
    same_codes(tokenizer, chameleon)
    with torch.inference_mode():
        grid = chameleon.quantize.embedding(torch.from_numpy(CODES)).view(3, 8, 8, 6)
        pixels = decoder(chameleon.post_quant_conv(grid.permute(0, 3, 1, 2)))
    assert np.array_equal(tokenizer.decode(CODES), to_bytes(pixels).numpy())
    tokenizer.save(tmp_path / "own")
    again = load(tmp_path / "own")
    assert again.fingerprint == tokenizer.fingerprint
    assert np.array_equal(again.decode(CODES), tokenizer.decode(CODES))


def test_the_decoder_is_that_of_a_vqgan() -> None:
    """Against diffusers' decoder of the same architecture, weight by weight."""
    ours = ChameleonDecoder(chameleon_config(channel_multiplier=[1, 2, 4], num_res_blocks=2))
    spread(ours)
    theirs = Decoder(
        in_channels=8,
        out_channels=3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 128),
        layers_per_block=2,
        norm_num_groups=32,
    )
    weights = {}
    for name, weight in theirs.state_dict().items():
        source = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        source = source.replace("mid_block.resnets.0", "mid.block_1")
        source = source.replace("mid_block.resnets.1", "mid.block_2")
        source = source.replace("mid_block.attentions.0", "mid.attn_1").replace(
            "group_norm", "norm"
        )
        for letter in "qkv":
            source = source.replace(f"to_{letter}", letter)
        source = source.replace("to_out.0", "proj_out").replace("upsamplers.0", "upsample")
        for place in range(3):  # theirs counts from the latents, ours from the pictures
            source = source.replace(f"up_blocks.{place}.", f"up.{2 - place}.")
        source = source.replace("resnets", "block")
        weights[name] = ours.state_dict()[source].reshape(weight.shape)
    theirs.load_state_dict(weights)
    latents = torch.randn(2, 8, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(ours(latents), theirs(latents), rtol=1e-4, atol=1e-4)


def test_attention_where_the_configuration_has_it(tmp_path: Path) -> None:
    config = chameleon_config(attn_resolutions=[8])
    names = ChameleonDecoder(config).state_dict()
    assert "up.1.attn.1.q.weight" in names and "up.0.attn.0.q.weight" not in names
    torch.manual_seed(0)
    ChameleonVQ(config).save_pretrained(tmp_path)
    tokenizer = load(tmp_path)
    assert isinstance(tokenizer, ChameleonVQTokenizer)
    assert tokenizer.decode(CODES).shape == (3, CANVAS, CANVAS, 3)


def test_what_is_wrong_is_said(chameleon: ChameleonVQVAE, tmp_path: Path) -> None:
    vae = ImageTokenizerConfig(kind="vae", path=str(tmp_path / "vq"))
    chameleon.save_pretrained(tmp_path / "vq")
    with pytest.raises(ValueError, match="is chameleon_vqgan, no diffusers AutoencoderKL"):
        vae.latent_shape(CANVAS)
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match="is AutoencoderKL: kind 'vq' needs a VQModel"):
        load(tmp_path / "vae")
    with pytest.raises(ValueError, match="no autoencoder at '/absent'"):
        load(Path("/absent"))
    with pytest.raises(
        ValueError, match="2 x 2 pixels one latent cell does not fit a canvas of 15"
    ):
        ImageTokenizerConfig(kind="vq", path=str(tmp_path / "vq")).codes(15)


def test_missing_weights_are_refused(chameleon: ChameleonVQVAE, tmp_path: Path) -> None:
    chameleon.save_pretrained(tmp_path / "chameleon")
    add_weights(tmp_path / "chameleon", {}, without="quantize.embedding.weight")
    with pytest.raises(ValueError, match=MISSING):
        load(tmp_path / "chameleon")
    VQModel(num_vq_embeddings=12, block_out_channels=(32, 32)).save_pretrained(tmp_path / "vq")
    add_weights(tmp_path / "vq", {}, without="quantize.embedding.weight")
    with pytest.raises(ValueError, match=MISSING):
        load(tmp_path / "vq")


def add_weights(folder: Path, weights: dict[str, torch.Tensor], without: str = "") -> None:
    """Rewrite the one weights file of a folder."""
    (file,) = folder.glob("*.safetensors")
    kept = {name: weight for name, weight in load_file(file).items() if name != without}
    save_file({**kept, **weights}, file, metadata={"format": "pt"})
