"""One rule, two walls: what the policy says of files, hosts and programs is what the kernel lets a plugin do.

Drawn at random: a tree of folders, files and links with odd names; allow and deny rules over it; what the manifest
names. A plugin then tries everything by raw system calls, and must reach what an oracle says and nothing else.
"""

import base64
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from tests.conftest import Home, new_home

PROBER = """\
import base64
import ctypes
import errno
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)


def call(name, *args):
    done = getattr(libc, name)(*args)
    return done if done >= 0 else -ctypes.get_errno()


def execute(ctx, payload):
    paths = [base64.b64decode(each) for each in payload["paths"]]
    return {
        "files": [probe(path) for path in paths],
        "connect": [connect(*each) for each in payload["hosts"]],
        "exec": [run(path.encode()) for path in payload["programs"]],
    }


def probe(path):
    found = {"stat": call("access", path, 0), "link": call("readlink", path, buffer, 4096)}
    handle = call("openat", -100, path, os.O_RDONLY | os.O_NOFOLLOW)
    found["open"] = handle
    if handle >= 0:
        found["read"] = call("read", handle, buffer, 16)
        found["text"] = buffer.raw[: max(0, found["read"])].decode("ascii", "replace")
        found["names"] = call("syscall", 217, handle, buffer, 4096)
        os.close(handle)
    written = call("openat", -100, path, os.O_WRONLY | os.O_NOFOLLOW)
    found["write"] = written
    if written >= 0:
        os.close(written)
    return found


def connect(host, port):
    handle = call("socket", 2, 1, 0)
    if handle < 0:
        return handle
    address = struct.pack("=H", 2) + struct.pack("!H", port) + bytes(map(int, host.split("."))) + bytes(8)
    return call("connect", handle, address, len(address))


def run(path):
    try:
        child = os.fork()
    except OSError as error:  # a cell of one process
        return -error.errno
    if child == 0:
        libc.execve(path, (ctypes.c_char_p * 2)(path, None), None)
        os._exit(ctypes.get_errno())
    return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
FOLDERS = ("a", "a/b", "a/b/c", "d", "d/e", "odd folder, with=marks", "d/e/tief")
ODD = (b"\xff\xfe", b"new\nline", b"*", b" ", b"%2C,", "é".encode(), "é".encode(), b"-", b"con:")
LINKS = {"a/link": "../d", "d/up": "..", "d/out": "/etc", "d/file": "e/plain", "a/b/loop": "loop"}
SCOPES = (*FOLDERS, "a/plain", "d/e/plain", "a/link", "nowhere")
TEXT = "granted text"


@dataclass(frozen=True)
class Drawn:
    """What was drawn of rules; scopes are relative to the tree."""

    allows: tuple[tuple[str, str, bool], ...]  # level, scope, subtree
    denies: tuple[tuple[str, str, bool], ...]
    named: tuple[str, ...]


RULES = st.lists(st.tuples(st.sampled_from(["read", "write"]), st.sampled_from(SCOPES), st.booleans()), max_size=4)
DRAWN = st.builds(
    Drawn,
    allows=RULES.map(tuple),
    denies=RULES.map(lambda rules: tuple(rules[:2])),
    named=st.lists(st.sampled_from(("", *FOLDERS, "a/plain", "a/link")), min_size=1, max_size=3, unique=True).map(
        tuple
    ),
)


def grow(tree: Path) -> list[bytes]:
    """Make the tree; gives every path in it, and some that lead out of it."""
    for folder in FOLDERS:
        (tree / folder).mkdir(parents=True)
    for folder in ("", *FOLDERS):
        (tree / folder / "plain").write_text(TEXT)
        for name in ODD:
            (Path(os.fsdecode(os.fsencode(tree / folder) + b"/" + name))).write_text(TEXT)
    for link, to in LINKS.items():
        (tree / link).symlink_to(to)
    found = [os.fsencode(tree)]
    for place, folders, files in os.walk(os.fsencode(tree)):
        found += [place + b"/" + name for name in (*folders, *files)]
    return [*found, b"/etc/passwd", b"/etc", b"/root", b"/home", os.fsencode(tree) + b"/../" + tree.name.encode()]


def lies(rule: tuple[str, str, bool], path: str) -> bool:
    """Tell whether a rule's scope covers a path, both relative to the tree."""
    _level, scope, subtree = rule
    return path == scope or (subtree and f"{path}/".startswith(f"{scope}/"))


class Oracle:
    """What may be opened, thought up from the contract's words alone."""

    def __init__(self, drawn: Drawn, tree: Path) -> None:
        self.drawn, self.tree = drawn, tree

    def resolved(self, path: str) -> str:
        real = os.path.realpath(self.tree / path)
        return os.path.relpath(real, self.tree) if path else ""

    def level(self, folder: str) -> str | None:
        """Give the level at which a folder or file may be shown whole, None if not at all."""
        is_folder = (self.tree / folder).is_dir()
        for level in ("write", "read") if is_folder else ("read",):
            over = [rule for rule in self.drawn.allows if rule[0] in {level, "write"} and lies(rule, folder)]
            whole = [rule for rule in over if rule[2] or not is_folder]
            denies = [rule for rule in self.drawn.denies if rule[0] in {"read", level}]
            touched = any(
                lies(rule, folder) or rule[1] == folder or f"{each}/".startswith(f"{folder}/") or folder == ""
                for rule in denies
                for each in {rule[1], self.resolved(rule[1])}
            ) or any(lies((rule[0], self.resolved(rule[1]), rule[2]), folder) for rule in denies)
            if whole and not touched:
                return level
        return None

    def shown(self) -> dict[str, tuple[str, str]]:
        """Give what is shown: place -> what lies there, and the level; outer places first."""
        candidates = set[str]()
        for name in self.drawn.named:
            candidates.add(name)
            real = self.resolved(name)
            for rule in self.drawn.allows:
                if rule[1] != real and f"{rule[1]}/".startswith(f"{real}/" if real else ""):
                    candidates.add(f"{name}/{os.path.relpath(rule[1], real or '.')}".removeprefix("/"))
        found: dict[str, tuple[str, str]] = {}
        for name in sorted(candidates, key=lambda each: str(self.tree / each)):
            if any(outer in {name, ""} or name.startswith(outer + "/") for outer in found):
                continue
            real = self.resolved(name)
            if (self.tree / real).exists() and (level := self.level(real)):
                found[name] = (real, level)
        return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = new_home(tmp_path_factory.mktemp("walls") / "home")
    try:
        yield home.open()
    finally:
        home.end()


