"""What a plugin may do to the conversation: the gateway's side ends it in time, whole, and believes nothing."""

import asyncio
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from gateway.domain.outcome import Outcome, RunResult
from gateway.domain.request import Json
from gateway.executor.broker import Answer, Conversation, Job
from gateway.executor.once import Once, unblock
from sandbox.launcher import Launcher
from sandbox.spec import Limits, Spec

MB = 1 << 20
SOON_S = 15.0
CELL_UID = 0x6000_0456
SEND = """
import atexit, json, os, re, signal, socket, struct, sys, threading, time
def send(text, blob=b"", size=None):
    data = text if isinstance(text, bytes) else json.dumps({**text, "call": "e1"}).encode()
    os.write(3, struct.pack("!II", len(data) if size is None else size, len(blob)) + data + blob)
def f(ctx):
"""
# What is done, how long it may take, how it must end, and a word of what is told.
CASES: tuple[tuple[str, str, float, Outcome, str], ...] = (
    (
        "a frame that comes a byte at a time",
        "os.write(3, struct.pack('!II', 999, 0))\n    while True: os.write(3, b' '); time.sleep(.05)",
        1,
        Outcome.TIMED_OUT,
        "longer",
    ),
    ("a frame that never ends", "send(b'{', size=1000); time.sleep(60)", 1, Outcome.TIMED_OUT, "longer"),
    ("a length beyond all bounds", "send(b'', size=0xffffffff); time.sleep(60)", SOON_S, Outcome.KILLED, "at most"),
    ("a header that is no UTF-8", 'send(b\'{"t":"\\xff"}\'); time.sleep(60)', SOON_S, Outcome.KILLED, "not JSON"),
    ("a number that is none", 'send(b\'{"t":"result","value":NaN}\'); time.sleep(60)', SOON_S, Outcome.KILLED, "NaN"),
    (
        "a depth bomb",
        "send(b'{\"t\":\"result\",\"value\":' + b'[' * 500000 + b']' * 500000 + b'}'); time.sleep(60)",
        SOON_S,
        Outcome.KILLED,
        "deep",
    ),
    (
        "a bomb of digits",
        "send(b'{\"t\":\"result\",\"value\":' + b'9' * 900000 + b'}'); time.sleep(60)",
        SOON_S,
        Outcome.KILLED,
        "not JSON",
    ),
    ("a name twice", 'send(b\'{"t":"log","t":"result"}\'); time.sleep(60)', SOON_S, Outcome.KILLED, "twice"),
    (
        "half a character",
        'send(b\'{"t":"result","value":"\\\\ud800"}\'); time.sleep(60)',
        SOON_S,
        Outcome.KILLED,
        "surrogate",
    ),
    (
        "a frame of the gateway's own kind",
        "send({'t': 'answer', 'id': 1, 'ok': True}); time.sleep(60)",
        SOON_S,
        Outcome.KILLED,
        "type",
    ),
    ("a call made back", "send({'t': 'call', 'function': 'f'}); time.sleep(60)", SOON_S, Outcome.KILLED, "type"),
    (
        "an ask without a number",
        "send({'t': 'ask', 'op': 'vault.read', 'args': {}}); time.sleep(60)",
        SOON_S,
        Outcome.KILLED,
        "ask",
    ),
    (
        "an ask of another shape",
        "send({'t': 'ask', 'id': 1, 'op': ['x'], 'args': {}}); time.sleep(60)",
        SOON_S,
        Outcome.KILLED,
        "ask",
    ),
    (
        "an ask by another name",
        "send({'t': 'ask', 'id': 1, 'op': 'vault.read', 'args': {}, 'plugin_id': 'other'}); return ctx.user_id",
        SOON_S,
        Outcome.RETURNED,
        "alice",
    ),
    (
        "asks without end and no answer read",
        "while True: send({'t': 'ask', 'id': 1, 'op': 'x', 'args': {'y': 'z' * 9999}})",
        1.5,
        Outcome.TIMED_OUT,
        "longer",
    ),
    (
        "logs without end",
        "for n in range(20000): ctx.log('x' * 100)\n    return 'done'",
        SOON_S,
        Outcome.RETURNED,
        "done",
    ),
    ("two results", "send({'t': 'result', 'value': 'first'}); return 'second'", SOON_S, Outcome.RETURNED, "first"),
    (
        "a result, then noise",
        "send({'t': 'result', 'value': 'first'}); os.write(3, b'\\xff' * 9999); time.sleep(60)",
        SOON_S,
        Outcome.RETURNED,
        "first",
    ),
    (
        "a thread that stays",
        "threading.Thread(target=time.sleep, args=(99,)).start(); return 'done'",
        SOON_S,
        Outcome.RETURNED,
        "done",
    ),
    (
        "words after the end",
        "atexit.register(os.write, 3, b'\\xff' * 99); return 'done'",
        SOON_S,
        Outcome.RETURNED,
        "done",
    ),
    ("an end without a result", "os._exit(0)", SOON_S, Outcome.FAILED, "without a result"),
    ("a crash", "import ctypes; ctypes.string_at(0)", SOON_S, Outcome.KILLED, "SIGSEGV"),
    ("its own channel closed", "os.close(3); return 1", SOON_S, Outcome.FAILED, ""),
    ("its own channel shut", "socket.socket(fileno=3).shutdown(2); time.sleep(60)", SOON_S, Outcome.KILLED, ""),
    ("a stop of itself", "os.kill(os.getpid(), signal.SIGSTOP)", 1, Outcome.TIMED_OUT, "longer"),
    ("a pattern that never matches", "re.match('(a+)+$', 'a' * 64 + 'b')", 1, Outcome.TIMED_OUT, "longer"),
    ("a number too long to write", "return 10 ** 5000", SOON_S, Outcome.FAILED, "cannot be sent"),
    (
        "a text that lies about itself",
        "class T(str):\n        def __str__(self): os._exit(3)\n        encode = None\n    return T('plain')",
        SOON_S,
        Outcome.RETURNED,
        "plain",
    ),
    (
        "an object that claims to be a text",
        "class T:\n        __class__ = str\n    return T()",
        SOON_S,
        Outcome.FAILED,
        "",
    ),
    (
        "a dictionary that raises",
        (
            "class D(dict):\n"
            "        def values(self): raise MemoryError('mine')\n"
            "        items = values\n"
            "    return D(a=1)"
        ),
        SOON_S,
        Outcome.FAILED,
        "mine",
    ),
    (
        "another encoder",
        "sys.modules['sandbox.frames'].encode = lambda *a, **k: b'\\xff' * 64\n    return 1",
        SOON_S,
        Outcome.KILLED,
        "at most",
    ),
    (
        "an audit hook that refuses all",
        "sys.addaudithook(lambda *a: 1 / 0); return open('/plugin/main.py')",
        SOON_S,
        Outcome.FAILED,
        "",
    ),
    (
        "output that cannot be decoded",
        "os.write(1, b'\\xff\\xfe\\x00'); return 'done'",
        SOON_S,
        Outcome.RETURNED,
        "done",
    ),
    ("its own output closed", "os.close(1); os.close(2); return 'done'", SOON_S, Outcome.RETURNED, "done"),
    (
        "a bomb that unpacks",
        "import zlib; return len(zlib.decompress(zlib.compress(bytes(9 << 20)), bufsize=4 << 30))",
        SOON_S,
        Outcome.FAILED,
        "MemoryError",
    ),
)


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as running:
        yield running


