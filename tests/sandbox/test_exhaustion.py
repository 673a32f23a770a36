"""Each way to use up what all share ends within the cell's own limits; the same deed outside goes further."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import json
from dataclasses import dataclass
from typing import Any

import pytest

MB = 1 << 20
LIMITS = {"timeout_s": 15, "memory_bytes": 64 * MB, "processes": 12, "open_files": 40, "scratch_bytes": 8 * MB}
OUTSIDE_S = 20
CODE = '''
import ctypes, errno, json, mmap, os, resource, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def count(deed, most):
    held = []
    try:
        while len(held) < most:
            held.append(deed(len(held)))
    except (OSError, MemoryError, ValueError) as error:
        return [len(held), type(error).__name__]
    return [len(held), ""]
def unlinked(ctx, most):
    """Files without a name, a megabyte each."""
    def deed(number):
        file = open(f"{ctx.scratch}/gone", "wb", 0)
        os.unlink(file.name)
        file.write(b"x" * (1 << 20))
        return file
    return count(deed, most)
def hole(ctx, most):
    """A file that is larger than all there is, in gigabytes."""
    with open(f"{ctx.scratch}/hole", "wb") as file:
        return count(lambda number: os.truncate(file.fileno(), (number + 1) << 30), most)
def reserved(ctx, most):
    with open(f"{ctx.scratch}/reserved", "wb") as file:
        return count(lambda number: os.posix_fallocate(file.fileno(), number << 20, 1 << 20), most)
def folders(ctx, most):
    return count(lambda number: os.mkdir(f"{ctx.scratch}/{number}"), most)
def timers(ctx, most):
    def deed(number):
        handle = ctypes.c_void_p()
        if libc.timer_create(0, None, ctypes.byref(handle)) != 0:
            raise OSError(ctypes.get_errno(), "timer")
    return count(deed, most)
def events(ctx, most):
    return count(lambda number: os.eventfd(0), most)
def pairs(ctx, most):
    return count(lambda number: socket.socketpair(), most)
def pipes_filled(ctx, most):
    def deed(number):
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.write(writer, b"x" * 65536)
    return count(deed, most)
def mappings(ctx, most):
    """Address space alone, 64 MB each, of which nothing is used."""
    return count(lambda number: mmap.mmap(-1, 64 << 20), most)
def threads(ctx, most):
    import threading
    stop = threading.Event()
    def deed(number):
        try:
            threading.Thread(target=stop.wait, daemon=True).start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error))
    told = count(deed, most)
    stop.set()
    return told
def locks(ctx, most):
    def deed(number):
        page = ctypes.create_string_buffer(8192)
        if libc.mlock(page, ctypes.c_size_t(4096)) != 0:
            raise OSError(ctypes.get_errno(), "lock")
        return page
    return count(deed, most)
def processor(ctx, seconds):
    begun, used = time.monotonic(), time.process_time()
    while time.monotonic() - begun < seconds:
        pass
    return (time.process_time() - used) / (time.monotonic() - begun)
if __name__ == "__main__":
    class Ctx:
        scratch = sys.argv[2]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print(json.dumps(globals()[sys.argv[1]](Ctx, int(sys.argv[3]))))
'''


@dataclass(frozen=True, slots=True)
class Case:
    """A deed, how often the twin can do it, and how often a cell at most."""

    deed: str
    outside: int
    inside: int
    by: str


CASES = (
    Case("unlinked", 20, 8, "OSError"),
    Case("hole", 3, 0, "OSError"),
    Case("reserved", 20, 8, "OSError"),
    Case("folders", 3000, 2047, "OSError"),
    Case("timers", 200, 48, "BlockingIOError"),
    Case("events", 200, 39, "OSError"),
    Case("pairs", 100, 19, "OSError"),
    Case("pipes_filled", 100, 19, "OSError"),
    Case("mappings", 40, 20, "OSError"),
    Case("threads", 40, 12, "BlockingIOError"),
    Case("locks", 4, 0, "PermissionError"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.deed)
def test_what_all_share_is_not_used_up(host: Any, case: Case) -> None:
    code = host.snapshot(CODE)
    told = host.call(case.deed, code=code, spec={"limits": LIMITS}, most=case.outside)
    assert told["frame"]["t"] == "result", told
    count, by = told["frame"]["value"]
    assert count <= case.inside, told
    assert by == case.by, told
    argv = [f"{code}/main.py", case.deed, host.scratch(), str(case.outside)]
    done = host._popen(argv)
    out, _ = done.communicate(timeout=OUTSIDE_S)
    assert json.loads(out) == [case.outside, ""], "without the limits it must go on, else this proves nothing"


def test_a_share_of_the_processor_is_kept(host: Any) -> None:
    if "cpu" not in host.started["controllers"]:
        refused = host.call(
            "processor",
            code=host.snapshot(CODE),
            spec={"limits": {**LIMITS, "cpu_percent": 50}, "require_cgroup": True},
            seconds=1,
        )
        assert "cgroup" in refused["refused"]["barrier"]
        return
    told = host.call("processor", code=host.snapshot(CODE), spec={"limits": {**LIMITS, "cpu_percent": 20}}, seconds=1)
    assert told["frame"]["value"] < 0.4
