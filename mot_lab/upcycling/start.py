"""Begin from a trained model (``model.start_from``): Dense, read from wherever it is, copied into
the towers and experts of any arm.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import Wiring
from mot_lab.data.interface import DataInterface
from mot_lab.data.prepare import prepare
from mot_lab.data.scenes import SceneSource
from mot_lab.data.tokenizers import load_texts
from mot_lab.hub import HUB_ID
from mot_lab.model import MultimodalModel
from mot_lab.parsing import brief
from mot_lab.saved import is_export, read_saved
from mot_lab.tokens.text_files import read_tokenizer
from mot_lab.upcycling.language_model import (
    language_model_backbone,
    load_language_model,
    special_rows,
)
from mot_lab.upcycling.towers import copy_into_towers, is_dense, require_same_backbone
from mot_lab.upcycling.vocabulary import NEW, fill_vocabulary, shared_rows

HUB_FILES = ["*.json", "*.safetensors"]


@dataclass(frozen=True)
class DenseModel:
    """A Dense model to begin from.

    Attributes:
        net: its network.
        interface: its vocabulary and modalities.
        text_ids: entries of its text tokenizer by their string; None where it has none beside it.
        special: entries that ours of other names begin as.
    """

    net: MultimodalModel
    interface: DataInterface
    text_ids: dict[str, int] | None
    special: dict[str, int]


@dataclass(frozen=True)
class Started:
    """What a network began from, kept in its checkpoints and in ``start.json`` of its run.

    Attributes:
        path: as it was configured.
        digest: of the files (`start_digest`).
        copied, new: entries of the vocabulary.
        by_id: text entries were taken by id: there was no tokenizer to compare.
        codec: whether the patch codec was copied too; None where nothing is denoised.
    """

    path: str
    digest: str
    copied: int
    new: int
    by_id: bool
    codec: bool | None


def start_network(
    net: MultimodalModel,
    interface: DataInterface,
    path: str,
    text_ids: dict[str, int] | None = None,
    seed: int = 0,
) -> Started:
    """Give a network the weights of a Dense model, in place.

    Args:
        net: of any arm, with the backbone of the Dense model.
        interface: of the network.
        path: a checkpoint of mot-lab, a folder that ``mot-lab export`` made, or a folder or hub id
            of a Llama or Qwen in the format of `transformers`.
        text_ids: entries of the network's text tokenizer by their string.
        seed: of what new entries of the vocabulary are drawn from.

    Raises:
        ValueError: no such model, not Dense, of another backbone or another text tokenizer.
    """
    dense = load_dense(path)
    require_same_backbone(net.transformer.config, dense.net.transformer.config, path)
    copy_into_towers(dense.net.transformer, net.transformer)
    rows_V = shared_rows(interface, dense.interface, text_ids, dense.text_ids, dense.special)
    head, theirs = net.autoregressive, dense.net.autoregressive
    fill_vocabulary(
        head.embedding,
        head.output,
        theirs.embedding.weight.detach(),
        theirs.output.weight.detach(),
        rows_V,
        seed,
    )
    new = int((rows_V == NEW).sum())
    by_id = text_ids is None or dense.text_ids is None
    codec = _copy_codec(net, dense.net)
    return Started(path, start_digest(path), len(rows_V) - new, new, by_id, codec)


def load_dense(path: str) -> DenseModel:
    """The Dense model of a checkpoint, an export, or a language model of `transformers`.

    Raises:
        ValueError: none is there, or it is not Dense.
    """
    place = local_path(path)
    if not _is_ours(place):
        net = load_language_model(place)
        interface = DataInterface(net.autoregressive.output.out_features, {})
        return DenseModel(net, interface, _tokenizer_ids(place), special_rows(place))
    saved = read_saved(place)
    module = saved.module()
    if not is_dense(module.arm.wiring):
        raise ValueError(
            f"{path} is of arm {module.arm.name}: only Dense, one tower without experts, can be "
            f"started from"
        )
    data = saved.data
    texts = prepare(data).texts if data.own else load_texts(data, SceneSource(data.scenes))
    return DenseModel(module.net, data.interface(), texts.ids(), {})


def require_startable(path: str, backbone: TransformerConfig) -> None:
    """Raises ValueError where a backbone cannot begin from what is there: said before training."""
    place = local_path(path)
    ours = _is_ours(place)
    theirs = read_saved(place).model.backbone if ours else language_model_backbone(place)
    require_same_backbone(backbone, theirs, path)


def start_sentence(path: str, wiring: Wiring) -> str:
    """What an arm is that begins from Dense, like ``upcycled from PATH``.

    Example:
        >>> from mot_lab.backbones.wiring import named_arms
        >>> start_sentence("llama", named_arms(["text", "image"])["mot"].wiring)
        'upcycled from llama'
    """
    return f"{'starts' if is_dense(wiring) else 'upcycled'} from {path}"


@lru_cache(maxsize=16)
def start_digest(path: str) -> str:
    """SHA-256 (16 hex digits) of what is started from: a checkpoint, or the configuration and
    weights of a folder, their names included.
    """
    place = local_path(path)
    files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    files += [place / name for name in ("config.json", "mot_lab.json") if (place / name).is_file()]
    whole = hashlib.sha256()
    for each in files:
        with open(each, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{each.name} {content}\n".encode())
    return whole.hexdigest()[:16]


@lru_cache(maxsize=16)
def local_path(path: str) -> Path:
    """A file or folder as it is; a hub id as the folder that it is downloaded to.

    Raises:
        ValueError: there is neither.
    """
    if Path(path).exists():
        return Path(path)
    if not HUB_ID.fullmatch(path):
        raise ValueError(
            f"no model to start from at {path!r}: give a checkpoint.ckpt, a folder that mot-lab "
            f"export or transformers saved, or a hub id"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, allow_patterns=HUB_FILES))
    except (OSError, ValueError) as error:
        raise ValueError(f"no model to start from at {path!r}, a hub id: {brief(error)}") from error


def _is_ours(place: Path) -> bool:
    return place.is_file() or is_export(place)


def _tokenizer_ids(folder: Path) -> dict[str, int] | None:
    file = folder / "tokenizer.json"
    return read_tokenizer(file).get_vocab(with_added_tokens=True) if file.is_file() else None


@torch.no_grad()
def _copy_codec(net: MultimodalModel, dense: MultimodalModel) -> bool | None:
    """Copy the patch codec where both have one of the same shapes."""
    if net.diffusion is None:
        return None
    ours = net.diffusion.state_dict()
    theirs = {} if dense.diffusion is None else dense.diffusion.state_dict()
    shapes, their_shapes = ({k: v.shape for k, v in each.items()} for each in (ours, theirs))
    if shapes != their_shapes:
        return False
    net.diffusion.load_state_dict(theirs)
    return True
