"""The section on expert choice and causality: the leak, the router, the experts, the probe."""

from evaluation.report.blocks import Block, Picture, Table, Text
from evaluation.wording import Cell, Numbers, show

NO_EXPERTS = "No arm of this study has experts."
NOT_ROUTED = (
    "This study's arms with experts were evaluated by a version that did not route them causally, "
    "so how much their losses leak is not known; evaluate the study again to have this section."
)
NOT_PROBED = (
    "This study was evaluated by a version that did not probe its arms for causality; evaluate it "
    "again to have this table."
)
LEAK = (
    "In training an expert picks its tokens by comparing all tokens of the batch, later ones "
    "included. A small router, fitted on the frozen model, predicts each choice from the token "
    "alone; routing by it is causal. The same held-out data is scored both ways: the leak is what "
    "the loss gains when the choice no longer sees other tokens (causal less training routing), "
    "and holds what the router fails to learn as well. Captions and pictures are made under causal "
    "routing only. n counts tokens of text, or pictures."
)
UNROUTED = Picture(
    "unrouted",
    "Tokens that no expert took",
    "The higher a line stands at a layer, the more tokens of that modality pass its experts by "
    "and keep only their residual stream.",
    "Shares of the modality's held-out tokens; lines are means over seeds, bands run from the "
    "least to the greatest of them.",
)
LOAD = Picture(
    "expert_load",
    "Tokens that each expert took",
    "An expert that is dark for one modality and light for the other has specialised; a row of "
    "one shade says that the experts of that layer share the work.",
    "Shares of the modality's held-out tokens with the first seed, since an expert of one seed is "
    "not that of another; a token may go to several experts or to none, so they need not sum to "
    "one.",
)


def expert_blocks(numbers: Numbers) -> list[Block]:
    """The section."""
    blocks: list[Block] = []
    found = numbers["expert_choice"]
    if found is None:
        leaking = any(facts["loss_sees_other_tokens"] for facts in numbers["arms"].values())
        blocks.append(Text(NOT_ROUTED if leaking else NO_EXPERTS))
    else:
        blocks += [Text(LEAK), _leaks(numbers), _routers(numbers), UNROUTED, LOAD]
        blocks += [_unrouted(numbers), _load(numbers)]
    if not numbers["causality"]:
        return [*blocks, Text(NOT_PROBED)]
    probe = Text(
        "The probe changes the later part of held-out batches and compares what the model predicts "
        "at earlier positions; a change counts where a logit or a latent value moves by more than "
        f"{show(numbers['method']['causality_tolerance'])}. A causal model changes nowhere."
    )
    return [*blocks, probe, _causality(numbers)]


def _leaks(numbers: Numbers) -> Table:
    columns = ["arm", "split", "modality", "measure", "training routing", "causal routing"]
    columns += ["leak", "leak over seeds", "seeds", "n"]
    keys = ("arm", "split", "modality", "measure", "training", "causal", "leak")
    rows: list[list[Cell]] = [
        [*(row[key] for key in keys), (row["leak_low"], row["leak_high"]), row["seeds"], row["n"]]
        for row in numbers["expert_choice"]["losses"]
    ]
    return Table("leak", "Losses under training routing and under causal routing", columns, rows)


def _routers(numbers: Numbers) -> Table:
    columns = ["arm", "fitted steps", "parameters", "accuracy", "recall", "precision", "seeds"]
    keys = ("arm", "steps", "parameters", "accuracy", "recall", "precision", "seeds")
    rows = [[row[key] for key in keys] for row in numbers["expert_choice"]["routers"]]
    title = "Causal routers: how often they choose as the experts do, on held-out data"
    return Table("routers", title, columns, rows)


def _unrouted(numbers: Numbers) -> Table:
    columns = ["arm", "tower", "layer", "modality", "tokens"]
    columns += ["unrouted, training routing", "unrouted, causal routing"]
    keys = ("arm", "tower", "layer", "modality", "tokens", "training", "causal")
    rows = [[row[key] for key in keys] for row in numbers["expert_choice"]["unrouted"]]
    return Table("unrouted", "Share of tokens that no expert took", columns, rows, folded=True)


def _load(numbers: Numbers) -> Table:
    columns = ["arm", "tower", "layer", "modality", "expert", "training routing", "causal routing"]
    keys = ("arm", "tower", "layer", "modality", "expert", "training", "causal")
    rows = [[row[key] for key in keys] for row in numbers["expert_choice"]["load"]]
    return Table(
        "load", "Share of tokens that each expert took, first seed", columns, rows, folded=True
    )


def _causality(numbers: Numbers) -> Table:
    columns = ["arm", "routing", "changes in the past when the future changes"]
    columns += ["largest change", "leaks"]
    rows: list[list[Cell]] = [
        [
            row["arm"],
            row["routing"],
            f"{show(row['changed'])} of {show(row['positions'])} positions"
            if row["changed"]
            else f"none of {show(row['positions'])} positions",
            float(row["largest"]),
            row["leaks"],
        ]
        for row in numbers["causality"]
    ]
    return Table("causality", "Causality probe", columns, rows)
