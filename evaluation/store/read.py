"""Reads a finished study from an MLflow tracking store; nothing here writes to it.

Layout of a study in the store: one experiment named after the study; a parent run tagged
``mot_lab.kind=study`` with the artifacts ``study.json`` and ``config.yaml``; under it one child
run per arm and seed, with losses keyed by optimiser step and the artifacts ``evaluation.json``
and ``samples/``.
"""

from dataclasses import MISSING, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from sqlalchemy.engine import make_url

from evaluation.metric import Metric
from evaluation.store.metric_history import read_curves
from evaluation.store.study_record import (
    CURVES,
    ArmFacts,
    RunRecord,
    Sample,
    SpokenSample,
    StudyRecord,
)
from mot_lab.runtime.mlflow_store import connect
from mot_lab.runtime.plain_files import read_json
from mot_lab.utilisation import Peak

SCHEMA = 1  # of study.json
RUN_COST = "run_cost/"
Record = TypeVar("Record", ArmFacts, Metric, Peak)


def read_study(tracking_uri: str, study: str) -> StudyRecord:
    """Reads the study of that name.

    Args:
        tracking_uri: any MLflow tracking URI, such as ``sqlite:///runs/demo/mlflow.db``.
        study: the study's name, which is also the name of its MLflow experiment.

    Raises:
        ValueError: no such store or study; or runs of it are missing or unfinished (all listed).
    """
    client = open_store(tracking_uri)
    parent = _parent_run(client, tracking_uri, study)
    with TemporaryDirectory() as folder:
        facts = _read_facts(client, parent, study, Path(folder))
        config = _download(client, parent, "config.yaml", Path(folder)).read_text()
    children, notes = _finished_children(client, parent, facts, study)
    runs = [_read_run(client, run, facts["modalities"]) for run in children]
    return StudyRecord(
        run_id=parent.info.run_id,
        name=study,
        setting=facts["setting"],
        baseline=facts["baseline"],
        seeds=tuple(facts["seeds"]),
        modalities=tuple(facts["modalities"]),
        arms={arm: _fill(ArmFacts, of, f"arm {arm!r}") for arm, of in facts["arms"].items()},
        runs=tuple(runs),
        steps=facts["steps"],
        warmup_steps=facts["warmup_steps"],
        tokens_per_step=facts["tokens_per_step"],
        tokenizers=facts["tokenizers"],
        evaluators=facts["evaluators"],
        environment=facts["environment"],
        config=config,
        notes=(*facts["notes"], *notes),
        fairness=facts.get("fairness"),
        paper=tuple(facts.get("paper", ())),
        step_time_ratios=facts.get("step_time_ratios", {}),
        starts=facts.get("starts", {}),
        peaks={
            arm: _fill(Peak, of, f"peak of {arm!r}") for arm, of in facts.get("peaks", {}).items()
        },
    )


def open_store(tracking_uri: str) -> MlflowClient:
    """A client of the store; ValueError for an sqlite file that is not there."""
    if tracking_uri.startswith("sqlite:"):
        database = make_url(tracking_uri).database
        if database is None or not Path(database).is_file():  # MLflow would make an empty one
            raise ValueError(
                f"no tracking store at {tracking_uri!r}: {database} is not a file; "
                "run the study first, or name its store with --tracking-uri"
            )
    return connect(tracking_uri)


def _parent_run(client: MlflowClient, tracking_uri: str, study: str) -> Run:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
        raise ValueError(f"no study {study!r} at {tracking_uri!r}; the studies there: {names}")
    found = client.search_runs([experiment.experiment_id], "tags.`mot_lab.kind` = 'study'")
    if len(found) != 1:
        ids = [run.info.run_id for run in found]
        raise ValueError(
            f"experiment {study!r} at {tracking_uri!r} holds {len(found)} study runs {ids}, "
            "not one; " + ("delete all but one in MLflow" if ids else "run the study first")
        )
    return found[0]


def _read_facts(client: MlflowClient, parent: Run, study: str, folder: Path) -> dict[str, Any]:
    present = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    if missing := [name for name in ("study.json", "config.yaml") if name not in present]:
        raise ValueError(f"study {study!r} is not finished: its run has no {missing} yet")
    facts = read_json(_download(client, parent, "study.json", folder))
    if not isinstance(facts, dict):
        raise ValueError(f"study.json of {study!r} holds {type(facts).__name__}, not a study")
    if facts.get("schema") != SCHEMA:
        raise ValueError(
            f"study.json of {study!r} has schema {facts.get('schema')!r}; "
            f"this version reads {SCHEMA}"
        )
    needed = ["setting", "baseline", "seeds", "modalities", "arms", "tokens_per_step", "steps"]
    needed += ["warmup_steps", "tokenizers", "evaluators", "environment", "notes"]
    if missing := [key for key in needed if key not in facts]:
        raise ValueError(f"study.json of {study!r} lacks {missing}")
    return facts


