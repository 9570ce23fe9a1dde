"""Looks into checkpoints: hidden states by layer and modality, their components and separation.

The figures are those of MoT's paper (arXiv 2411.04996, figures 2b and 23); it prints no measure of
how far apart the modalities are.
"""

from collections.abc import Sequence
from typing import cast

from evaluation.progress import counting
from evaluation.representation.checkpoints import Source, labels
from evaluation.representation.pca import principal_components
from evaluation.representation.record import ArmStates, Depth, Representation
from evaluation.representation.sample import TokenSample, draw_tokens
from evaluation.representation.separation import separation
from evaluation.representation.states import depth_names, hidden_states
from evaluation.trained.routing import routings
from mot_lab.backbones.transformer import Routing
from mot_lab.batch import MultimodalBatch
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.packing import Layout
from mot_lab.data.prepare import PreparedData
from mot_lab.trained import Trained, load_trained

TOKENS = 2000


def represent(
    sources: Sequence[Source],
    split: str = "val",
    tokens: int = TOKENS,
    seed: int = 0,
    noised: bool = False,
) -> Representation:
    """The hidden states of the same tokens in every checkpoint.

    Arms with experts are run under causal routing where their router was fitted, else under that
    of training.

    Args:
        sources: the checkpoints, all of the same data.
        split: held-out batches: ``val``, ``test`` or ``unseen``.
        tokens: how many, shared out equally over the modalities.
        seed: of the tokens and of the intervals' resamples.
        noised: denoised pictures with noise (`evaluation.representation.states.hidden_states`).

    Raises:
        ValueError: an unknown split, checkpoints of different data, or too few tokens.
    """
    if tokens < 1:
        raise ValueError(f"tokens {tokens} must be at least 1")
    data: PreparedData | None = None
    arms: list[str] = []
    states: list[ArmStates] = []
    for source in sources:
        trained = load_trained(source.path)
        if data is None:
            data = trained.data
            if split not in data.config.held_out:
                raise ValueError(f"split {split!r} is none of {', '.join(data.config.held_out)}")
            loader = MultimodalDataModule(data.config).held_out_loader(split)
            batches: list[MultimodalBatch] = list(loader)
            names, special = data.interface.modalities, _special_tokens(data.layout)
            sample = draw_tokens(batches, names, tokens, seed, special)
        elif trained.data != data:
            raise ValueError(
                f"{source.path} was trained on other data than {sources[0].path}: look at each "
                f"by itself"
            )
        arms.append(source.arm or trained.module.arm.name)
        states.append(_look_into(trained, source, arms[-1], batches, sample, seed, noised))
    named = [
        ArmStates(label, each.arm, each.checkpoint, each.step, each.routing, each.depths)
        for label, each in zip(labels(sources, arms), states, strict=True)
    ]
    documents = int(sample.document_N.max()) + 1
    modality = tuple(sample.modality_N.tolist())
    return Representation(split, seed, noised, sample.modalities, modality, documents, tuple(named))


def _special_tokens(layout: Layout) -> list[int]:
    boundaries = [token for block in layout.blocks.values() for token in (block.begin, block.end)]
    return [layout.pad, layout.bos, layout.eos, *boundaries]


def _look_into(
    trained: Trained,
    source: Source,
    arm: str,
    batches: Sequence[MultimodalBatch],
    sample: TokenSample,
    seed: int,
    noised: bool,
) -> ArmStates:
    net = trained.module.net
    routing = routings(net)[-1]  # causal stands last where there is a router
    with net.transformer.routing(cast(Routing, "training" if routing == "none" else routing)):
        states_KND = hidden_states(net, batches, sample, noised)
    depths = []
    names = depth_names(len(net.transformer.blocks))
    with counting(f"{arm}: layers", len(names)) as advance:
        for name, states_ND in zip(names, states_KND, strict=True):
            found = principal_components(states_ND)
            points = tuple((float(x), float(y)) for x, y in found.points_NC)
            scores = separation(states_ND, sample, seed)
            depths.append(Depth(name, points, found.explained, scores))
            advance(1)
    return ArmStates(arm, arm, str(source.path), trained.step, routing, tuple(depths))
