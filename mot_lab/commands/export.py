"""``mot-lab export``: a trained model as safetensors with its settings, or for `transformers`."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, command


def add(commands: Commands) -> None:
    """Declare the command."""
    what = "write a trained model as safetensors with its settings, or, of Dense, for transformers"
    parser = command(commands, "export", _run, what)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.ckpt of a run")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument(
        "--format",
        choices=("mot-lab", "transformers"),
        default="mot-lab",
        help="mot-lab: what mot-lab generate and model.start_from read, of every arm (default); "
        "transformers: what AutoModelForCausalLM loads, of Dense",
    )


def _run(options: argparse.Namespace) -> None:
    from mot_lab.export import export_language_model, export_model
    from mot_lab.runtime.files import require_new

    require_new(options.out)
    if options.format == "mot-lab":
        export_model(options.checkpoint, options.out)
        print(f"Written to {options.out}: mot-lab generate {options.out} runs from it")
    else:
        kind = export_language_model(options.checkpoint, options.out)
        print(f"Written to {options.out}: a {kind} of transformers")
