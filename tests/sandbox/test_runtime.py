"""What a plugin's function gives, raises and asks, as the gateway sees it."""
# ruff: noqa: S608  # the plugin code in these texts is no query

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames
from sandbox.launcher import Launcher
from sandbox.spec import Spec

SOON_S = 15.0
Frame = tuple[dict[str, Any], bytes]
Talk = Callable[..., list[Frame]]


@pytest.fixture
def talk(launcher: Launcher, spec_of: Callable[..., Spec]) -> Talk:
    """Call `f` of a plugin and answer its asks in order; gives every frame that the cell sent."""

    def run(text: str, *answers: Frame, **kwargs: object) -> list[Frame]:
        call = {"t": "call", "function": "f", "kwargs": kwargs, "user_id": "alice", "session_id": "s1", "deadline_s": 9}
        with launcher.spawn(spec_of(text)) as cell:
            cell.channel.settimeout(SOON_S)
            frames.write_frame(cell.channel, call)
            told = list(converse(cell.channel, list(answers)))
            cell.wait(SOON_S)
            return told

    return run


def converse(channel: socket.socket, answers: list[Frame]) -> list[Frame]:
    told: list[Frame] = []
    while (frame := frames.read_said(channel)) is not None:
        told.append(frame)
        if frame[0]["t"] == "ask":
            header, blob = answers.pop(0)
            frames.write_frame(channel, {"t": "answer", "id": frame[0]["id"], **header}, blob)
    return told


def yes(value: object = None, blob: bytes = b"") -> Frame:
    return {"ok": True, "value": value}, blob


VALUES: list[tuple[str, object]] = [
    ("{'a': [1, 2.5, None, True, 'ü']}", {"a": [1, 2.5, None, True, "ü"]}),
    ("(1, 2)", [1, 2]),
    ("'x' * 100_000", "x" * 100_000),
    ("[ctx.user_id, ctx.session_id, ctx.scratch, ctx.deadline > 0]", ["alice", "s1", "/scratch", True]),
    ("more", "given"),
]


