"""A long run holds at its end what it held after its first steps: memory, open files, threads."""

from collections.abc import Callable
from pathlib import Path

import pytest
from reliability.amounts import WHOLE, amount
from reliability.processes import child, last_step
from reliability.resources import (
    LEAKED_BYTES,
    STEPS_A_FILE,
    STEPS_A_THREAD,
    Growth,
    Held,
    growth,
    read_samples,
    train_sampled,
)

FLAT = 0.02 if WHOLE else 0.04  # of what is held after the warm-up


def after_warm_up(
    folder: Path, steps: int, warm_up: int, every: int, leaking: bool = False
) -> list[Held]:
    """What a run held every so many steps, from the end of its warm-up on."""
    training = {
        "steps": steps,
        "log_every": every,
        "val_every": 2 * every,
        "checkpoint_every": 4 * every,
    }
    process = child(train_sampled, folder, every, leaking, training)
    process.join()
    assert process.exitcode == 0
    assert last_step(folder / "dense-seed0") == steps
    samples = read_samples(folder)
    assert [each.step for each in samples] == list(range(every, steps + 1, every))
    return [each for each in samples if each.step > warm_up]


@pytest.mark.timeout(3000)
def test_a_run_holds_what_it_held(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("tried", 3)
    record_property("handled", 3)
    steps = amount(400, 5000)
    samples = after_warm_up(tmp_path, steps, amount(100, 500), amount(10, 25))
    found = growth(samples)
    print(f"{steps} steps: {found}, from {samples[0]} to {samples[-1]}")
    for sample in samples:
        assert sample.memory == pytest.approx(samples[0].memory, rel=FLAT)
    assert abs(found.memory) < FLAT
    assert (found.files, found.threads) == (0, 0)


def test_leaks_are_noticed(tmp_path: Path) -> None:
    """Of 128 KiB a step, a file every 20 and a thread every 50: the same measure finds them."""
    samples = after_warm_up(tmp_path, 400, 100, 10, leaking=True)
    found = growth(samples)
    between = samples[-1].step - samples[len(samples) // 4].step  # of the samples compared, about
    assert found.memory > 0.04
    assert found.memory * samples[0].memory == pytest.approx(between * LEAKED_BYTES, rel=0.5)
    assert found.files == pytest.approx(between / STEPS_A_FILE, abs=3)
    assert found.threads == pytest.approx(between / STEPS_A_THREAD, abs=2)


def test_growth_of_known_samples() -> None:
    flat = [Held(step, 1000, 10 + step % 2, 4) for step in range(40)]
    assert growth(flat) == Growth(0.0, 0, 0)
    rising = [Held(step, 1000 + 10 * step, 10 + step, 4 + step // 10) for step in range(40)]
    # medians 1045 and 1345; lowest 10 and 40, 4 and 7
    assert growth(rising) == Growth(pytest.approx(1345 / 1045 - 1), 30, 3)
