"""Hearthgate: a policy-engine-centric security gateway for plugins."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.facade import Gateway

__all__ = ["open"]


def open(home: str | Path | None = None) -> "Gateway":  # noqa: A001 (`gateway.open(home)` reads as what it does)
    """Open `home`, else `$HEARTHGATE_HOME`, else the current folder: through its gateway if one serves it.

    Raises:
        NoHomeError: there is no home there.
        HomeInUseError: a process that answers no one has it open.

    """
    from gateway.facade import open_gateway

    return open_gateway(home)