@pytest.fixture(scope="module")
def tree() -> Iterator[tuple[Path, list[bytes]]]:
    # Not below /tmp, which is a cell's own scratch folder, where everything can be made.
    folder = Path(tempfile.mkdtemp(prefix="hearthgate-walls-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder / "tree", grow(folder / "tree")
    finally:
        shutil.rmtree(folder)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(Drawn(allows=(("write", "d", True), ("read", "a", True)), denies=(), named=("",)))
@example(Drawn(allows=(("write", "a", True),), denies=(("read", "a/b/c", True),), named=("a",)))
@example(Drawn(allows=(("write", "d", True),), denies=(("write", "d/e", False),), named=("a/link", "d/e")))
@given(drawn=DRAWN)
def test_what_is_reached_by_raw_calls_is_what_the_rules_and_the_manifest_say(
    home: Home, tree: tuple[Path, list[bytes]], drawn: Drawn
) -> None:
    place, paths = tree
    told = reach(home, place, paths, drawn)
    shown = Oracle(drawn, place).shown()
    event(f"{len(shown)} shown")
    seen = told["sandbox_result"]["files"]
    assert {each["path"]: each["level"] for each in seen["shown"]} == {
        str(place / name): level for name, (_real, level) in shown.items()
    }, (drawn, seen)
    for path, found in zip(paths, told["output"]["files"], strict=True):
        check(place, path, found, shown, drawn)
    assert all(each < 0 for each in told["output"]["connect"]), "no host was granted"
    assert all(each in {-13, -1, -2} for each in told["output"]["exec"]), "nothing can be executed in a cell"


def reach(home: Home, place: Path, paths: list[bytes], drawn: Drawn) -> dict[str, Any]:
    rules = [("allow", *each) for each in drawn.allows] + [("deny", *each) for each in drawn.denies]
    lines = dict.fromkeys(
        f"plugin:prober, file, {level}, {spelt(place / scope)}{'/*' if subtree else ''}, -, {effect}, drawn"
        for effect, level, scope, subtree in rules
    )
    home.rules("".join(f"p, drawn-{number}, {line}\n" for number, line in enumerate(lines)))
    manifest = {"sandbox_config": {"file_access": [str(place / name) for name in drawn.named]}}
    if home.owner.get("/v1/plugins/prober").status_code == 200:
        home.owner.post("/v1/plugins/prober/uninstall", {"reason": "next"})
    home.install("prober", PROBER, **manifest)
    alice = home.person("alice", "execute")
    payload = {
        "paths": [encoded(each) for each in paths],
        "hosts": [["127.0.0.1", 22], ["192.0.2.1", 80]],
        "programs": ["/usr/bin/true", "/bin/sh", str(place / "plain"), "/plugin/main.py"],
    }
    running: Future[Any] = alice.start("POST", "/v1/plugins/prober/execute", {"payload": payload})
    answer = running.result(30)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert told["success"], told
    return told


def encoded(path: bytes) -> str:
    return base64.b64encode(path).decode()


def spelt(path: Path) -> str:
    return str(path).replace("%", "%25").replace(",", "%2C").replace("=", "%3D")


def check(place: Path, path: bytes, found: dict[str, Any], shown: dict[str, tuple[str, str]], drawn: Drawn) -> None:
    text = os.path.relpath(os.fsdecode(path), place) if path.startswith(os.fsencode(place)) else None
    inside = None
    if text is not None and b"/../" not in path:
        name = "" if text == "." else text
        inside = next((each for each in shown if each in {name, ""} or name.startswith(each + "/")), None)
    if inside is None:
        # A folder on the way to what is shown is there, and nothing else is in it.
        on_the_way = text is not None and any(f"{each}/".startswith(f"{text}/") or text == "." for each in shown)
        assert found.get("read", -1) <= 0, (path, found, drawn)
        assert found["write"] < 0, (path, found, drawn)
        assert on_the_way or b"/../" in path or found["open"] < 0, (path, found, drawn)
        return
    real, level = shown[inside]
    on_host = (
        Path(os.fsdecode(path)) if text in {"", "."} else place / real / os.path.relpath(text or "", inside or ".")
    )
    if on_host.is_symlink():
        assert found["open"] == -40, (path, found)
    elif on_host.is_file():
        assert found["text"] == TEXT, (path, found, drawn)
        assert (found["write"] >= 0) is (level == "write"), (path, found, drawn)
    else:
        assert found["names"] > 0, (path, found, drawn)
        assert found["write"] < 0
