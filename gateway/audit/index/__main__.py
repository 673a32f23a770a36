"""Follow the log of a folder until standard input is closed; each change of why it cannot is a line of JSON."""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from gateway.audit.index.follower import Follower

_NICE = 10


def follow(folder: Path) -> None:
    """Follow until told to end."""
    os.nice(_NICE)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # WHY: an interrupt at a terminal reaches this process too; the gateway says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # WHY: the gateway tells of it, in the form that its own log has.
    logging.getLogger("hearthgate").addHandler(logging.NullHandler())
    follower = Follower(folder, _tell)

    def until_closed() -> None:
        while sys.stdin.buffer.read(1):
            pass
        follower.end()

    threading.Thread(target=until_closed, daemon=True).start()
    follower.run()
    follower.stop()


def _tell(why: str | None) -> None:
    try:
        print(json.dumps({"why": why}), flush=True)  # noqa: T201 (the gateway reads it)
    except BrokenPipeError:
        # WHY: a gateway that was killed hears nothing; what it did not hear must not be tried again at the end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
