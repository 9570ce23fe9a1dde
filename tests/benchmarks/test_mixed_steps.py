"""Made-up batches have the mix they are named by, and steps are told of with their FLOPs."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from factories import CHAMELEON_SPEECH, INTERFACE
from tiny_studies import CODES, TINY_SCENES

from benchmarks.mixed_steps import made_up_batch, mixed_step_times, told_of_mix
from benchmarks.mixes import DOCUMENTS, MIXES, modalities_of
from mot_lab.config import load_study
from mot_lab.counting import nominal_workload, structure
from mot_lab.flops import Workload, training_flops
from mot_lab.utilisation import Peak

ROWS, LENGTH = 3, 200


@pytest.mark.parametrize("mix", MIXES)
def test_a_batch_is_full_and_has_its_mix(mix: str) -> None:
    interface = CHAMELEON_SPEECH
    batch = made_up_batch(mix, interface, ROWS, LENGTH)
    assert batch.num_tokens == ROWS * LENGTH
    shares = {interface.modalities[identity]: share for identity, share in MIXES[mix]}
    for name, count in batch.counts.items():
        assert count / batch.num_tokens == pytest.approx(shares.get(name, 0), abs=0.02)
    assert {name for name, count in batch.counts.items() if count} == set(shares)
    assert set(shares) <= set(modalities_of(mix)) and len(modalities_of(mix)) >= 2
    # Text, pictures and speech each have ids of their own part of the vocabulary.
    begins = [0, interface.first_code("image"), interface.first_code("speech"), 59]
    for identity, (begin, end) in enumerate(pairwise(begins)):
        ids = batch.token_BS[batch.modality_BS == identity]
        assert ((begin <= ids) & (ids < end)).all()
    # Every token but a document's first is predicted, from the one before it.
    assert batch.target_L.numel() == ROWS * (LENGTH - len(DOCUMENTS))
    after_L = batch.target_place_L + 1
    assert torch.equal(batch.target_L, batch.token_BS.flatten()[after_L])
    assert torch.equal(batch.target_modality_L, batch.modality_BS.flatten()[after_L])
    assert (batch.position_BS.flatten()[after_L] > 0).all()
    assert (batch.image_BS == -1).all()  # pictures of codes are causal


def test_denoised_pictures_cannot_be_made_up() -> None:
    with pytest.raises(ValueError, match="image is denoised; made-up batches"):
        made_up_batch("50/50", INTERFACE, ROWS, LENGTH)


def test_arms_take_turns_in_every_mix_that_they_have_the_modalities_for(tmp_path: Path) -> None:
    study = {
        "name": "tiny",
        "setting": "chameleon",
        "arms": ["dense", "mot"],
        "seeds": [0, 1],
        "data": {**TINY_SCENES, "image": CODES},
        "evaluation": {"images": 8, "shown": 2},
        "model": {"backbone": {"width": 16, "layers": 1, "heads": 2, "feed_forward_multiple": 16}},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(study))
    config = load_study(path)
    times = mixed_step_times(config, 2)
    assert times.keys() == MIXES.keys() - {"three modalities"}
    interface, dense = config.data.interface(), config.parsed_arms[0]
    peak = Peak(1e12, "made up")
    for mix, of_mix in times.items():
        told = told_of_mix(config, mix, [of_mix, of_mix], {"32-true": peak})
        batch = made_up_batch(mix, interface, config.data.rows, config.data.row_length)
        assert told["tokens"] == batch.counts
        workload = Workload.of_batches([batch], interface.modalities)
        # Documents that do not see each other have fewer pairs than full rows.
        nominal = nominal_workload(config.data)
        assert sum(workload.pairs.values()) < sum(nominal.pairs.values())
        flops = sum(training_flops(structure(dense, interface), workload).values())
        assert told["arms"].keys() == {"dense", "mot"}
        for name, arm in told["arms"].items():
            seconds = of_mix[name]["median"]
            assert arm["seconds"]["median"] == seconds and arm["flops"] == flops
            assert arm["tokens_per_second"] == pytest.approx(batch.num_tokens / seconds)
            assert arm["model_flop_utilisation"] == pytest.approx(flops / seconds / 1e12)
        assert told["arms"]["dense"]["of_baseline"]["median"] == 1
