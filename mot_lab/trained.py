"""A trained model, loaded from its checkpoint alone."""

from dataclasses import dataclass
from pathlib import Path

import torch

from mot_lab.config import from_dict
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import DataConfig, PreparedData, prepare
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.runtime.averaging import averages_in, load_weights
from mot_lab.runtime.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Trained:
    """A module in evaluation mode with averaged weights, and the data it was trained on."""

    module: MultimodalModule
    data: PreparedData
    step: int


def load_trained(path: Path, data: PreparedData | None = None) -> Trained:
    """Read a checkpoint.

    Args:
        path: of a checkpoint that ``mot-lab study`` or ``mot-lab fit`` wrote.
        data: prepared already; by default what the checkpoint names, from the cache.

    Raises:
        ValueError: no file, no whole checkpoint, or one of something else.
    """
    checkpoint = load_checkpoint(path)
    try:
        settings = checkpoint["model_settings"]
        data_settings = checkpoint[MultimodalDataModule.__qualname__]["config"]
    except KeyError as missing:
        raise ValueError(f"{path} is no checkpoint of mot-lab: it has no {missing}") from None
    config = from_dict(DataConfig, data_settings)
    model = from_dict(ModelConfig, settings["config"])
    module = MultimodalModule(model, config.interface(), settings["arm"])
    module.load_state_dict(checkpoint["state_dict"])
    load_weights(dict(module.named_parameters()), averages_in(checkpoint))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Trained(
        module.to(device).eval(), data or prepare(config), int(checkpoint["global_step"])
    )