@pytest.fixture
def talk(launcher: Launcher, tmp_path: Path) -> "Talk":
    code = tmp_path / "code"
    code.mkdir()
    return Talk(launcher, code)


class Talk:
    """Has one conversation with a plugin of the given text, by the gateway's own side."""

    def __init__(self, launcher: Launcher, folder: Path) -> None:
        self.launcher = launcher
        self.folder = folder
        self.asked: list[str] = []

    def __call__(self, text: str, *, timeout_s: float = SOON_S, more: Mapping[str, str] | None = None) -> RunResult:
        for name, content in {"main.py": text, **(more or {})}.items():
            (self.folder / name).write_text(content)
        spec = Spec(
            plugin_id="rude",
            code=str(self.folder),
            uid=CELL_UID,
            limits=Limits(timeout_s=timeout_s + 5, memory_bytes=96 * MB),
            require_cgroup=os.getuid() == 0,
        )
        job = Job(
            execution_id="e1",
            plugin_id="rude",
            user_id="alice",
            function="f",
            arguments={},
            session_id=None,
            timeout_s=timeout_s,
        )
        return asyncio.run(asyncio.wait_for(self._talk(job, spec), SOON_S + timeout_s))

    async def _talk(self, job: Job, spec: Spec) -> RunResult:
        with unblock(self.launcher.spawn(spec)) as cell:
            return await Once(cell, Conversation(cell.channel, job, self.answer, cell.kill)).run()

    async def answer(self, op: str, _arguments: Mapping[str, Json], _blob: bytes) -> Answer:
        self.asked.append(op)
        return Answer(body={"ok": False, "error": "failed", "message": "no"})


