"""FID of 10,000 pictures of 64 x 64: ours against torch-fidelity on the same files, as JSON.

python -m benchmarks.fid [pictures] [rounds]

Both sides look at the same PNG files with the same network and the same number of threads, each
time in a new process, taking turns. Two comparisons: "fid" calls each library's FID (ours with its
check of the files and its interval), "command" runs `mot-lab evaluate` and `fidelity --fid --kid`.

`seconds` are of the call, imports aside, and `process_seconds` with them. `cpu_seconds` add up the
cores and the loaders of torch-fidelity: they hardly change with what else the machine does. Peak
memory is of the main process; torch-fidelity's loaders come on top. A last comparison has
Inception-v3's architecture with random weights on few pictures, as 10,000 of them take a CPU a
quarter of an hour.
"""

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import torch
from PIL import Image

from benchmarks.fixed_network import FixedNetwork, encoder
from benchmarks.results_file import keep
from mot_lab.environment import environment

SIDE, WIDTH, FEW, INCEPTION_PICTURES = 64, 512, 2_000, 64
AGREE = 1e-3
TIMES = ("seconds", "cpu_seconds", "process_seconds")


class WideNetwork(FixedNetwork):
    width = WIDTH


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print("RESULT" + json.dumps(_one(*sys.argv[2:])))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as root:
        result = _compare_all(Path(root), count, rounds)
    result |= {"load_before": load, "environment": environment("32-true")}
    keep("fid", result)


def _compare_all(root: Path, count: int, rounds: int) -> dict[str, Any]:
    folders = {n: _make_pictures(root / str(n), n) for n in (FEW, count, INCEPTION_PICTURES)}
    weights = root / "inception.pth"
    torch.save(_random_inception().state_dict(), weights)
    return {
        "pictures": count,
        "side": SIDE,
        "features": WIDTH,
        "rounds": rounds,
        "fid": _compare("fid", folders[count], "fixed", rounds),
        "command": _compare("command", folders[count], "fixed", rounds),
        "fewer_pictures": {
            "pictures": FEW,
            "fid": _compare("fid", folders[FEW], "fixed", 1),
            "command": _compare("command", folders[FEW], "fixed", 1),
        },
        "inception": {
            "pictures": INCEPTION_PICTURES,
            "features": 2048,
            "fid": _compare("fid", folders[INCEPTION_PICTURES], str(weights), 2),
        },
    }


def _compare(what: str, folder: Path, network: str, rounds: int) -> dict[str, Any]:
    sides: dict[str, list[dict[str, Any]]] = {"ours": [], "torch_fidelity": []}
    for turn in range(rounds):
        for side in sorted(sides, reverse=bool(turn % 2)):
            sides[side].append(_in_new_process(side, what, folder, network))
            print(what, side, sides[side][-1], file=sys.stderr)
    one, other = (sides[side][0]["value"] for side in ("ours", "torch_fidelity"))
    if abs(one / other - 1) > AGREE:
        raise RuntimeError(f"the two sides disagree on {what}: {one} and {other}")
    summary: dict[str, Any] = {}
    for side, runs in sides.items():
        summary[side] = {
            **{name: [run[name] for run in runs] for name in TIMES},
            "peak_megabytes": max(run["peak_megabytes"] for run in runs),
            "value": runs[0]["value"],
        }
    for name in TIMES:
        ours, theirs = (statistics.median(summary[side][name]) for side in sides)
        summary[f"ratio_of_{name}"] = ours / theirs
    return summary


