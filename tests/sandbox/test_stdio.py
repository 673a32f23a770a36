"""A program of the host that answers calls as an MCP server: what it gives, cannot do, and when it stands still."""
# ruff: noqa: ANN401  # answers are JSON, and so is what a specification takes

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames, pause
from sandbox.errors import SandboxError
from sandbox.kernel import machine
from sandbox.launcher import Cell, Launcher
from sandbox.libraries import module_folders, modules_in
from sandbox.linked import find_program
from sandbox.seccomp import read_table
from sandbox.spec import Limits, Spec, SpecError
from sandbox.stdio import CALL, TOOLS, definition_digest
from tests.sandbox.conftest import CELL_UID, TESTDATA, Host

SOON_S = 20.0
DO = {"name": "do", "description": "Does it.", "inputSchema": {"type": "object"}}
Serve = Callable[..., Any]


class Served:
    """A cell in which a server runs."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.notes: list[dict[str, Any]] = []

    def ask(self, function: str, patience_s: float = SOON_S, **kwargs: object) -> dict[str, Any]:
        """Ask it something, and give the last frame of the answer."""
        frames.write_frame(self.cell.channel, {"t": "call", "call": "c", "function": function, "kwargs": kwargs})
        self.cell.channel.settimeout(patience_s)
        while (frame := frames.read_said(self.cell.channel)) is not None:
            if frame[0]["t"] in {"result", "error"}:
                return frame[0]
            self.notes.append(frame[0])
        return {}

    def do(self, words: str, pinned: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
        """Call its one tool."""
        return self.ask(CALL, tool="do", arguments={"words": words}, pinned=pinned or {}, **more)

    def tried(self, words: str) -> dict[str, Any]:
        """Have it do something; gives whether it could, and how."""
        found: dict[str, Any] = json.loads(self.do(words)["value"]["result"]["content"][0]["text"])
        return found


@pytest.fixture
def served(launcher: Launcher, tmp_path: Path) -> Serve:
    """Serve with a mode of the server that tests are made with."""
    code = tmp_path / "code"
    code.mkdir(mode=0o755)
    for name in ("server.py", "waking.py"):
        Path(shutil.copy(TESTDATA / name, code)).chmod(0o644)

    @contextmanager
    def serve(mode: str = "honest", **spec: Any) -> Iterator[Served]:
        program = find_program(os.path.realpath(sys.executable), ["server.py", mode], modules=module_folders()[0])
        whole: dict[str, Any] = {"plugin_id": "server", "code": str(code), "uid": CELL_UID, "program": program, **spec}
        whole.setdefault("require_cgroup", os.getuid() == 0)
        with launcher.spawn(Spec(**{"isolation": "shared", "lifetime_s": 60.0, **whole})) as cell:
            yield Served(cell)

    return serve


def test_it_tells_its_tools_and_answers_one_call_after_the_other(served: Serve) -> None:
    with served("paged") as server:
        assert server.ask(TOOLS)["value"] == {"tools": [DO]}
        for words in ("6 * 7", "7 * 6"):
            value = server.do(words, {"do": definition_digest(DO)})["value"]
            assert value == {
                "result": {"content": [{"type": "text", "text": '{"done": true, "by": "42"}'}], "isError": False}
            }
        assert [each["fraction"] for each in server.notes] == [0.25, 0.25]


def test_nothing_of_a_companion_is_offered_to_it(served: Serve) -> None:
    with served("chatty") as server:
        assert server.tried("TOLD['refused']['error']['code']")["by"] == "-32601"


# What no server in a cell can do, in words of Python; `{...}` is of the test.
DEEDS = {
    "read a file of the host": "open({secret!r}).read()",
    "start another program": "os.posix_spawn({true!r}, ['true'], {{}})",
    "become another program": "os.posix_spawn({copy!r}, ['copy'], {{}})",
    "speak over the network": "__import__('socket').create_connection(('127.0.0.1', {port}), 3)",
    "make a socket": "__import__('socket').socket()",
    "write to its own code": "open({code!r} + '/new', 'w')",
    "see the environment of who started it": "os.environ['HEARTH_SECRET']",
    "see other processes": "[each for each in os.listdir('/proc') if each.isdecimal() and int(each) != os.getpid()][0]",
    "look into who speaks for it": "open('/proc/%d/mem' % os.getppid(), 'rb')",
    "wake what stands still": "os.kill(os.getpid(), 18)",
    "wake it through a thread": "__import__('signal').pthread_kill(__import__('threading').get_ident(), 18)",
    "wake it by a handle": "__import__('signal').pidfd_send_signal(os.pidfd_open(os.getpid()), 18)",
    "send what its init obeys": "(lambda signals: (signals.signal({resume}, signals.SIG_IGN),"
    " os.kill(os.getpid(), {resume})))(__import__('signal'))",
    "set a clock that would wake it": "__import__('ctypes').CDLL(None).timer_create(0, {event!r}, bytes(8)) and 1 / 0",
    "have a descriptor wake it": "__import__('fcntl').fcntl(0, 10, 18)",
    "have a child's end wake it": "(lambda pid: pid > 0 or (os._exit(0) if pid == 0 else 1 / 0))"
    "(__import__('ctypes').CDLL(None).syscall({clone}, 18, 0, 0, 0, 0))",
    "leave its group": "os.setpgid(0, 0)",
    "make a namespace": "__import__('ctypes').CDLL(None, use_errno=True).unshare(0x10000000) == 0 or 1 / 0",
}


@pytest.mark.parametrize("name", DEEDS)
def test_it_can_do_no_more_than_a_plugin_can(host: Host, name: str) -> None:
    code = host.snapshot((TESTDATA / "server.py").read_text(), "server.py")
    copy = Path(shutil.copy("/bin/true", host.folder / "copy"))
    copy.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        known = {
            "secret": host.secret_file,
            "true": "/bin/true",
            "copy": str(copy),
            "port": listening.getsockname()[1],
            "event": struct.pack("=QiiI44x", 0, signal.SIGCONT, 0, 0),
            "resume": int(pause.RESUME),
            "clone": read_table(machine())["clone"][0],
        }
        program = find_program(host.interpreter, ["server.py"], modules=_modules_of(host.interpreter))
        words = DEEDS[name].format(**known, code="/plugin")
        told = host.call(
            CALL,
            code=code,
            spec={"program": asdict(program)},
            tool="do",
            arguments={"words": words},
            pinned={},
        )
        inside = json.loads(told["frame"]["value"]["result"]["content"][0]["text"])
        assert not inside["done"], (name, inside)
        assert "SyntaxError" not in inside["by"]
        outside = _unconfined(host, code, DEEDS[name].format(**known, code=code))
        assert outside["done"], (name, outside)


def _modules_of(interpreter: str) -> str:
    """Name the folder of an interpreter's extension modules."""
    asked = "import sys; print(next(each for each in sys.path if each.endswith('lib-dynload')))"
    return subprocess.run(
        [interpreter, "-I", "-S", "-c", asked], capture_output=True, text=True, timeout=SOON_S, check=True
    ).stdout.strip()


