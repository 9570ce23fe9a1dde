"""Parameters by what they are, and the workload that a configuration alone promises."""

import pytest
from factories import tiny_model

from mot_lab.counting import nominal_workload
from mot_lab.data.prepare import DataConfig
from mot_lab.flops import count_parameters
from mot_lab.parameter_parts import parameter_parts
from mot_lab.parsing import from_dict

VQ = {"kind": "vq", "vq": {"size": 16, "downsample": 4}}
SETTINGS = {
    "transfusion": ({"image": {"kind": "pixels"}, "patch": 8}, ("text", "image")),
    "chameleon": ({"image": VQ}, ("text", "image")),
    "chameleon_speech": ({"image": VQ, "speech": {}}, ("text", "image", "speech")),
    "a fourth modality": (
        {"image": VQ, "speech": {}, "styles": {"grey": {"rendering": "grey", "image": VQ}}},
        ("text", "image", "speech", "grey"),
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_nominal_step_has_full_rows_shared_equally(setting: str) -> None:
    values, modalities = SETTINGS[setting]
    data = from_dict(DataConfig, {**values, "rows": 4, "val_rows": 4, "row_length": 72})
    work = nominal_workload(data)
    assert tuple(work.tokens) == tuple(work.pairs) == tuple(work.full_pairs) == modalities
    assert sum(work.tokens.values()) == pytest.approx(4 * 72)
    assert len(set(work.tokens.values())) == 1
    assert sum(work.full_pairs.values()) == pytest.approx(4 * 72 * 72)
    # position i of a row sees i + 1 positions
    assert sum(work.pairs.values()) == pytest.approx(4 * sum(range(1, 73)))
    if setting == "transfusion":
        assert work.predictions == {"text": 144} and work.images == 144 / 16  # 4 x 4 patches
    else:
        assert work.predictions == work.tokens and work.images == 0


@pytest.mark.parametrize("arm", ["dense", "mot", "moe_4x", "mot_text_moe_4x", "untie_ffn_qkv"])
def test_parts_add_up_and_are_what_they_say(arm: str) -> None:
    model = tiny_model(arm)  # width 16, two layers, feed-forward of 48, vocabulary of 40
    parts = parameter_parts(model)
    assert sum(vars(parts).values()) == count_parameters(model)
    assert parts.size == parts.matrices + parts.embeddings
    assert parts.embeddings == 2 * 40 * 16
    experts = {"moe_4x": 1, "mot_text_moe_4x": 1}.get(arm, 0)
    assert parts.routers == 2 * experts * 4 * 16
    attention, feed_forward = 4 * 16 * 16, 3 * 16 * 48
    of_layer = {
        "dense": attention + feed_forward,
        "mot": 2 * (attention + feed_forward),
        "moe_4x": attention + 4 * feed_forward,
        "mot_text_moe_4x": 2 * attention + 5 * feed_forward,
        "untie_ffn_qkv": 2 * (attention + feed_forward),
    }
    assert parts.matrices == 2 * of_layer[arm]
