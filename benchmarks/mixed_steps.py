"""Seconds and model-FLOP utilisation of whole training steps, for several mixes of modalities.

The arms of a study take turns on made-up batches, so that nothing need be prepared: documents as in
`benchmarks.mixes`, random tokens of each modality's part of the vocabulary. For the paper's sizes
on a GPU:

    python -m benchmarks.mixed_steps experiments/paper/chameleon_443m.yaml [--rounds 20] \\
        [--processes 1] data.rows=6 model.compile=true 'arms=[dense, moe_4x, mot]'

and with chameleon_speech_443m.yaml for three modalities, of which most mixes have two or one. All
arms are in memory at once (`mot-lab count CONFIG --memory` says how much each takes; `arms=[..]`
leaves some out).

Shapes: B rows, S positions, L targets; of what is denoised, M patches, N images, C x H x W latents.
"""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.interleaved import in_processes, interleaved, over_processes
from benchmarks.mixes import MIXES, Places, modalities_of
from benchmarks.results_file import keep
from mot_lab.batch import MultimodalBatch
from mot_lab.config import StudyConfig, load_study
from mot_lab.counting import arm_cost
from mot_lab.data.interface import TEXT, Codes, DataInterface
from mot_lab.environment import environment
from mot_lab.flops import Workload
from mot_lab.runtime.workers import threads_each
from mot_lab.step_time import TrainingStep
from mot_lab.training import precision, runs_of
from mot_lab.utilisation import Peak, StepWork, hardware_peak


def made_up_batch(
    mix: str, interface: DataInterface, rows: int, row_length: int
) -> MultimodalBatch:
    """A batch of full rows in a mix; every token but the last of its document is predicted from.

    Raises:
        ValueError: a modality of the data is denoised.
    """
    if interface.diffused is not None:
        raise ValueError(
            f"{interface.diffused} is denoised; made-up batches are of discrete tokens: time a "
            "study with image.kind vq, or this one by benchmarks.step_time"
        )
    places = Places.of_mix(mix, rows, row_length)
    token_BS = torch.zeros_like(places.modality_BS)
    for identity, name in enumerate(interface.modalities):
        first, size = _part(interface, name)
        drawn_BS = torch.randint(first, first + size, token_BS.shape)
        token_BS = torch.where(places.modality_BS == identity, drawn_BS, token_BS)
    follows_BS = places.document_BS[:, 1:] == places.document_BS[:, :-1]
    row_L, column_L = follows_BS.nonzero(as_tuple=True)
    target_modality_L = places.modality_BS[row_L, column_L + 1]
    latents_NCHW = torch.zeros(0, 1, 1, 1)
    return MultimodalBatch(
        token_BS=token_BS,
        modality_BS=places.modality_BS,
        document_BS=places.document_BS,
        position_BS=places.position_BS,
        image_BS=torch.full_like(places.image_BS, -1),
        target_place_L=row_L * row_length + column_L,
        target_L=token_BS[row_L, column_L + 1],
        target_modality_L=target_modality_L,
        patch_place_M=torch.zeros(0, dtype=torch.int64),
        latents_NCHW=latents_NCHW,
        noise_NCHW=latents_NCHW,
        time_N=torch.zeros(0),
        counts=_counts(places.modality_BS, interface.modalities),
        target_counts=_counts(target_modality_L, interface.modalities),
    )


def _part(interface: DataInterface, name: str) -> tuple[int, int]:
    """First id and number of the ids of a modality in the joint vocabulary."""
    if name == TEXT:
        return 0, interface.text_vocabulary
    codes = interface.others[name]
    assert isinstance(codes, Codes)
    return interface.first_code(name), codes.size


def _counts(modality: torch.Tensor, names: tuple[str, ...]) -> dict[str, int]:
    return {name: int((modality == i).sum()) for i, name in enumerate(names)}