def _finished_children(
    client: MlflowClient, parent: Run, facts: dict[str, Any], study: str
) -> tuple[list[Run], list[str]]:
    """The one finished run of every arm and seed, in the study's order; notes on any others."""
    found: dict[tuple[str, int], list[Run]] = {}
    for run in _search_all(client, parent):
        key = run.data.tags["mot_lab.arm"], int(run.data.tags["mot_lab.seed"])
        found.setdefault(key, []).append(run)
    wanted = [(arm, seed) for arm in facts["arms"] for seed in facts["seeds"]]
    chosen, problems = [], []
    for arm, seed in wanted:
        runs = found.pop((arm, seed), [])
        finished = [run for run in runs if _is_finished(client, run)]
        if len(finished) == 1:
            chosen.append(finished[0])
        elif finished:
            ids = [run.info.run_id for run in finished]
            problems.append(f"{arm}-seed{seed} (finished {len(finished)} times: {ids}; keep one)")
        else:
            states = ", ".join(run.info.status for run in runs) or "no run"
            problems.append(f"{arm}-seed{seed} ({states})")
    if problems:
        raise ValueError(
            f"study {study!r} is not finished, {len(problems)} of {len(wanted)} runs are wanting: "
            + "; ".join(problems)
            + ". Call the study again: it continues where it stopped"
        )
    others = sorted(f"{arm}-seed{seed}" for arm, seed in found)
    notes = [f"Runs in the store that are no part of this study, left out: {', '.join(others)}."]
    return chosen, notes if others else []


def _search_all(client: MlflowClient, parent: Run) -> list[Run]:
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [parent.info.experiment_id],
            f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and tags.`mot_lab.kind` = 'run'",
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _is_finished(client: MlflowClient, run: Run) -> bool:
    """Ended well *and* evaluated: a run that ended before its evaluation is not finished."""
    if run.info.status != "FINISHED":
        return False
    return any(file.path == "evaluation.json" for file in client.list_artifacts(run.info.run_id))


def _read_run(client: MlflowClient, run: Run, modalities: list[str]) -> RunRecord:
    name = run.info.run_name
    keys = [(modality, curve) for modality in modalities for curve in CURVES]
    found = read_curves(client, run, [f"{curve}/{modality}/loss" for modality, curve in keys])
    with TemporaryDirectory() as folder:
        path = _download(client, run, "evaluation.json", Path(folder))
        evaluation = read_json(path)
        if any(file.path == "samples" for file in client.list_artifacts(run.info.run_id)):
            _download(client, run, "samples", Path(folder))
        samples = tuple(_read_sample(sample, Path(folder)) for sample in evaluation["samples"])
        # Evaluations of earlier versions know no speech.
        speech = tuple(_read_spoken(one, Path(folder)) for one in evaluation.get("speech", ()))
    return RunRecord(
        run_id=run.info.run_id,
        arm=run.data.tags["mot_lab.arm"],
        seed=int(run.data.tags["mot_lab.seed"]),
        curves={key: curve for key, (curve, _) in zip(keys, found, strict=True)},
        dropped={key: dropped for key, (_, dropped) in zip(keys, found, strict=True)},
        metrics=tuple(_fill(Metric, one, f"run {name!r}") for one in evaluation["metrics"]),
        samples=samples,
        speech=speech,
        sees_other_tokens=_sees_other_tokens(run, evaluation),
        routing=evaluation.get("routing"),
        causality=tuple(evaluation.get("causality", ())),
        costs={
            key.removeprefix(RUN_COST): value
            for key, value in run.data.metrics.items()
            if key.startswith(RUN_COST)
        },
    )


def _sees_other_tokens(run: Run, evaluation: dict[str, Any]) -> bool:
    """Whether the run has experts that choose: by its evaluation, or, where that is of an earlier
    version and does not say, by whether it logged tokens that no expert took.
    """
    if "routing" in evaluation:
        return evaluation["routing"] is not None
    return any(key.startswith("train/unrouted/") for key in run.data.metrics)


def _fill(kind: type[Record], facts: dict[str, Any], whose: str) -> Record:
    """The record of that kind; further facts, of a later version, are no harm."""
    known = {field.name: facts[field.name] for field in fields(kind) if field.name in facts}
    if missing := [f.name for f in fields(kind) if f.name not in known and f.default is MISSING]:
        raise ValueError(f"{whose}: its {kind.__name__} lacks {missing}")
    return kind(**known)


def _read_sample(sample: dict[str, Any], folder: Path) -> Sample:
    return Sample(
        prompt=sample["prompt"],
        generated=_file(sample, "generated", folder),
        reference=_file(sample, "reference", folder),
        caption=sample.get("caption"),
        references=tuple(sample.get("references", ())),
    )


def _read_spoken(sample: dict[str, Any], folder: Path) -> SpokenSample:
    return SpokenSample(
        text=sample["text"],
        recording=_file(sample, "recording", folder),
        heard=sample.get("heard"),
        spoken=_file(sample, "spoken", folder),
    )


def _file(sample: dict[str, Any], key: str, folder: Path) -> bytes | None:
    if not sample.get(key):
        return None
    path = (folder / sample[key]).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"evaluation.json names {sample[key]!r}, which is no artifact of its run")
    return path.read_bytes()


def _download(client: MlflowClient, run: Run, path: str, folder: Path) -> Path:
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # one bar per small file says nothing
    return Path(client.download_artifacts(run.info.run_id, path, str(folder)))
