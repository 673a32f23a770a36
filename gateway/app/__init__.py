"""The composition root: the only place where parts are put together.

What is heavy is imported by the function that needs it, so that making a home does not load a web framework.
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.app.home import init_home

if TYPE_CHECKING:
    from gateway.app.house import House

__all__ = ["init_home", "open_house", "serve"]


def open_house(home: Path) -> "AbstractAsyncContextManager[House]":
    """Open a home in this process, without listening anywhere.

    Raises:
        NoHomeError: the folder is no home.
        HomeInUseError: another process has it open.
        ConfigError: its settings are wrong.
    """
    from gateway.app.house import open_house  # noqa: PLC0415 (see above)

    return open_house(home)


def serve(home: Path, listen: str | None = None, *, debug: bool = False) -> None:
    """Serve a home until SIGTERM or SIGINT; prints where it listens, and tells of itself on stderr.

    Raises:
        NoHomeError: the folder is no home.
        HomeInUseError: another process has it open.
        ConfigError: its settings are wrong, or an address is taken.
    """
    from gateway.app.serve import serve  # noqa: PLC0415 (see above)

    serve(home, listen, debug=debug)
