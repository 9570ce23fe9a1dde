"""Files of the Hugging Face hub, by the id of their repository: downloaded once, then found again.

The hub's own variables hold: ``HF_HOME`` is where files are kept, ``HF_ENDPOINT`` a mirror,
``HF_HUB_OFFLINE=1`` reads what is kept and asks nobody, ``HF_TOKEN`` opens gated repositories.
"""

import re
from functools import lru_cache
from pathlib import Path

from mot_lab.parsing import brief

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@lru_cache(maxsize=16)
def hub_file(repository: str, name: str) -> Path:
    """One file of a repository; asked for once in a process.

    Raises:
        ValueError: it is not there, or cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, ValueError) as error:
        raise ValueError(f"no {name} of {repository!r} on the hub: {brief(error)}") from error
