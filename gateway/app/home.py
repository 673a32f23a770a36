"""A home: the folder that holds one gateway's settings, policies, plugins and data."""

import shutil
from pathlib import Path

from gateway.errors import ConflictError, NoHomeError
from gateway.policy_files import starter_folder

MODEL = Path("policies", "model.conf")
SETTINGS = """\
# Settings of this gateway. Every line is a default; an unknown one is an error.
[http]
listen = "127.0.0.1:8642"   # loopback only; `hearthgate serve --listen HOST:PORT` overrides, port 0 for any free one
socket = "owner"            # what the owner may over run/hearthgate.sock: "owner" all, "read" read, "off" nothing

[sandbox]                   # no manifest gets more than this
max_timeout_s = 300
max_memory_mb = 512
max_scratch_mb = 100
max_processes = 32
max_cells = 8               # calls that run at once
max_asks = 1000             # questions that one call may ask, what it calls included

[log]                       # what the gateway prints about itself, on stderr
level = "info"              # "debug", "info", "warning", "error"; `hearthgate serve --debug` overrides
format = "text"             # "json": one JSON object a line

[traffic]                   # data/traffic.db: how much plugins' asks moved, and where to
keep_days = 30
max_entries = 1000000
paths = false               # true keeps the paths of URLs too, which may carry secrets
"""


def init_home(folder: Path, *, plugins: bool = False) -> list[Path]:
    """Make a home of a new or empty folder, from the starter policy; gives what was made.

    Raises:
        ConflictError: the folder has something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(f"`{folder}` is not empty", way_out="name a new folder")
    starter = starter_folder()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    _copy(starter, folder / "policies")
    (folder / "plugins").mkdir(mode=0o755)
    if plugins:
        for source in sorted((starter.parent / "plugins").iterdir()):
            if (source / "manifest.json").is_file():
                _copy(source, folder / "plugins" / source.name)
    (folder / "hearthgate.toml").write_text(SETTINGS, encoding="utf-8")
    for private in ("data", "run"):
        (folder / private).mkdir(mode=0o700)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check_home(folder: Path) -> Path:
    """Give the resolved path of a home.

    Raises:
        NoHomeError: it is none.
    """
    if not (folder / MODEL).is_file():
        raise NoHomeError(f"`{folder}` is no home: it has no {MODEL}", way_out="`hearthgate init DIR` makes one")
    return folder.resolve()


def _copy(source: Path, target: Path) -> None:
    """Copy a folder of text with modes that nobody else can write, whatever the source's are."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