@pytest.mark.parametrize(("expression", "value"), VALUES)
@pytest.mark.parametrize("word", ["def", "async def"])
def test_a_functions_value_is_the_result(talk: Talk, word: str, expression: str, value: object) -> None:
    assert talk(f"{word} f(ctx, more):\n    return {expression}", more="given") == [
        ({"t": "result", "value": value}, b"")
    ]


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("return float('nan')", "ValueError", "sent"),
        ("return float('inf')", "ValueError", "sent"),
        ("return b'x'", "TypeError", "bytes"),
        ("return {1: 2}", "TypeError", "name"),
        ("return object()", "TypeError", "object"),
        ("return '\\ud800'", "ValueError", "sent"),
        ("return 'x' * 2_000_000", "ValueError", "at most"),
        ("v = []\n    for _ in range(10_000): v = [v]\n    return v", "ValueError", "deep"),
        ("v = []\n    v.append(v)\n    return v", "ValueError", "deep"),
        ("raise ValueError('no')", "ValueError", "no"),
        ("raise SystemExit(3)", "SystemExit", "3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("return f(ctx)", "RecursionError", "recursion"),
        ("class E(Exception):\n        def __str__(self): raise E\n    raise E", "E", "cannot be written"),
        ("raise ValueError('x' * 10_000_000)", "ValueError", "xxx"),
        ("import nowhere", "ModuleNotFoundError", "nowhere"),
        ("import gateway", "ModuleNotFoundError", "gateway"),
        ("import pytest", "ModuleNotFoundError", "pytest"),
    ],
)
def test_what_is_no_result_is_an_error_in_bounds(talk: Talk, body: str, kind: str, message: str) -> None:
    [(frame, blob)] = talk(f"def f(ctx):\n    {body}\n")
    assert frame["t"] == "error"
    assert frame["type"] == kind
    assert message in frame["message"]
    assert not blob
    assert len(json.dumps(frame)) < 20_000
    assert all(isinstance(line, str) for line in frame["trace"])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("def g(ctx): pass", "AttributeError"),
        ("f = 3", "AttributeError"),
        ("f(", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_code_that_cannot_be_called_is_an_error(talk: Talk, text: str, kind: str) -> None:
    assert talk(text)[0][0]["type"] == kind


def test_an_errors_trace_names_the_plugins_own_lines(talk: Talk) -> None:
    [(frame, _)] = talk("def f(ctx):\n    return g()\ndef g():\n    raise ValueError('deep')\n")
    assert frame["trace"][0].startswith("/plugin/main.py:2 in f")
    assert any("/plugin/main.py:4 in g" in line for line in frame["trace"])


Ask = tuple[str, str, dict[str, Any], bytes, Frame, object]
ASKS: list[Ask] = [
    ("ctx.vault.read('a')", "vault.read", {"scope": "a"}, b"", yes({"x": 1}), {"x": 1}),
    ("ctx.vault.list('a')", "vault.list", {"scope": "a"}, b"", yes(["a/b"]), ["a/b"]),
    ("ctx.vault.write('a', [1])", "vault.write", {"scope": "a", "value": [1]}, b"", yes(), None),
    ("ctx.vault.delete('a')", "vault.delete", {"scope": "a"}, b"", yes(), None),
    ("ctx.files.read('/a').hex()", "files.read", {"path": "/a"}, b"", yes(None, b"\xff"), "ff"),
    ("ctx.files.list('/a')", "files.list", {"path": "/a"}, b"", yes(["b"]), ["b"]),
    ("ctx.files.write('/a', b'\\xff')", "files.write", {"path": "/a"}, b"\xff", yes(), None),
    ("ctx.system.info('load')", "system.info", {"topic": "load"}, b"", yes(1), 1),
    ("ctx.system.run(['/bin/ls', 1])", "system.run", {"argv": ["/bin/ls", "1"]}, b"", yes({}), {}),
    ("ctx.plugins.list()", "plugins.list", {}, b"", yes(["a"]), ["a"]),
    ("ctx.plugins.call('a', {'action': 'x'})", "plugins.call", {"id": "a", "payload": {"action": "x"}}, b"", yes(2), 2),
    ("ctx.user.get('name')", "user.get", {"name": "name"}, b"", yes("Alice"), "Alice"),
    ("ctx.user.set('name', 'A')", "user.set", {"name": "name", "value": "A"}, b"", yes(), None),
    ("ctx.core.get('mood')", "core.get", {"topic": "mood"}, b"", yes("calm"), "calm"),
    (
        "(lambda r: [r.status, r.headers, r.text, r.json(), len(r.body)])(ctx.http.get('http://a/', headers={'X': 1}))",
        "http.request",
        {"method": "GET", "url": "http://a/", "headers": {"X": "1"}},
        b"",
        yes({"status": 200, "headers": [["Set", "1"], ["set", "2"]]}, b'{"a":1}'),
        [200, {"set": "1, 2"}, '{"a":1}', {"a": 1}, 7],
    ),
    (
        "ctx.http.post('http://a/', json={'b': 1}).status",
        "http.request",
        {"method": "POST", "url": "http://a/", "headers": {"Content-Type": "application/json"}},
        b'{"b": 1}',
        yes({"status": 201, "headers": {}}),
        201,
    ),
    (
        "ctx.http.request('head', 'http://a/').status",
        "http.request",
        {"method": "HEAD", "url": "http://a/", "headers": {}},
        b"",
        yes({"status": 204, "headers": {}}),
        204,
    ),
    (
        "ctx.api.call('weather', 'get', '/now').text",
        "api.call",
        {"upstream": "weather", "method": "GET", "path": "/now", "headers": {}},
        b"",
        yes({"status": 200, "headers": {"Content-Type": "text/plain; charset=latin-1"}}, b"\xfc"),
        "ü",
    ),
]


@pytest.mark.parametrize("case", ASKS, ids=[each[0] for each in ASKS])
def test_each_call_of_ctx_is_one_question(talk: Talk, case: Ask) -> None:
    expression, op, arguments, blob, answer, value = case
    ask, result = talk(f"def f(ctx):\n    return {expression}", answer)
    assert ask == ({"t": "ask", "id": 1, "op": op, "args": arguments}, blob)
    assert result[0] == {"t": "result", "value": value}


def test_a_no_is_an_exception_that_says_why(talk: Talk) -> None:
    text = """
def f(ctx):
    try:
        ctx.vault.read("diary")
    except PermissionError as no:
        return [type(no).__name__, no.decision_id, no.reason, no.near_misses]
"""
    near = [{"id": "r", "unmet": ["consent"]}]
    denied = {"ok": False, "error": "denied", "decision_id": "d1", "reason": "consent_required", "near_misses": near}
    assert talk(text, (denied, b""))[1][0]["value"] == ["PermissionDenied", "d1", "consent_required", near]


def test_a_failure_is_an_exception_of_its_own(talk: Talk) -> None:
    text = """
def f(ctx):
    try:
        ctx.files.read("/a")
    except OSError as error:
        return [type(error).__name__, str(error)]
"""
    failed = {"ok": False, "error": "failed", "message": "no such file"}
    assert talk(text, (failed, b""))[1][0]["value"] == ["ResourceError", "no such file"]


def test_ctx_works_from_threads_and_beside_a_running_loop(talk: Talk) -> None:
    text = """
import asyncio
async def f(ctx):
    asked = [asyncio.to_thread(ctx.vault.read, str(n)) for n in range(5)]
    return sorted(await asyncio.gather(*asked)) + [ctx.vault.read("x")]
"""
    told = talk(text, *(yes(n) for n in range(6)))
    assert told[-1][0]["value"] == [0, 1, 2, 3, 4, 5]


def test_a_forked_child_cannot_mix_its_words_into_the_conversation(talk: Talk) -> None:
    text = """
import os
def f(ctx):
    pid = os.fork()
    if pid == 0:
        try:
            ctx.log("from the child")
        except OSError:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
    assert talk(text) == [({"t": "result", "value": 7}, b"")]


def test_logs_and_progress_are_told_as_they_come(talk: Talk) -> None:
    log, progress, result = talk("def f(ctx):\n    ctx.log('a', 1, level='warning')\n    ctx.progress(0.5, 'half')")
    assert log[0] == {"t": "log", "level": "warning", "message": "a 1"}
    assert progress[0] == {"t": "progress", "fraction": 0.5, "message": "half"}
    assert result[0] == {"t": "result", "value": None}


def test_an_answer_that_was_not_asked_for_is_passed_over(launcher: Launcher, spec_of: Callable[..., Spec]) -> None:
    with launcher.spawn(spec_of("def f(ctx):\n    return ctx.core.get('x')")) as cell:
        cell.channel.settimeout(SOON_S)
        frames.write_frame(cell.channel, {"t": "call", "function": "f", "kwargs": {}})
        assert frames.read_frame(cell.channel) is not None
        for number, value in ((99, "wrong"), (1, "right")):
            frames.write_frame(cell.channel, {"t": "answer", "id": number, "ok": True, "value": value})
        assert frames.read_frame(cell.channel) == ({"t": "result", "value": "right"}, b"")


MODULES = [
    "asyncio",
    "bz2",
    "concurrent.futures",
    "ctypes",
    "csv",
    "datetime",
    "decimal",
    "email",
    "fractions",
    "hashlib",
    "heapq",
    "html.parser",
    "http.client",
    "json",
    "lzma",
    "math",
    "multiprocessing",
    "pickle",
    "queue",
    "random",
    "re",
    "secrets",
    "select",
    "socket",
    "sqlite3",
    "ssl",
    "statistics",
    "struct",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "tomllib",
    "unicodedata",
    "urllib.request",
    "uuid",
    "xml.etree.ElementTree",
    "zlib",
    "zoneinfo",
    "_elementtree",
]


def test_ordinary_code_works(talk: Talk) -> None:
    text = f"""
import importlib, os, sqlite3, sys, tempfile, threading, time, decimal, random, hashlib, uuid
def f(ctx):
    for name in {MODULES!r}:
        importlib.import_module(name)
    base = sqlite3.connect(os.path.join(ctx.scratch, "a.db"))
    base.execute("create table t (x)")
    base.execute("insert into t values (1)")
    base.commit()
    done = []
    threads = [threading.Thread(target=lambda: done.append(time.sleep(0.01))) for _ in range(4)]
    [each.start() for each in threads]
    [each.join() for each in threads]
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "x"), "w+") as file:
        file.write("text")
        os.rename(file.name, file.name + "y")
    print("out")
    print("err", file=sys.stderr)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return [len(done), base.execute("select x from t").fetchone()[0], hashlib.sha256(b"").hexdigest()[:4], sys.argv]
