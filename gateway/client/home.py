"""Which home is meant, and where its gateway listens."""

import os
from pathlib import Path

from gateway.errors import NoHomeError

HOME_VARIABLE = "HEARTHGATE_HOME"
_HOW_TO_MAKE = "make one with `hearthgate init DIR`, then name it with --home DIR or $" + HOME_VARIABLE


def find_home(option: Path | None = None) -> Path:
    """Give the home that is meant: `option`, else `$HEARTHGATE_HOME`, else the current folder if it is one.

    Raises:
        NoHomeError: none is named, or the folder named is not a home.

    """
    if option is not None:
        return _checked(option, "")
    variable = os.environ.get(HOME_VARIABLE)
    if variable:
        return _checked(Path(variable), f" (named by ${HOME_VARIABLE})")
    try:
        here = Path.cwd() if _is_home(Path.cwd()) else None
    except OSError:
        here = None  # one that is gone, or not for this user, is no home of theirs
    if here is None:
        raise NoHomeError("no home is named, and the current folder is not one", way_out=_HOW_TO_MAKE)
    return here


def socket_of(home: Path) -> Path:
    """Give the path of the unix socket of the gateway that serves `home`."""
    return home / "run" / "hearthgate.sock"


def _is_home(folder: Path) -> bool:
    return (folder / "policies" / "model.conf").is_file()


def _checked(folder: Path, named_by: str) -> Path:
    if not _is_home(folder):
        raise NoHomeError(f"`{folder}`{named_by} is not a home: it has no policies/model.conf", way_out=_HOW_TO_MAKE)
    return folder.resolve()
