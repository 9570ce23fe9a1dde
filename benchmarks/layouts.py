"""Seconds of one block, forward and backward, in every layout and for several mixes of modalities.

Dense, ours, and the layouts of other codes (`benchmarks.peer_layouts`), timed in turns. Sorting
and the way back, masks, indices and the attention mask are a batch's and in no block's time. Where
ours has documents in rows of their own for attention (not compiled, on the CPU), it is timed in
whole rows too, as the other codes have them: what the layout alone is worth.

    python -m benchmarks.layouts [--size demo|443M|880M|1.5B] [--rounds 20] [--processes 1]
        [--compile] [--profile]

With ``--compile`` each layout is timed as `torch.compile` makes it, too: ours and Dense for any
mix, as ``model.compile: true`` does, the others for that of their one batch. With ``--profile`` the
operations of each layout are listed, by the time they take themselves.
On the CPU in fp32; where there is a GPU, in bf16. The sizes are those of the paper's Tables 1 and 3
at a sequence length of 4,096 and are meant for a GPU.

Shapes: B rows, S positions, N = B * S places, D width.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.interleaved import in_processes, interleaved, over_processes
from benchmarks.mixes import MIXES, Places, modalities_of
from benchmarks.peer_layouts import PEERS, peer_block
from benchmarks.results_file import RESULTS, keep
from mot_lab.backbones.attending import Kernel
from mot_lab.backbones.attention import AttentionContext
from mot_lab.backbones.compilation import compile_in_place
from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.transformer import Transformer
from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import parse_arm
from mot_lab.environment import environment


@dataclass(frozen=True)
class Size:
    """Of one layer and its batch."""

    width: int
    heads: int
    feed_forward_multiple: int
    rows: int
    length: int


SIZES = {
    "demo": Size(128, 4, 32, 8, 128),
    "443M": Size(1024, 16, 256, 6, 4096),
    "880M": Size(1536, 24, 256, 4, 4096),
    "1.5B": Size(2048, 16, 256, 4, 4096),
}
PROFILED = 20  # times that a block is run
LISTED = 15  # operations


@dataclass(frozen=True)
class BlockWork:
    """Forward and backward of one block in one layout.

    Attributes:
        run: what is timed; output and gradient of the input, both [N, D] in the layout's order.
        groups: whose order that is.
    """

    run: Callable[[], tuple[Tensor, Tensor]]
    groups: TokenGroups

    def in_sequence(self) -> tuple[Tensor, Tensor]:
        """What it makes, [N, D] in sequence order."""
        output_ND, gradient_ND = map(self.groups.restored, self.run())
        return output_ND, gradient_ND


def block_works(
    size: Size, mix: str, device: torch.device, dtype: torch.dtype, compiled: bool = False
) -> dict[str, BlockWork]:
    """One block by layout. Dense has weights of its own, so has every call of this."""
    names = modalities_of(mix)
    places = Places.of_mix(mix, size.rows, size.length).to(device)
    flat_N = places.modality_BS.flatten()
    counts = {name: int((flat_N == i).sum()) for i, name in enumerate(names)}
    config = TransformerConfig(
        width=size.width,
        layers=1,
        heads=size.heads,
        feed_forward_multiple=size.feed_forward_multiple,
    )
    generator = torch.Generator(device).manual_seed(0)
    shape = (2, flat_N.numel(), size.width)
    x_ND, grad_ND = torch.randn(shape, generator=generator, device=device).to(dtype)

    def ours(arm: str, kernel: Kernel = "auto") -> tuple[Transformer, BlockWork]:
        torch.manual_seed(0)
        transformer = Transformer(config, parse_arm(arm, names).wiring).to(device, dtype)
        transformer.kernel, transformer.compiled = kernel, compiled
        groups = TokenGroups.build(places.modality_BS, counts, transformer.wiring)
        context = transformer.context(
            groups, places.document_BS, places.image_BS, places.position_BS
        )
        block = transformer.layers[0]
        if compiled:
            compile_in_place([block])
        # Between two blocks tokens stay in grouped order: the way there and back is no block's.
        x_TD, grad_TD = groups.group(x_ND), groups.group(grad_ND)

        def work() -> tuple[Tensor, Tensor]:
            block.zero_grad()
            x = x_TD.detach().requires_grad_()
            y = block(x, groups, context)
            y.backward(grad_TD)
            assert x.grad is not None
            return y.detach(), x.grad

        return transformer, BlockWork(work, groups)

    def peer(layout: str, transformer: Transformer) -> BlockWork:
        block = transformer.layers[0]
        masks = [flat_N == i for i in range(len(names))]
        if device.type == "cpu":
            transformer.kernel = "sdpa"
        plain = TokenGroups(None, None, (flat_N.numel(),), tuple(places.modality_BS.shape))
        context: AttentionContext = transformer.context(
            plain, places.document_BS, places.image_BS, places.position_BS
        )
        forward = peer_block(block, PEERS[layout](masks), context, plain.shape)
        forward = torch.compile(forward) if compiled else forward

        def work() -> tuple[Tensor, Tensor]:
            block.zero_grad()
            x = x_ND.detach().requires_grad_()
            y = forward(x)
            y.backward(grad_ND)
            assert x.grad is not None
            return y.detach(), x.grad

        return BlockWork(work, plain)

    _, dense = ours("dense")
    transformer, grouped = ours("mot")
    works = {"dense": dense, "ours": grouped}
    if device.type == "cpu" and not compiled:
        works["ours, whole rows"] = ours("mot", "sdpa")[1]
    return works | {layout: peer(layout, transformer) for layout in PEERS}


def operations(works: Mapping[str, BlockWork], device: torch.device) -> str:
    """A table of each layout: its operations, the time in them and how often they are called."""
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    order = f"self_{device.type}_time_total"
    tables = []
    for name, work in works.items():
        work.run()  # once, to have everything allocated
        with profile(activities=kinds) as profiler:
            for _ in range(PROFILED):
                work.run()
        found = profiler.key_averages()
        tables.append(f"{name}, {PROFILED} times\n{found.table(sort_by=order, row_limit=LISTED)}")
    return "\n".join(tables)


def _times(options: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """By mix and layout, in this process."""
    device, dtype = _device()
    torch.set_num_threads(1)
    size = SIZES[options.size]
    mixes = {}
    for mix in track(MIXES, description="mixes"):
        works = block_works(size, mix, device, dtype)
        if options.compile:
            torch.compiler.reset()  # torch compiles a function for few shapes, then no more
            compiled = block_works(size, mix, device, dtype, compiled=True)
            works |= {f"{name}, compiled": work for name, work in compiled.items()}
        turns = {name: lambda _, work=work: work.run() for name, work in works.items()}
        others = {name: name for name in works if name.split(",")[0] in PEERS}
        mixes[mix] = interleaved(turns, options.rounds, "dense", device, others=others)
    return mixes


def _told(name: str, processes: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Over processes; ratios to the layouts of others are of ours alone."""
    told = over_processes(processes)
    wanted = ("seconds", "of_baseline")
    return told if name.startswith("ours") else {key: told[key] for key in wanted}


def _device() -> tuple[torch.device, torch.dtype]:
    """With the numbers that are timed on it."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    return torch.device("cpu"), torch.float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1, help="one after the other")
    parser.add_argument("--compile", action="store_true", help="each layout compiled, too")
    parser.add_argument("--profile", action="store_true", help="list the operations, half and half")
    options = parser.parse_args()
    times = in_processes(_times, [options], options.processes)
    torch.set_num_threads(1)  # as each process did; the result says so
    device, dtype = _device()
    result = {
        "size": options.size,
        "dtype": str(dtype),
        "mixes": {
            mix: {name: _told(name, [each[mix][name] for each in times]) for name in times[0][mix]}
            for mix in MIXES
        },
        "command": f"python -m benchmarks.layouts --size {options.size} --rounds {options.rounds}"
        + f" --processes {options.processes}"
        + " --compile" * options.compile,
        "environment": environment("auto"),
    }
    if options.profile:
        works = block_works(SIZES[options.size], "50/50", device, dtype)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"layouts_{options.size}_profile.txt").write_text(operations(works, device))
    keep(f"layouts_{options.size}" + "_compiled" * options.compile, result)


if __name__ == "__main__":
    main()
