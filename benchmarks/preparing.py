"""Preparing pictures with captions out of WebDataset tars, against the plain loop; and how fast
shards are read on one core, against what the demo consumes. As JSON.

python -m benchmarks.preparing [pairs] [processes] [rounds]

The plain loop is the package `webdataset` with its own decoder (Pillow), torchvision's resizing and
cropping, and the tokenizer, one process for each share of the tars; it writes nothing. Ours is
`write_shards`, which does the same and writes shards with their checksums. Both take turns, each
time in a new process; `seconds` are of the call, the start of its workers included and the imports
of the main process aside. Pictures are JPEGs of 256 x 256 (about 20 kB) made 64 x 64; pixels are
their own latents, so that no network hides the cost of all else.

Reading: documents drawn at random, and whole batches packed of them, in one process without
workers, from pictures of 16 x 16, which have three times the numbers of the demo's latents. The
demo consumes the tokens of a step in the time of its fastest arm's, two runs beside each other.
"""

import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks.results_file import keep
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.documents import ImageSegment, TextSegment
from mot_lab.data.own_data import prepare_own
from mot_lab.data.prepare import DataConfig
from mot_lab.data.prose import ProseSource
from mot_lab.data.shards.writing import write_shards
from mot_lab.environment import environment
from mot_lab.parsing import from_dict
from mot_lab.tokens.text import TextTokenizer, fit_text_tokenizer

DEMO = Path(__file__).parent.parent / "experiments" / "results" / "transfusion" / "report.json"
TARS, HELD_OUT = 20, 16
SIDE, CANVAS, SMALL = 256, 64, 16
TARGETS = {"of_plain_speed": 0.8, "of_demo": 20.0}
READ_SECONDS = 5.0


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print("RESULT" + json.dumps(_one(*sys.argv[2:])))
        return
    numbers = [int(word) for word in sys.argv[1:]]
    pairs, processes, rounds = (*numbers, *(10_000, 2, 3)[len(numbers) :])
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        _make_tars(folder, pairs)
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        for turn in range(rounds):
            for side in ("ours", "plain") if turn % 2 else ("plain", "ours"):
                found = _in_new_process(side, folder, folder / f"shards{turn}", processes)
                assert found["pairs"] == pairs, found
                seconds[side].append(found["seconds"])
        reading = _reading(folder)
    medians = {side: statistics.median(each) for side, each in seconds.items()}
    result = {
        "pairs": pairs,
        "processes": processes,
        "rounds": rounds,
        "seconds": seconds,
        "pairs_per_second": {side: pairs / each for side, each in medians.items()},
        "of_plain_speed": medians["plain"] / medians["ours"],
        "reading": reading,
        "targets": TARGETS,
        "load_before": load,
        "command": f"python -m benchmarks.preparing {pairs} {processes} {rounds}",
        "environment": environment("32-true"),
    }
    keep("preparing", result)


def data_config(folder: Path, shards: Path, canvas: int = CANVAS) -> DataConfig:
    """The tars of a folder, prepared in another; a picture is 16 tokens."""
    source = {
        "kind": "webdataset",
        "path": str(folder / "train"),
        "val": str(folder / "val"),
        "test": str(folder / "test"),
    }
    return from_dict(
        DataConfig,
        {
            "sources": [source],
            "prepared": str(shards),
            "scenes": {"canvas": canvas},
            "text": {"path": str(folder / "tokenizer.json")},
            "image": {"kind": "pixels"},
            "patch": canvas // 4,
            "row_length": 128,
            "rows": 8,
            "val_rows": 8,
        },
    )


def _make_tars(folder: Path, pairs: int) -> None:
    """``pairs`` samples in ``train``, a few in ``val`` and ``test``, and the words' tokenizer."""
    rng = np.random.default_rng(0)
    words = " ".join(ProseSource().passages("val")).split()
    files = [_jpeg(rng) for _ in range(64)]
    captions = [
        " ".join(words[start : start + 12]) for start in rng.integers(len(words) - 12, size=pairs)
    ]
    fit_text_tokenizer(captions, 4096, ["image"]).save(folder / "tokenizer.json")
    shares = np.array_split(np.arange(pairs), TARS)
    for place, share in enumerate(shares):
        _tar(folder / "train" / f"{place:05}.tar", share, files, captions)
    for split in ("val", "test"):
        _tar(folder / split / "00000.tar", range(min(HELD_OUT, pairs)), files, captions)


