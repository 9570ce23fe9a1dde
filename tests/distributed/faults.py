"""What happens to single processes of a run; it stands here for them, which import it by name."""

import os
import signal

from reliability.small_runs import interrupted_at

from mot_lab.training import Run, train


def interrupt(run: Run, batch: int) -> None:
    """Train; every process breaks off in this batch (0, 1, ..)."""
    with interrupted_at(batch):
        train(run, None)


def interrupt_the_second(run: Run, batch: int) -> None:
    """Train; the second process alone breaks off."""
    if os.environ["LOCAL_RANK"] == "1":
        interrupt(run, batch)
    else:
        train(run, None)


def kill_the_second(run: Run) -> None:
    """Train; the second process is killed as the machine would do it for want of memory."""
    if os.environ["LOCAL_RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    train(run, None)
