"""What a trained model is saved as: a run's checkpoint, or a folder that ``mot-lab export`` made.

An export is ``model.safetensors``, the weights that generate, and ``mot_lab.json``, what they are
of; the causal router of an arm with experts lies beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import DataConfig
from mot_lab.distributed.sharded_checkpoint import is_sharded
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.parsing import from_dict, under
from mot_lab.runtime.averaging import averages_in
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.plain_files import laid_out, read_json

FORMAT = "mot-lab model 1"
SETTINGS, WEIGHTS = "mot_lab.json", "model.safetensors"


@dataclass(frozen=True)
class SavedModel:
    """A trained model as plain settings and tensors.

    Attributes:
        path: where it was read from.
        model, data, arm: its settings.
        weights: averaged ones where there are, by the names of `MultimodalModule`.
        step: of its training.
        tokenizers: the key of the data that it was exported with (`PreparedData.key`); None in a
            checkpoint.
    """

    path: Path
    model: ModelConfig
    data: DataConfig
    arm: Any
    weights: Mapping[str, Tensor]
    step: int
    tokenizers: str | None = None

    def module(self) -> MultimodalModule:
        """The module with these weights, on the CPU, not compiled, in evaluation mode.

        Raises:
            ValueError: the weights are those of another version.
        """
        # Answers have rows of every length: a compiled network would be compiled for each.
        model = replace(self.model, compile=False)
        with under(str(self.path)), laid_out("its model"):
            module = MultimodalModule(model, self.data.interface(), self.arm)
        own = module.state_dict()
        if others := own.keys() ^ self.weights.keys():
            raise ValueError(
                f"{self.path} holds other weights than this version's, {sorted(others)[0]} for "
                f"one: train the run again"
            )
        for name, weight in own.items():
            if (found := self.weights[name].shape) != weight.shape:
                raise ValueError(
                    f"{self.path}: {name} is of shape {list(found)}, its settings say "
                    f"{list(weight.shape)}"
                )
        module.load_state_dict(self.weights)
        return module.eval()


def read_saved(path: Path) -> SavedModel:
    """A checkpoint or an export.

    Raises:
        ValueError: neither, one that is cut short, or of something else.
    """
    return _read_export(path) if path.is_dir() and not is_sharded(path) else _read_checkpoint(path)


def is_export(path: Path) -> bool:
    """Whether ``mot-lab export`` made the folder, for mot-lab itself."""
    return (path / SETTINGS).is_file()


def _read_checkpoint(path: Path) -> SavedModel:
    checkpoint = load_checkpoint(path)
    try:
        settings = checkpoint["model_settings"]
        data = checkpoint[MultimodalDataModule.__qualname__]["config"]
    except KeyError as missing:
        raise ValueError(f"{path} is no checkpoint of mot-lab: it has no {missing}") from None
    except TypeError:
        raise ValueError(f"{path} is no checkpoint of mot-lab") from None
    with under(str(path)), laid_out("its model"):
        model = from_dict(ModelConfig, settings["config"], "model")
        data_config = from_dict(DataConfig, data, "data")
    with under(str(path)), laid_out("what it holds"):
        weights, averages = checkpoint["state_dict"], averages_in(checkpoint)
        return SavedModel(
            path,
            model,
            data_config,
            settings["arm"],
            # frozen weights have no averages
            {name: averages.get(name, weight) for name, weight in weights.items()},
            int(checkpoint["global_step"]),
        )


def _read_export(folder: Path) -> SavedModel:
    if not is_export(folder):
        raise ValueError(f"{folder} is no model that mot-lab exported: there is no {SETTINGS}")
    about = read_json(folder / SETTINGS)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{folder / SETTINGS} is not of the format {FORMAT!r}")
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder / WEIGHTS} is no whole safetensors file: {error}") from None
    with under(str(folder / SETTINGS)), laid_out("its model"):
        return SavedModel(
            folder,
            from_dict(ModelConfig, about["model"], "model"),
            from_dict(DataConfig, about["data"], "data"),
            about["arm"],
            weights,
            int(about["step"]),
            str(about["tokenizers"]),
        )