def _unconfined(host: Host, code: str, words: str) -> dict[str, Any]:
    """Have the same server do the same without any barrier."""
    asked = {"id": 1, "method": "tools/call", "params": {"arguments": {"words": words}, "_meta": {"progressToken": 1}}}
    ids: dict[str, Any] = {"user": host.uid, "group": host.uid, "extra_groups": []} if os.getuid() == 0 else {}
    server = f"{code}/server.py"
    done = subprocess.run(
        # Its parent is of the same user, as is the one who speaks for it in a cell.
        [host.interpreter, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", host.interpreter, server],
        input=json.dumps(asked) + "\n",
        env={"HEARTH_SECRET": "x"},
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=True,
        **ids,
    )
    found: dict[str, Any] = json.loads(json.loads(done.stdout.splitlines()[-1])["result"]["content"][0]["text"])
    return found


def test_it_has_all_of_its_interpreters_library(served: Serve) -> None:
    with served() as server:
        for name in modules_in(module_folders()[0]):
            told = server.tried(f"__import__({name.partition('.')[0]!r})")
            assert told["done"], (name, told)


def test_what_it_says_beside_its_messages_is_printed(served: Serve) -> None:
    with served() as server:
        assert server.tried("print('beside', file=sys.stderr, flush=True)")["done"]
        server.cell.output.settimeout(SOON_S)
        assert server.cell.output.recv(100) == b"beside\n"


def test_it_holds_no_descriptor_but_its_three_streams(served: Serve) -> None:
    with served() as server:
        assert server.tried("sorted(map(int, os.listdir('/proc/self/fd')))[:3]")["by"] == "[0, 1, 2]"
        # The fourth is the folder that is being listed.
        assert server.tried("len(os.listdir('/proc/self/fd'))")["by"] == "4"


BROKEN = {
    "gone": "ended with exit status 3 before it answered",
    "prints": "no message",
    "vast": "a line of more than",
    "deep": "no message",
    "wrong": "has no content",
    "error": "not today (-32000)",
    "twice": "one twice",
    "toolless": "offers no tools",
}


@pytest.mark.parametrize("mode", BROKEN)
def test_what_is_no_server_fails_with_the_reason(served: Serve, mode: str) -> None:
    with served(mode) as server:
        told = server.do("1")
        assert told["t"] == "error"
        assert BROKEN[mode] in told["message"]


@pytest.mark.parametrize("mode", ["silent", "other"])
def test_a_call_that_nobody_waits_for_is_given_up_while_the_server_is_silent(served: Serve, mode: str) -> None:
    with served(mode) as server:
        with pytest.raises(TimeoutError):
            server.do("1", patience_s=1.0)
        frames.write_frame(server.cell.channel, {"t": "cancel", "call": "c"})
        server.cell.channel.settimeout(SOON_S)
        frame = frames.read_said(server.cell.channel)
        assert frame is not None
        assert frame[0]["type"] == "Cancelled"


def cancelled(server: Served, **asked: Any) -> dict[str, Any]:
    """Give up a call that is not answered within a second; gives what is told of it."""
    with pytest.raises(TimeoutError):
        server.do(patience_s=1.0, **asked)
    frames.write_frame(server.cell.channel, {"t": "cancel", "call": "c"})
    server.cell.channel.settimeout(SOON_S)
    frame = frames.read_said(server.cell.channel)
    assert frame is not None
    assert frame[0]["type"] == "Cancelled"
    return frame[0]


def test_what_was_given_up_half_said_spoils_no_later_call(served: Serve) -> None:
    with served("deaf") as server:
        told = cancelled(server, words="'" + "x" * (800 << 10) + "'", pinned={"do": definition_digest(DO)})
        assert not told["last"]
        assert server.tried("6 * 7")["by"] == "42"


def test_a_server_that_was_given_up_before_it_was_ready_is_asked_nothing_more(served: Serve) -> None:
    with served("lazy") as server:
        assert cancelled(server, words="1")["last"] is True
    # Its twin: one that is ready answers on.
    with served("silent") as server:
        assert cancelled(server, words="1")["last"] is False


def test_many_words_beside_an_answer_cost_no_answer(served: Serve) -> None:
    with served("loud") as server:
        assert server.tried("6 * 7")["by"] == "42"
        (log, huge, half) = server.notes
        assert log["level"] == "info" * 4
        assert log["message"].startswith("{'all': 'xxx")
        assert (huge["fraction"], half["fraction"]) == (1.0, 0.5)
        assert max(len(json.dumps(each)) for each in server.notes) < 2000


def test_a_server_that_does_not_tell_of_changes_is_asked_before_each_call(served: Serve) -> None:
    with served("secretive") as server:
        pinned = {"do": definition_digest(DO)}
        assert server.do("1", pinned)["value"]["result"]["content"]
        assert list(server.do("1", pinned)["value"]) == ["changed"]


def test_a_tool_that_is_defined_otherwise_than_it_was_pinned_is_not_called(served: Serve) -> None:
    with served("fickle") as server:
        pinned = {"do": definition_digest(DO)}
        assert server.do("TICKS.append(1) or len(TICKS)", pinned)["value"]["result"]["content"]
        changed = server.do("TICKS.append(1)", pinned)["value"]
        assert list(changed) == ["changed"]
        assert changed["changed"]["do"] not in {None, pinned["do"]}
        assert server.tried("len(TICKS)")["by"] == "2"
        assert server.do("1", {"undone": pinned["do"]})["value"] == {"changed": {"undone": None}}


def test_it_stands_still_between_calls(served: Serve) -> None:
    with served("busy") as server:
        before = int(server.tried("TICKS[0]")["by"])
        # Its twin: what is not paused goes on.
        after = _ticks_after(server)
        assert after > before + 10
        server.cell.pause()
        frozen_s = 0.5
        time.sleep(frozen_s)
        server.cell.resume()
        assert int(server.tried("TICKS[0]")["by"]) < after + 50


def _ticks_after(server: Served) -> int:
    deadline, ticks = time.monotonic() + SOON_S, 0
    first = int(server.tried("TICKS[0]")["by"])
    while ticks <= first + 20 and time.monotonic() < deadline:
        ticks = int(server.tried("TICKS[0]")["by"])
    return ticks


@pytest.mark.parametrize("way", ["clock", "others", "descriptor", "init"])
def test_it_stands_still_whatever_it_does_to_be_woken(served: Serve, way: str) -> None:
    with served("busy") as server:
        told = server.tried(f"__import__('waking').{way}()")
        assert told["done"], told
        for _ in range(5):
            before = int(server.tried("TICKS[0]")["by"])
            server.cell.pause()
            frozen_s = 0.4
            _read_for(server.cell.output, frozen_s)
            server.cell.resume()
            assert int(server.tried("TICKS[0]")["by"]) < before + 25


def _read_for(output: socket.socket, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while (left_s := deadline - time.monotonic()) > 0:
        output.settimeout(left_s)
        with suppress(TimeoutError):
            output.recv(1 << 16)


def test_a_paused_cell_answers_nothing_and_can_be_ended(served: Serve) -> None:
    with served() as server:
        assert server.tried("1")["by"] == "1"
        server.cell.pause()
        with pytest.raises(TimeoutError):
            server.do("2", patience_s=0.5)
        server.cell.kill()
        assert server.cell.wait(SOON_S).signal == 9


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"isolation": "fork"}, "Python code"),
        ({"backend": "bwrap"}, "`native`"),
        ({"program": ("no-program",)}, "type Program"),
    ],
)
def test_a_program_is_for_its_own_kind_of_cell(more: dict[str, Any], said: str) -> None:
    program = find_program(os.path.realpath(sys.executable), [])
    with pytest.raises(SpecError, match=said):
        Spec(**{"plugin_id": "x", "code": "/x", "uid": 1, "program": program, **more})


def test_a_specification_with_a_program_is_read_as_it_was_written() -> None:
    program = find_program(os.path.realpath(sys.executable), ["server.py", "--x"])
    spec = Spec(plugin_id="x", code="/x", uid=1, program=program, limits=Limits())
    assert Spec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("text", ["#!/bin/sh\n", "", "\x7fELF\x02" + "\xff" * 59])
def test_what_is_no_program_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "program"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o755)
    with pytest.raises(SandboxError):
        find_program(str(path))


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="No such file"):
        find_program(str(tmp_path / "none"))
