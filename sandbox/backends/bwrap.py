"""bubblewrap: namespaces and root by a program that many have read; all other barriers by this package."""

from collections.abc import Sequence

PROGRAMS = ("/usr/bin/bwrap",)
# What the cell's first process needs until it has shown itself its own processes and become the plugin's user.
_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SYS_ADMIN")


def argv(program: str, root: str, command: Sequence[str], *, is_root: bool) -> list[str]:
    """Give the words that make a cell around a root that was built, and start a command there."""
    namespaces = ["pid", "net", "ipc", "uts", "cgroup", *(() if is_root else ("user",))]
    kept = [word for name in _CAPABILITIES for word in ("--cap-add", name)]
    return [
        program,
        *(f"--unshare-{name}" for name in namespaces),
        *("--hostname", "cell", "--die-with-parent", "--clearenv", "--cap-drop", "ALL", *kept),
        *("--dev-bind", root, "/", "--proc", "/proc", "--chdir", "/", "--", *command),
    ]