@pytest.mark.parametrize(
    ("body", "seconds", "outcome", "word"), [each[1:] for each in CASES], ids=[each[0] for each in CASES]
)
def test_misconduct_ends_as_it_must(talk: Talk, body: str, seconds: float, outcome: Outcome, word: str) -> None:
    talk("def f(ctx): pass")
    before = psutil.Process().num_fds()
    result = talk(f"{SEND}    {body}\n", timeout_s=seconds)
    assert result.outcome is outcome, result
    assert word in f"{result.error or ''} {result.output}"
    assert psutil.Process().num_fds() == before
    assert len(result.logs) <= 200
    assert talk("def f(ctx): return 'well'").output == "well"


def test_a_polite_conversation_is_the_control(talk: Talk) -> None:
    result = talk(f"{SEND}    send({{'t': 'log', 'level': 'info', 'message': 'by hand'}}); return 'done'\n")
    assert (result.outcome, result.output, result.logs) == (Outcome.RETURNED, "done", ("info: by hand",))


@pytest.mark.parametrize("name", ["json", "struct", "traceback", "linecache", "asyncio", "socket", "encodings"])
def test_a_module_of_the_runtimes_names_reaches_the_plugin_alone(talk: Talk, name: str) -> None:
    result = talk("def f(ctx): return 'well'", more={f"{name}.py": "raise RuntimeError('mine')"})
    assert (result.outcome, result.output) == (Outcome.RETURNED, "well")
    failing = talk("def f(ctx): raise ValueError('odd')", more={f"{name}.py": "raise RuntimeError('mine')"})
    assert failing.outcome is Outcome.FAILED
    (talk.folder / f"{name}.py").unlink()


def test_many_descriptors_sent_along_fill_nothing(talk: Talk) -> None:
    talk("def f(ctx): pass")
    before = psutil.Process().num_fds()
    body = """\
    sock, held = socket.socket(fileno=3), [os.open('/dev/null', 0) for _ in range(40)]
    data = json.dumps({'t': 'log', 'call': 'e1', 'message': 'x'}).encode()
    for _ in range(100):
        try:
            socket.send_fds(sock, [struct.pack('!II', len(data), 0) + data], held)
        except OSError:
            time.sleep(0.001)  # so many on the way at once are too many for the kernel
    sock.detach()
    return 'done'
"""
    result = talk(f"{SEND}{body}")
    assert (result.outcome, result.output) == (Outcome.RETURNED, "done")
    assert psutil.Process().num_fds() == before


FLOOD = """\
    left, right = socket.socketpair()
    held = [os.open('/dev/null', 0) for _ in range(40)]
    left.setblocking(False)
    sent = 0
    try:
        while True:
            socket.send_fds(left, [b'x'], held)
            sent += 1
    except OSError as error:
        send({'t': 'ask', 'id': 1, 'op': 'vault.read', 'args': {}})
        os.read(3, 9999)
        return f'{sent} {os.strerror(error.errno)}'
"""


def test_descriptors_under_way_to_nobody_keep_no_cell_of_the_same_user_from_coming_up(talk: Talk) -> None:
    others: list[RunResult] = []
    another = Talk(talk.launcher, talk.folder.parent / "another")
    another.folder.mkdir()

    async def answer(op: str, arguments: Mapping[str, Json], blob: bytes) -> Answer:
        others.append(await asyncio.to_thread(another, "def f(ctx): return 'well'"))
        return await Talk.answer(talk, op, arguments, blob)

    talk.answer = answer  # type: ignore[method-assign]
    result = talk(f"{SEND}{FLOOD}")
    assert (result.outcome, result.output) == (Outcome.RETURNED, "2 Too many references: cannot splice")
    assert [each.output for each in others] == ["well"]


def test_a_length_is_judged_before_anything_is_kept(talk: Talk) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    prefix = struct.pack("!II", 1 << 20, 8 << 20).hex()
    result = talk(f"{SEND}    os.write(3, bytes.fromhex('{prefix}')); time.sleep(60)\n", timeout_s=1)
    assert result.outcome is Outcome.TIMED_OUT
    assert process.memory_info().rss - before < 8 * MB