def mixed_step_times(config: StudyConfig, rounds: int) -> dict[str, dict[str, dict[str, Any]]]:
    """By mix and arm, as `benchmarks.interleaved.interleaved` tells it. Mixes of more modalities
    than the study has are left out.

    Raises:
        ValueError: a modality of the study is denoised.
    """
    torch.set_num_threads(threads_each(config.parallel_runs))
    interface = config.data.interface()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory() as folder:
        steps = {
            run.arm: TrainingStep(run.module(), run.study_arm.training, rounds)
            for run in runs_of(replace(config, seeds=config.seeds[:1]), Path(folder))
        }
    told: dict[str, dict[str, dict[str, Any]]] = {}
    for mix in mixes_of(interface):
        batch = made_up_batch(mix, interface, config.data.rows, config.data.row_length).to(device)
        works = {
            name: lambda _, step=step, batch=batch: step(batch) for name, step in steps.items()
        }
        told[mix] = interleaved(works, rounds, config.baseline, device)
    return told


def mixes_of(interface: DataInterface) -> list[str]:
    """Those of no other modalities than the data has."""
    return [mix for mix in MIXES if set(modalities_of(mix)) <= set(interface.modalities)]


def told_of_mix(
    config: StudyConfig,
    mix: str,
    processes: Sequence[Mapping[str, Mapping[str, Any]]],
    peaks: Mapping[str, Peak],
) -> dict[str, Any]:
    """What a mix is, and by arm what its steps took.

    Args:
        config: of the study.
        mix: its name.
        processes: what `mixed_step_times` told of the mix in each.
        peaks: of the hardware, by precision as the Trainer is told.

    Returns:
        ``tokens`` by modality; ``arms``, by name: ``seconds`` and ``of_baseline`` over processes,
        and at the median ``tokens_per_second``, ``flops`` of a step, ``model_flop_utilisation``
        and the ``peak`` it is of.
    """
    interface = config.data.interface()
    batch = made_up_batch(mix, interface, config.data.rows, config.data.row_length)
    workload = Workload.of_batches([batch], interface.modalities)
    arms: dict[str, Any] = {}
    for arm in config.parsed_arms:
        times: dict[str, Any] = over_processes([each[arm.name] for each in processes])
        seconds = times["seconds"]["median"]
        peak = peaks[precision(arm.training.precision)]
        work = StepWork(arm_cost(arm, interface, workload).flops_per_step, peak)
        arms[arm.name] = times | {
            "tokens_per_second": batch.num_tokens / seconds,
            "flops": work.flops,
            "model_flop_utilisation": work.utilisation(seconds),
            "peak": work.peak.source,
        }
    return {"tokens": batch.counts, "arms": arms}


def _measured(path: Path, overrides: Sequence[str], rounds: int) -> dict[str, Any]:
    """In this process."""
    return mixed_step_times(load_study(path, overrides), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1, help="one after the other")
    options = parser.parse_intermixed_args()
    config = load_study(options.config, options.overrides)
    arguments = [options.config, options.overrides, options.rounds]
    times = in_processes(_measured, arguments, options.processes)
    torch.set_num_threads(threads_each(config.parallel_runs))  # for the peak, as for the steps
    wishes = {precision(arm.training.precision) for arm in config.parsed_arms}
    peaks = {wish: hardware_peak(wish) for wish in wishes}
    command = ["python -m benchmarks.mixed_steps", str(options.config)]
    command += [f"--rounds {options.rounds} --processes {options.processes}"]
    result = {
        "study": config.name,
        "baseline": config.baseline,
        "rows": config.data.rows,
        "row_length": config.data.row_length,
        "mixes": {
            mix: told_of_mix(config, mix, [each[mix] for each in times], peaks) for mix in times[0]
        },
        "command": " ".join([*command, *map(shlex.quote, options.overrides)]),
        "environment": environment(config.training.precision),
    }
    keep(f"mixed_steps_{config.name}" + "_compiled" * config.model.compile, result)


if __name__ == "__main__":
    main()
