"""A trained model, loaded from its checkpoint or export alone."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mot_lab.causal_router import CausalRouter, load_router, router_path, weights_digest
from mot_lab.data.prepare import PreparedData, prepare
from mot_lab.module import MultimodalModule
from mot_lab.saved import read_saved


@dataclass(frozen=True)
class Trained:
    """A module in evaluation mode with averaged weights, and the data it was trained on.

    Attributes:
        step: of its training.
        router: its causal routers, attached to the network; None where there are none.
    """

    module: MultimodalModule
    data: PreparedData
    step: int
    router: CausalRouter | None = None


def load_trained(path: Path, data: PreparedData | None = None) -> Trained:
    """Read a checkpoint or an export, and its causal router where there is one.

    Args:
        path: of a checkpoint that ``mot-lab study`` or ``mot-lab fit`` wrote, or of a folder that
            ``mot-lab export`` made.
        data: prepared already; by default what the checkpoint names, from the cache.

    Raises:
        ValueError: no file, no whole checkpoint, one of something else, a causal router that was
            fitted on other weights, or tokenizers that are not those of an export.
    """
    trained = load_without_router(path, data)
    beside = router_path(path)
    if not beside.exists():
        return trained
    router = load_router(beside)
    if router.weights != weights_digest(trained.module.net):
        raise ValueError(
            f"{beside} was fitted on other weights, of step {router.step}, than those of {path}, "
            f"of step {trained.step}: run `mot-lab fit-router {path}` again, or remove it"
        )
    router.attach(trained.module.net.transformer)
    return replace(trained, router=router)


def load_without_router(path: Path, data: PreparedData | None = None) -> Trained:
    """`load_trained`, whatever lies beside the checkpoint."""
    saved = read_saved(path)
    module = saved.module()
    data = data or prepare(saved.data)
    if saved.tokenizers not in (None, data.key):
        raise ValueError(
            f"{path} was exported with other tokenizers than its settings give here: put those "
            f"under the paths that {path} names, or bring the cache (MOT_LAB_CACHE) along"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Trained(module.to(device), data, saved.step)
