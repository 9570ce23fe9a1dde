"""Step times: every arm is timed on the same batches, warm-up apart."""

from itertools import islice

import pytest
from factories import INTERFACE, random_batches, tiny_backbone

from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.step_time import _summary, measure_step_times
from mot_lab.study_arm import TrainingConfig


def test_quartiles_of_known_seconds() -> None:
    summary = _summary([0.5, 0.1, 0.3, 0.2, 0.4], [2.0, 0.5])
    assert (summary.low, summary.median, summary.high) == pytest.approx((0.2, 0.3, 0.4))
    assert summary.steps == 5
    assert summary.compile_seconds == pytest.approx(2.5 - 2 * 0.3)


def test_every_arm_takes_every_counted_step() -> None:
    config = ModelConfig(backbone=tiny_backbone())
    modules = {arm: MultimodalModule(config, INTERFACE, arm) for arm in ("dense", "mot")}
    seen: dict[str, list[int]] = {arm: [] for arm in modules}
    for arm, module in modules.items():
        losses = module.losses
        module.losses = lambda batch, arm=arm, losses=losses: (
            seen[arm].append(batch.step),
            losses(batch),
        )[1]
    batches = list(islice(random_batches(), 3))
    trainings = dict.fromkeys(modules, TrainingConfig())
    times = measure_step_times(modules, batches, 4, trainings, warmup=2)
    assert {arm: each.steps for arm, each in times.items()} == {"dense": 4, "mot": 4}
    assert seen["dense"] == seen["mot"] == [1, 2, 0, 1, 2, 0]
    assert all(0 < each.low <= each.median <= each.high for each in times.values())
