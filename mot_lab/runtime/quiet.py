"""Keeps libraries from talking about themselves between the lines that matter."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Silence advice, banners, deprecations and telemetry of libraries; errors stay. Call it
    before they are imported, in every process.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # What a researcher runs is nobody else's business, and behind a firewall asking takes time.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Threads that spin while they wait starve each other when something else wants a core: a step
    # was measured to take 30 times as long on two busy cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for category in (UserWarning, FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(lightning|torch|mlflow).*")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
