"""One thread for each process of the tests, and for the commands that they call; one seed for each
test, since torch begins with another in every process.

`make test` has two at work on two cores. With two threads each, every small operation waits for a
thread that has no core just then, and waiting threads spin: 84 steps of AdamW over 180,000 weights
took 32 s of CPU time instead of 0.1 s.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    """Of whatever a test draws without a generator of its own."""
    torch.manual_seed(0)
