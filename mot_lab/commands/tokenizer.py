"""``mot-lab tokenizer fit``: one tokenizer of a study, fitted, described, saved."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mot_lab.commands import Commands, add_config, command

if TYPE_CHECKING:
    from evaluation.trained.tokenizer_facts import Facts


def add(commands: Commands) -> None:
    """Declare the command."""
    tokenizer = command(commands, "tokenizer", _run, "the tokenizers of a study, one by one")
    actions = tokenizer.add_subparsers(title="actions", required=True, metavar="ACTION")
    what = "fit a tokenizer, or find it in the cache, and say what it loses on held-out data"
    fit = command(actions, "fit", _run, what)
    fit.add_argument("modality", help="text, image, speech or a style's name")
    add_config(fit)
    fit.add_argument("--out", type=Path, help="new folder, which the configuration's path can name")


def _run(options: argparse.Namespace) -> None:
    from evaluation.trained.tokenizer_facts import picture_facts, speech_facts, text_facts
    from mot_lab.config import load_study
    from mot_lab.runtime.files import require_new

    data = load_study(options.config, options.overrides).data
    if data.own:
        raise ValueError(
            "the tokenizers of data.sources are fitted by `mot-lab data prepare`, which keeps them "
            "beside the shards in tokenizers/"
        )
    if options.out is not None:
        require_new(options.out)  # before anything is fitted for it
    if options.modality == "text":
        facts = text_facts(data)
    elif options.modality == "speech":
        facts = speech_facts(data)
    else:
        facts = picture_facts(data, options.modality)
    for name, value in facts.lines.items():
        print(f"{name:16} {value}")
    if options.out is not None:
        _save(facts, options.out)


def _save(facts: "Facts", folder: Path) -> None:
    from mot_lab.runtime.files import whole_folder

    with whole_folder(folder) as building:
        facts.save(building)
    print(f"{'saved to':16} {folder}")
    print(f"{'to use it':16} data.{facts.setting.replace('PATH', str(folder))}")
