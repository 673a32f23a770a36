"""The host: figures about it, and single programs run apart from it."""

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

from gateway.domain.request import Json
from gateway.errors import ConflictError, DeniedError, MalformedError, NotFoundError, TooLargeError
from gateway.resources.apart import ProgramResult, run_apart
from gateway.resources.places import Places
from gateway.resources.walk import open_folder, refuse_special, told
from sandbox import kernel, refusals

# SECURITY: where sockets of other programs lie, as those of agents and of container engines.
_HIDDEN = (Path("/run"), Path("/sys"), Path("/var/tmp"))  # noqa: S108 (hidden, not used)
MAX_RUNNING = 8
SHARE = 3  # of one plugin
_MAX_ARGUMENTS = 256
_MAX_ARGUMENT_BYTES = 16 << 10


class System:
    """Figures of the host by topic, and its programs.

    `hidden` is what no plugin ever gets: a program sees empty folders there. It runs without network, sees the
    system's own programs and libraries read-only and no other file of the host, has an empty /tmp of its own to work
    in, and PATH as its whole environment.
    """

    def __init__(self, hidden: Sequence[Path] = (), disk: Path = Path("/")) -> None:
        self._hidden = [str(path) for path in dict.fromkeys((*_HIDDEN, *(path.resolve() for path in hidden)))]
        self._places = Places(MAX_RUNNING, SHARE, "programs")
        psutil.cpu_percent()  # the first figure of all is meaningless
        self._topics: Mapping[str, Callable[[], Json]] = {
            "cpu": lambda: {"count": psutil.cpu_count(), "percent": psutil.cpu_percent()},
            "memory": lambda: _some(psutil.virtual_memory(), "total", "available", "percent"),
            "disk": lambda: _some(psutil.disk_usage(str(disk)), "total", "used", "free", "percent"),
            "load": lambda: list(psutil.getloadavg()),
            "platform": lambda: {"system": platform.system(), "machine": platform.machine()},
            "topics": lambda: [*self._topics],
        }

    def info(self, topic: str) -> Json:
        """Give the figures named `topic`.

        Raises:
            NotFoundError: there is no such topic.

        """
        figures = self._topics.get(topic)
        if figures is None:
            raise NotFoundError(f"no topic `{topic}`", way_out="one of " + ", ".join(self._topics))
        return figures()

    def resolve_program(self, argv0: str) -> str:
        """Give the path that is decided on: absolute, symbolic links followed; it need not exist.

        Raises:
            MalformedError: `argv0` is not an absolute path without `.`, `..` and empty segments.

        """
        if "\0" in argv0 or any(part in {"", ".", ".."} for part in argv0.removeprefix("/").split("/")):
            raise MalformedError(f"`{argv0[:200]!r}` is not a program's path", way_out="write it in full")
        if not argv0.startswith("/"):
            raise MalformedError(f"`{argv0[:200]}` is not an absolute path", way_out="there is no search in PATH")
        try:
            return os.path.realpath(argv0)
        except (OSError, UnicodeEncodeError):
            raise MalformedError("a path that no file system has") from None

    async def run(
        self, argv: Sequence[str], *, asker: str = "", timeout_s: float = 30.0, max_bytes: int = 1 << 20
    ) -> ProgramResult:
        """Run the program at the resolved path `argv[0]`; no shell looks at its arguments.

        Raises:
            NotFoundError: there is no such program.
            DeniedError: it is no program, or lies where no plugin gets.
            ConflictError: the path is not the one that `resolve_program` gives (any more).
            HostCannotKeepError: the host cannot keep it apart; it did not run.
            OverloadedError: too many programs are running, of all plugins or of `asker`.

        """
        _check_arguments(argv)
        path = Path(argv[0])
        if self.resolve_program(argv[0]) != argv[0]:
            raise ConflictError(f"`{path}` is another program by now", way_out="ask again")
        if any(path.is_relative_to(each) for each in self._hidden):
            raise DeniedError(f"`{path}` is never within a plugin's reach")
        order: dict[str, Json] = {
            "argv": list(argv),
            "hidden": list(self._hidden),
            "cpu_s": int(timeout_s) + 1,
            "refused": _refused_calls(),
        }
        with _open_program(path) as program, self._places.take(asker):
            return await run_apart(order, program, timeout_s, max_bytes)


@cache
def _refused_calls() -> str:
    return refusals.build_filter(kernel.machine()).hex()


def _some(figures: object, *names: str) -> dict[str, Json]:
    return {name: getattr(figures, name) for name in names}


def _check_arguments(argv: Sequence[str]) -> None:
    if not argv:
        raise MalformedError("no program is named", way_out="the first argument is the program's path")
    if any("\0" in word or any("\ud800" <= char <= "\udfff" for char in word) for word in argv):
        raise MalformedError("an argument with a NUL or with what is not Unicode text")
    if len(argv) > _MAX_ARGUMENTS or sum(len(word.encode()) for word in argv) > _MAX_ARGUMENT_BYTES:
        raise TooLargeError(
            "too many or too long arguments", way_out=f"at most {_MAX_ARGUMENTS}, {_MAX_ARGUMENT_BYTES} bytes in all"
        )


@contextmanager
def _open_program(path: Path) -> Iterator[int]:
    with open_folder(path.parent) as folder, told(path):
        program = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(program)
            refuse_special(status, path)
            if not status.st_mode & 0o111:
                raise DeniedError(f"`{path}` is not a program")
            yield program
        finally:
            os.close(program)