"""
    assert talk(text)[0][0].get("value") == [
        4,
        1,
        "e3b0",
        talk("import sys\ndef f(ctx):\n    return sys.argv")[0][0]["value"],
    ]


def test_two_cells_draw_different_random_numbers(talk: Talk) -> None:
    text = "import random, os, uuid\ndef f(ctx):\n    return [random.random(), os.urandom(8).hex(), str(uuid.uuid4())]"
    first, second = (talk(text)[0][0]["value"] for _ in range(2))
    assert all(one != other for one, other in zip(first, second, strict=True))


SMUGGLING = """
import array, os, socket
def f(ctx):
    header = b'{"t":"log","message":"take this"}'
    frame = len(header).to_bytes(4) + bytes(4) + header
    with socket.socket(fileno=os.dup(3)) as channel:
        channel.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
"""


def test_a_descriptor_sent_along_with_a_frame_never_arrives(launcher: Launcher, spec_of: Callable[..., Spec]) -> None:
    with launcher.spawn(spec_of(SMUGGLING)) as cell:
        cell.channel.settimeout(SOON_S)
        frames.write_frame(cell.channel, {"t": "call", "function": "f", "kwargs": {}})
        before = len(list(Path("/proc/self/fd").iterdir()))
        frame = frames.read_frame(cell.channel)
        assert frame is not None
        assert frame[0]["message"] == "take this"
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    with launcher.spawn(spec_of(SMUGGLING)) as cell:
        cell.channel.settimeout(SOON_S)
        frames.write_frame(cell.channel, {"t": "call", "function": "f", "kwargs": {}})
        _data, descriptors, _flags, _address = socket.recv_fds(cell.channel, 1000, 1)
        assert len(descriptors) == 1, "a reader that asks for descriptors is given it"
        os.close(descriptors[0])
