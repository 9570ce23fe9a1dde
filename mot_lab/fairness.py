"""Whether a study compares its arms on equal terms, found out before anything is trained.

Nothing is taken from the settings that arms share: batches are drawn from each run's own data
module, learning rates are read from its own optimiser, lengths from what its Trainer is told.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from mot_lab.counting import ArmCost, arm_router_flops
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.digests import (
    digest,
    held_out_counts,
    held_out_digests,
    sampled,
    training_batches,
)
from mot_lab.data.own_data import OwnData
from mot_lab.data.speech import ESPEAK
from mot_lab.fairness_record import Check, Fairness, listed, same
from mot_lab.flops import Workload
from mot_lab.optim import make_optimizer
from mot_lab.plain import plain
from mot_lab.runtime.run_folder import flatten
from mot_lab.training import Run
from mot_lab.upcycling.start import require_startable, start_digest, start_sentence

FLOPS_TOLERANCE = 0.01
# What makes a backbone larger or smaller, which the FLOPs judge, and the gate of an arm's experts.
OWN_BACKBONE = (
    *("width", "layers", "heads", "kv_heads", "head_width"),
    *("feed_forward_multiple", "feed_forward_width", "gate"),
)


@dataclass(frozen=True)
class _Seen:
    """What a run draws at some of its steps: hash of the batch, real tokens by modality."""

    run: Run
    hashes: Mapping[int, str]
    tokens: Mapping[int, Mapping[str, int]]


def check_fairness(
    runs: Sequence[Run],
    baseline: str,
    costs: Mapping[str, ArmCost],
    workload: Workload,
) -> Fairness:
    """Every check of a study.

    Args:
        runs: all of the study, every arm with every seed.
        baseline: the arm that the others are compared with.
        costs: by arm, for the workload.
        workload: of a training step.
    """
    of_arm = {run.arm: run for run in runs if run.seed == runs[0].seed}
    seen = [_look(run) for run in runs]
    data = {arm: run.data_module() for arm, run in of_arm.items()}
    _require_every_modality(data[baseline])
    held_out = {arm: held_out_digests(each) for arm, each in data.items()}
    router_flops = {
        arm: arm_router_flops(run.study_arm, run.config.data.interface(), workload)
        for arm, run in of_arm.items()
    }
    checks = [
        *_batches(seen, baseline),
        *_held_out(held_out, baseline),
        *_recordings(data, baseline),
        *_records(data, baseline),
        _earlier_runs(seen, held_out),
        *_schedule(of_arm, baseline),
        *_model(of_arm, baseline),
        *_starts(of_arm, baseline),
        _flops(costs, router_flops, baseline),
        listed("total parameters", {arm: cost.parameters for arm, cost in costs.items()}),
        listed("active parameters", {arm: cost.active_parameters for arm, cost in costs.items()}),
    ]
    return Fairness(tuple(checks), router_flops)


def _require_every_modality(data: MultimodalDataModule) -> None:
    """Raises ValueError where validation lacks a modality: its loss could not be compared."""
    own = data.config.own
    shares = "a weight of sources" if own else f"prose_share is {data.config.prose_share}"
    for modality, count in held_out_counts(data, "val").items():
        if not count:
            raise ValueError(
                f"no {modality} in any of the {data.config.val_rows} rows of validation: give it "
                f"a larger share of data ({shares}), or val_rows"
            )


def _look(run: Run) -> _Seen:
    steps = sampled(run.trainer_settings()["max_steps"])
    hashes, tokens = {}, {}
    for batch in training_batches(run.data_module(), steps):
        hashes[batch.step] = batch.sha256()
        tokens[batch.step] = batch.counts
    return _Seen(run, hashes, tokens)


def _batches(seen: Sequence[_Seen], baseline: str) -> list[Check]:
    """Data order seed by seed, and tokens per modality, at the steps that all runs have."""
    steps = sorted(set.intersection(*(set(each.hashes) for each in seen)))
    where = f"the same at steps {', '.join(str(step + 1) for step in steps)}"
    checks = []
    for seed in dict.fromkeys(each.run.seed for each in seen):
        orders = {
            each.run.arm: digest(each.hashes[step] for step in steps)
            for each in seen
            if each.run.seed == seed
        }
        checks.append(same(f"training batches, seed {seed}", orders, baseline, where))
    for modality in seen[0].tokens[steps[0]]:
        counts: dict[str, list[int]] = {each.run.arm: [] for each in seen}
        for each in seen:
            counts[each.run.arm] += [each.tokens[step][modality] for step in steps]
        means = {arm: sum(some) / len(some) for arm, some in counts.items()}
        checks.append(same(f"{modality} tokens per step", means, baseline, f"{where}, mean"))
    return checks


def _held_out(held_out: Mapping[str, Mapping[str, str]], baseline: str) -> list[Check]:
    rule = "the same, noise and noise levels included"
    return [
        same(
            f"held-out batches, {split}",
            {arm: digests[split] for arm, digests in held_out.items()},
            baseline,
            rule,
        )
        for split in held_out[baseline]
    ]


def _recordings(data: Mapping[str, MultimodalDataModule], baseline: str) -> list[Check]:
    """Recordings of a manifest that no arm hears, split by split."""
    config = data[baseline].config
    if config.own or config.speech is None or config.speech.source == ESPEAK:
        return []
    counts = {
        arm: "; ".join(f"{split}: {_counted(each, split)}" for split in each.config.splits)
        for arm, each in data.items()
    }
    return [same("recordings left out", counts, baseline)]


def _records(data: Mapping[str, MultimodalDataModule], baseline: str) -> list[Check]:
    """Records of own sources that no arm sees, split by split."""
    own = {arm: each.prepared for arm, each in data.items()}
    counts = {
        arm: "; ".join(each.records_left_out()) or "none"
        for arm, each in own.items()
        if isinstance(each, OwnData)
    }
    return [same("records left out", counts, baseline)] if counts else []


def _counted(data: MultimodalDataModule, split: str) -> str:
    pool = data.prepared.speech_pool(split)
    assert pool is not None
    return ", ".join(f"{number} {why}" for why, number in pool.left_out.items())


def _earlier_runs(seen: Sequence[_Seen], held_out: Mapping[str, Mapping[str, str]]) -> Check:
    """Whether runs that were begun before saw what they would see now."""
    values = dict.fromkeys(held_out, "the same")
    faults = []
    for each in seen:
        run = each.run
        if not run.folder.config_path.exists():
            continue
        now = {"training": digest(each.hashes.values()), **held_out[run.arm]}
        then = run.folder.config().get("digests", {})
        other = [name for name in now if then.get(name) != now[name]]
        if other:
            name = other[0]
            before = then.get(name, "not recorded")
            values[run.arm] = f"seed {run.seed}: {name} batches were {before}, are {now[name]}"
            faults.append(f"{run.arm}, {values[run.arm]}")
    rule = "the same for runs that were begun before, where there are any"
    return Check("data of earlier runs", values, rule, tuple(faults))


def _schedule(of_arm: Mapping[str, Run], baseline: str) -> list[Check]:
    facts = {arm: _schedule_facts(run) for arm, run in of_arm.items()}
    return [
        same(what, {arm: each[what] for arm, each in facts.items()}, baseline)
        for what in facts[baseline]
    ]


def _schedule_facts(run: Run) -> dict[str, str | float]:
    """How long and with which optimiser a run is trained, and where its curves have points."""
    told = run.trainer_settings()
    steps, every = told["max_steps"], run.study_arm.training.val_every
    with torch.device("meta"):
        module = run.module()
        optimizer, schedule = make_optimizer(module.net, module.config.optimizer, steps)
    group, factor = optimizer.param_groups[0], schedule.lr_lambdas[0]
    rates = [group["initial_lr"] * factor(step) for step in range(steps)]
    decays = " and ".join(str(each["weight_decay"]) for each in optimizer.param_groups)
    return {
        "steps": steps,
        "learning rate at every step": f"at most {max(rates):.4g}, {rates[-1]:.4g} at the end "
        f"({digest(struct.pack('d', rate).hex() for rate in rates)})",
        "optimiser": f"{type(optimizer).__name__}, betas {group['betas']}, eps {group['eps']}, "
        f"weight decay {decays}",
        "largest gradient norm": told["gradient_clip_val"],
        "precision": f"{told['precision']}, {'compiled' if module.config.compile else 'eager'}",
        "averaged weights": f"decay {run.study_arm.training.average_decay}",
        "steps left out": _left_out(run),
        "validation": f"{steps // every} times, every {every} steps",
        "training losses": f"every {told['log_every_n_steps']} steps",
    }


def _left_out(run: Run) -> str:
    training = run.study_arm.training
    spikes = f"spikes of {training.spike_sigmas:g} sigmas" if training.spike_sigmas else "no spikes"
    return f"{training.bad_steps} at what is not finite, {spikes}"


def _model(of_arm: Mapping[str, Run], baseline: str) -> list[Check]:
    """What is neither the arm's wiring nor its size: losses and the kind of layers."""
    losses, layers = {}, {}
    for arm, run in of_arm.items():
        model = plain(run.study_arm.model)
        diffusion = model["diffusion"] if run.config.setting == "transfusion" else {}
        losses[arm] = _text({"z_loss": model["z_loss"], **diffusion})
        layers[arm] = _text({k: v for k, v in model["backbone"].items() if k not in OWN_BACKBONE})
    return [same("objective", losses, baseline), same("layers", layers, baseline)]


