"""Progress of a long loop over samples: a bar on a terminal, elsewhere a line at every tenth."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counting(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how many samples were done since the last call.

    Everything goes to standard error, so that standard output holds results only.
    """
    console = Console(stderr=True, force_jupyter=False)  # lines in a notebook, no widgets
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(label, total=total)
            yield lambda count: progress.advance(task, count)
        return
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if done * 10 // total > before * 10 // total:
            console.print(f"{label}: {done:,} of {total:,}", highlight=False)

    yield advance
