"""A trained model, loaded from its checkpoint alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mot_lab.causal_router import CausalRouter, load_router, router_path, weights_digest
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import DataConfig, PreparedData, prepare
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.parsing import from_dict, under
from mot_lab.runtime.averaging import averages_in, load_weights
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.plain_files import laid_out


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
    """Read a checkpoint, and the causal router beside it where there is one.

    Args:
        path: of a checkpoint that ``mot-lab study`` or ``mot-lab fit`` wrote.
        data: prepared already; by default what the checkpoint names, from the cache.

    Raises:
        ValueError: no file, no whole checkpoint, one of something else, or a causal router that
            was fitted on other weights.
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
    checkpoint = load_checkpoint(path)
    try:
        settings = checkpoint["model_settings"]
        data_settings = checkpoint[MultimodalDataModule.__qualname__]["config"]
    except KeyError as missing:
        raise ValueError(f"{path} is no checkpoint of mot-lab: it has no {missing}") from None
    except TypeError:
        raise ValueError(f"{path} is no checkpoint of mot-lab") from None
    with under(str(path)), laid_out("its model"):
        config = from_dict(DataConfig, data_settings, "data")
        # Answers have rows of every length: a compiled network would be compiled for each.
        model = replace(from_dict(ModelConfig, settings["config"], "model"), compile=False)
        module = MultimodalModule(model, config.interface(), settings["arm"])
    with laid_out(path):
        _load_weights(module, checkpoint, path)
        step = int(checkpoint["global_step"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Trained(module.to(device).eval(), data or prepare(config), step)


def _load_weights(module: MultimodalModule, checkpoint: dict[str, Any], path: Path) -> None:
    """The averaged weights of a checkpoint."""
    if others := module.state_dict().keys() ^ checkpoint["state_dict"].keys():
        raise ValueError(
            f"{path} holds other weights than this version's, {sorted(others)[0]} for one: "
            f"train the run again"
        )
    try:
        module.load_state_dict(checkpoint["state_dict"])
        load_weights(dict(module.named_parameters()), averages_in(checkpoint))
    except RuntimeError as error:  # torch's word for a weight of another shape
        raise ValueError(f"{path} holds weights of other shapes: {error}") from None