def _in_new_process(side: str, what: str, folder: Path, network: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.fid", "--one", side, what, str(folder), network]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    result = json.loads(done.stdout.rpartition("RESULT")[2])
    return {**result, "process_seconds": seconds}


def _one(side: str, what: str, folder: str, network: str) -> dict[str, Any]:
    """One side's figure, seconds and peak memory, in this process."""
    score = {"ours": _ours, "torch_fidelity": _fidelity}[side](
        what, Path(folder) / "made", Path(folder) / "real", network
    )
    start, before = time.perf_counter(), os.times()[:4]
    value = score()
    seconds, cpu = time.perf_counter() - start, sum(os.times()[:4]) - sum(before)
    peak = next(
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    peak_megabytes = int(peak) / 1024
    return {
        "value": value, "seconds": seconds, "cpu_seconds": cpu, "peak_megabytes": peak_megabytes
    }  # fmt: skip


def _ours(what: str, made: Path, real: Path, network: str) -> Any:
    from evaluation.files.picture_folder import PictureFolder
    from evaluation.files.scores import encode_folder
    from evaluation.metrics import evaluators
    from evaluation.metrics.extractors import FeatureExtractor, inception
    from evaluation.metrics.feature_file import FeatureFile
    from evaluation.metrics.fid import frechet_distance_and_draws, gaussian_of_features
    from evaluation.metrics.suite import Evaluators
    from mot_lab.cli import main as mot_lab

    if network == "fixed":
        encode = encoder(WideNetwork("fixed", ["fixed"]))
        extractor = FeatureExtractor("fixed network", "FID", encode)
    else:
        extractor = inception(network)

    def features(path: Path) -> FeatureFile:
        folder = PictureFolder(path)
        folder.check()
        return encode_folder(folder, [extractor.encode], path.name)[extractor.encode]

    def fid() -> float:
        return frechet_distance_and_draws(features(made), gaussian_of_features(features(real)))[0]

    def command() -> float:
        printed = io.StringIO()
        mine = mock.patch.object(evaluators, "load_evaluators", lambda *_: Evaluators((extractor,)))
        with mine, contextlib.redirect_stdout(printed):
            mot_lab(["evaluate", "--generated", str(made), "--reference", str(real), "--json"])
        return json.loads(printed.getvalue())["metrics"][0]["value"]

    return {"fid": fid, "command": command}[what]


def _fidelity(what: str, made: Path, real: Path, network: str) -> Any:
    import torch_fidelity
    from torch_fidelity.fidelity import main as fidelity

    torch_fidelity.register_feature_extractor("fixed", WideNetwork)
    fixed = {"feature_extractor": "fixed"}
    which = fixed if network == "fixed" else {"feature_extractor_weights_path": network}

    def fid() -> float:
        figures = torch_fidelity.calculate_metrics(
            input1=str(made), input2=str(real), cuda=False, fid=True, **which
        )
        return figures["frechet_inception_distance"]

    def command() -> float:
        printed = io.StringIO()
        arguments = ["fidelity", "--fid", "--kid", "--cpu", "--json", "--input1", str(made)]
        arguments += ["--input2", str(real), "--feature-extractor", "fixed"]
        with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(printed):
            fidelity()
        return json.loads(printed.getvalue())["frechet_inception_distance"]

    return {"fid": fid, "command": command}[what]


def _make_pictures(folder: Path, count: int) -> Path:
    """``made`` and ``real`` with ``count`` smooth PNG files each, slightly different in colour."""
    for seed, (name, tint) in enumerate((("made", 20), ("real", 0))):
        (folder / name).mkdir(parents=True)
        generator = np.random.default_rng(seed)
        for place in range(count):
            coarse = generator.integers(0, 230, (8, 8, 3), dtype=np.uint8)
            coarse[..., 0] += np.uint8(tint)
            picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            picture.save(folder / name / f"{place:06}.png")
    return folder


def _random_inception() -> torch.nn.Module:
    """The architecture of torch-fidelity's extractor, without its weights, which are a download."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    network = module.FeatureExtractorInceptionV3
    with (
        mock.patch.object(module, "load_state_dict_from_url", lambda *_, **__: {}),
        mock.patch.object(network, "load_state_dict", lambda *_, **__: None),
    ):
        torch.manual_seed(0)
        return network("inception-v3-compat", ["2048"])


if __name__ == "__main__":
    main()