def _jpeg(rng: np.random.Generator) -> bytes:
    coarse = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    file = BytesIO()
    coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    return file.getvalue()


def _tar(path: Path, numbers: Iterable[int], files: list[bytes], captions: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in map(int, numbers):
            both = {"jpg": files[number % len(files)], "txt": captions[number].encode()}
            for extension, content in both.items():
                member = tarfile.TarInfo(f"{number:09}.{extension}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))


def _in_new_process(side: str, folder: Path, shards: Path, processes: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.preparing", "--one", side]
    # no more threads than processes on either side
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [*command, str(folder), str(shards), str(processes)],
        capture_output=True,
        text=True,
        env={**os.environ, **quiet, "MOT_LAB_CACHE": str(folder / "cache")},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return found


def _one(side: str, folder: str, shards: str, processes: str) -> dict[str, Any]:
    began = time.perf_counter()
    if side == "ours":
        manifest = write_shards(data_config(Path(folder), Path(shards)), shards, int(processes))
        pairs = sum(part.documents for part in manifest.of("train", 0))
    else:
        tars = sorted(map(str, Path(folder, "train").iterdir()))
        shares = [(folder, tars[rank :: int(processes)]) for rank in range(int(processes))]
        with get_context("spawn").Pool(int(processes)) as pool:
            pairs = sum(pool.starmap(plain_loop, shares))
    return {"seconds": time.perf_counter() - began, "pairs": pairs}


def plain_loop(folder: str, tars: list[str]) -> int:
    """Every pair of some tars decoded, resized, cropped and tokenised; how many there were."""
    import torch
    import webdataset
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    torch.set_num_threads(1)
    size = Resize(CANVAS, InterpolationMode.BICUBIC)
    prepared = Compose([size, CenterCrop(CANVAS), np.asarray])
    texts = TextTokenizer.load(Path(folder) / "tokenizer.json", ["image"])
    samples = webdataset.WebDataset(tars, shardshuffle=False).decode("pil").to_tuple("jpg", "txt")
    pairs = 0
    for picture, caption in samples:
        pixels_HWC, ids = prepared(picture), texts.encode(caption)
        assert pixels_HWC.shape == (CANVAS, CANVAS, 3) and ids
        pairs += 1
    return pairs


def _reading(folder: Path) -> dict[str, Any]:
    """Tokens a second of one core: of documents drawn, and of batches packed."""
    demo = json.loads(DEMO.read_text())
    step = min(arm["seconds_per_step"] for arm in demo["arms"].values())
    consumed = sum(demo["tokens_per_step"].values()) / step * demo["environment"]["parallel_runs"]
    os.environ["MOT_LAB_CACHE"] = str(folder / "cache")
    config = data_config(folder, folder / "small", SMALL)
    write_shards(config, str(folder / "small"), 1)
    data = prepare_own(config)
    stream, rng = data.stream("train"), np.random.default_rng(0)
    picture = data.layout.blocks["image"].length or 0
    tokens, began = 0, time.process_time()
    while (documents := time.process_time() - began) < READ_SECONDS:
        for segment in stream.draw(rng).segments:
            if isinstance(segment, TextSegment):
                tokens += len(segment.ids.copy())  # read, not only pointed to
            elif isinstance(segment, ImageSegment):
                tokens += picture
    packed, began = 0, time.process_time()
    for batch in MultimodalDataModule(config).train_loader(1_000_000):
        packed += batch.num_tokens
        if (batches := time.process_time() - began) > READ_SECONDS:
            break
    rates = {"documents": tokens / documents, "batches": packed / batches}
    return {
        "tokens_per_second": rates,
        "demo_tokens_per_second": consumed,
        "of_demo": {name: rate / consumed for name, rate in rates.items()},
    }


if __name__ == "__main__":
    main()
