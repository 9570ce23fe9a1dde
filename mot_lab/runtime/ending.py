"""How a command ends: well, in one line on what is wrong, or because it was asked to."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from mot_lab.parsing import one_line
from mot_lab.runtime.signals import Stopped, ends_on_signals, kill_workers, requeue

SPEAKER = "mot-lab: "
WRONG_CALL, MACHINE_FAILED = 2, 1


@contextmanager
def ends_as_command() -> Iterator[None]:
    """Inside is a command, or what a job does for one. Ends, after one line, with exit code 2
    (something is wrong with the call), 1 (the machine failed it: a full disk, say) or, asked to
    end, with 128 + the signal's number. What else is raised passes through.
    """
    try:
        with ends_on_signals():
            yield
    except (ValueError, FloatingPointError) as error:
        _end(one_line(error), WRONG_CALL)
    except RecursionError:  # a parser of a library: those of plain_files say which file it was
        _end("a file that was given is nested too deeply to be read", WRONG_CALL)
    except OSError as error:
        _end(one_line(error), MACHINE_FAILED)
    except Stopped as stop:
        kill_workers()  # done with their checkpoints, they would take seconds to shut down
        said = "interrupted; the same command goes on from here"
        if outcome := requeue():
            said += f"; {outcome}"
        _end(said, stop.code)


def _end(said: str, code: Any) -> NoReturn:
    print(f"{SPEAKER}{said}", file=sys.stderr, flush=True)
    sys.exit(code)
