"""How far a long verb has come: a bar on a terminal, nothing anywhere else."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TICK_S = 0.2


@contextmanager
def progress(what: str, *, total: Callable[[], int], unit: str) -> Iterator[Callable[[int], object]]:
    """Show a bar on stderr while the body runs; it calls what it gets with how many are done."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {unit}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total())
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def time_passing(what: str, *, seconds: float) -> Iterator[None]:
    """Show a bar of the time that the body is known to take."""
    over = threading.Event()

    def tick(tell: Callable[[int], object]) -> None:
        began = time.monotonic()
        while not over.wait(_TICK_S):
            tell(min(round(seconds), int(time.monotonic() - began)))

    with progress(what, total=lambda: max(1, round(seconds)), unit="s") as tell:
        ticking = threading.Thread(target=tick, args=(tell,), daemon=True)
        ticking.start()
        try:
            yield
        finally:
            over.set()
            ticking.join()