def _starts(of_arm: Mapping[str, Run], baseline: str) -> list[Check]:
    """The model whose weights training begins with, and what is not trained, where any arm has one
    or the other.

    Raises:
        ValueError: an arm cannot begin from its model.
    """
    models = {arm: run.study_arm.model for arm, run in of_arm.items()}
    checks = []
    if any(model.start_from is not None for model in models.values()):
        begins, how = {}, {}
        for arm, model in models.items():
            begins[arm], how[arm] = "random weights", "not at all"
            if (path := model.start_from) is not None:
                require_startable(path, model.backbone)
                begins[arm] = f"{path} ({start_digest(path)})"
                how[arm] = start_sentence(path, of_arm[arm].study_arm.wiring)
        checks = [same("initial weights", begins, baseline), listed("upcycled", how)]
    if any(model.freeze.active for model in models.values()):
        frozen = {
            arm: model.freeze.sentence() if model.freeze.active else "nothing frozen"
            for arm, model in models.items()
        }
        checks.append(listed("frozen weights", frozen))
    return checks


def _text(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in flatten(values).items())


def _flops(costs: Mapping[str, ArmCost], router_flops: Mapping[str, float], baseline: str) -> Check:
    flops = {arm: cost.flops_per_step - router_flops[arm] for arm, cost in costs.items()}
    base = flops[baseline]
    faults = tuple(
        f"{arm} has {each:.5g}, {each / base:.3f} of the {base:.5g} of {baseline}"
        for arm, each in flops.items()
        if abs(each / base - 1) > FLOPS_TOLERANCE
    )
    rule = f"within {FLOPS_TOLERANCE:.0%} of {baseline}, experts' routers left aside"
    return Check("FLOPs per step", flops, rule, faults)
