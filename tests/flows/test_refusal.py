"""What a plugin tries and its cell refuses is seen by people, with the one line that would allow it."""

import errno
import os
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home

TRIER = """\
import os
import socket
import subprocess
import time
import urllib.request


def execute(ctx, payload):
    found = []
    for line in payload["do"]:
        try:
            found.append(repr(eval(line)))
        except Exception as error:
            found.append(type(error).__name__)
    return found
"""


def violations(home: "Home") -> list[dict[str, Any]]:
    return [row["details"] for row in home.records(event_type="permission_violation")]


def begin(home: "Home", *lines: str) -> "Future[Any]":
    alice = home.person("alice", "execute")
    return alice.start("POST", "/v1/plugins/trier/execute", {"payload": {"do": lines}})


def call(home: "Home", *lines: str) -> dict[str, Any]:
    answer = begin(home, *lines).result(20)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.parametrize(
    ("deed", "permission", "scope"),
    [
        ("open('/opt/thing')", "file_read", "/opt/thing"),
        ("os.listdir('/opt')", "file_read", "/opt"),
        ("open('/opt/new', 'w')", "file_write", "/opt/new"),
        ("os.open(b'/opt/thing', os.O_RDONLY)", "file_read", "/opt/thing"),
        ("urllib.request.urlopen('http://example.com/')", "network_read", "example.com"),
        ("socket.create_connection(('192.0.2.7', 8443))", "network_read", "192.0.2.7:8443"),
        ("subprocess.run(['/usr/bin/true'])", "system_execute", str(Path("/usr/bin/true").resolve())),
        ("os.execv('/usr/bin/true', ['true'])", "system_execute", str(Path("/usr/bin/true").resolve())),
    ],
)
def test_a_refused_try_is_a_record_with_the_line_that_would_allow_it(
    home: "Home", deed: str, permission: str, scope: str
) -> None:
    home.install("trier", TRIER)
    told = call(home, deed, deed)
    (seen,) = [each for each in violations(home) if each["permission"] == permission]
    assert (seen["scope"], seen["execution_id"]) == (scope, told["execution_id"])
    kind, level = permission.split("_")
    assert seen["would_allow"].startswith(f"p, trier-{kind}-{level}, plugin:trier, {kind}, {level}, {scope}, -, allow")
    home.rules(seen["would_allow"] + "\n")
    before = len(violations(home))
    call(home, deed)
    # What the proxy of the environment reaches is asked there by now, and is no violation.
    assert all("the policy allows it" in each["instead"] for each in violations(home)[before:])


def test_it_is_seen_while_the_call_runs(home: "Home") -> None:
    home.install("trier", TRIER)
    running = begin(home, "open('/opt/thing')", "time.sleep(30)")
    home.until(lambda: violations(home), wait_s=5)
    assert not running.done()
    home.owner.post("/v1/lockdown", {"scope": "all", "reason": "enough"})
    running.result(20)


def test_what_is_denied_or_never_given_has_no_line(home: "Home") -> None:
    home.rules("p, no, group:plugins, file, read, /opt/*, -, deny, x\n")
    home.install("trier", TRIER)
    call(home, "open('/opt/thing')", "open('/run/thing')", "open('/sys/kernel/notes')")
    # Each is recorded by itself, in whatever order.
    found = {each["scope"]: each for each in violations(home)}
    assert sorted(found) == ["/opt/thing", "/run/thing", "/sys/kernel/notes"]
    assert [each.get("would_allow") for each in found.values()] == [None] * 3
    assert "rule `no`" in found["/opt/thing"]["instead"]
    assert "no plugin ever gets that" in found["/run/thing"]["instead"]


def test_what_is_there_is_no_violation(home: "Home", tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "note").write_text("x")
    home.install(
        "trier",
        TRIER,
        wants=(f"file_read {tmp_path}/shared",),
        sandbox_config={"file_access": [f"{tmp_path}/shared"]},
    )
    deeds = ["open('x', 'w').close()", "open('/dev/null')", "open('/plugin/main.py').read()", "__import__('xml.dom')"]
    call(home, *deeds, f"open('{tmp_path}/shared/note').read()", f"open('{tmp_path}/shared/missing')")
    assert violations(home) == []
    call(home, f"open('{tmp_path}/shared/note', 'w')")
    assert [each["permission"] for each in violations(home)] == ["file_write"]


def test_a_flood_is_bounded_and_lies_are_only_words(home: "Home") -> None:
    home.install("trier", TRIER)
    told = call(home, "[open(f'/etc/{n}') if False else os.path.exists(os.devnull) for n in range(3)]")
    assert told["success"]
    call(home, *[f"open('/etc/{number}')" for number in range(40)])
    assert len(violations(home)) == 16
    lies = "ctx._channel.send({'t': 'refused', 'kind': %s, 'level': %s, 'scope': %s})"
    for lie in (
        ("'vault'", "'read'", "'x'"),
        ("'file'", "'x'", "'/x'"),
        ("'file'", "'read'", "'../x'"),
        ("1", "2", "3"),
    ):
        call(home, lies % lie)
    assert len(violations(home)) == 16


RAW = """\
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {"x86_64": {"openat": 257, "execve": 59, "socket": 41, "connect": 42},
           "aarch64": {"openat": 56, "execve": 221, "socket": 198, "connect": 203}}[os.uname().machine]


def execute(ctx, payload):
    told = []
    for name, *given in payload["do"]:
        words = [each.encode("latin-1") if isinstance(each, str) else each for each in given]
        ctypes.set_errno(0)
        told.append([libc.syscall(NUMBERS[name], *words), ctypes.get_errno()])
    return told
"""
ADDRESS = "\x02\x00\x20\xfb\x01\x02\x03\x04" + 8 * "\x00"


@pytest.mark.parametrize("mode", ["pristine", "fork", "shared"])
def test_a_raw_call_is_told_by_the_kernel_within_a_second(home: "Home", mode: str) -> None:
    home.install("raw", RAW, isolation=mode)
    alice = home.person("alice", "execute")
    do = [
        ["openat", -100, "/opt/thing", 0],
        ["openat", -100, "../opt/new", os.O_WRONLY],
        ["execve", "/usr/bin/true", 0, 0],
        ["connect", 0, ADDRESS, 16],
    ]
    answer = alice.post("/v1/plugins/raw/execute", {"payload": {"do": do}}).json()
    assert answer["success"], answer
    assert [each[0] for each in answer["output"]] == [-1, -1, -1, -1]
    assert [each[1] for each in answer["output"]][2:] == [errno.EPERM, errno.EPERM]
    rows = home.records(event_type="permission_violation")
    # Each is recorded by itself, and looking a path up takes its time: in whatever order.
    assert sorted((row["details"]["permission"], row["details"]["scope"]) for row in rows) == [
        ("file_read", "/opt/thing"),
        ("file_write", "/opt/new"),
        ("network_read", "1.2.3.4:8443"),
        ("system_execute", str(Path("/usr/bin/true").resolve())),
    ]
    assert {row["details"]["told_by"] for row in rows} == {"the kernel"}
    assert "plugin:raw" in str(rows[0]["details"]["would_allow"])


def test_a_raw_socket_without_a_host_is_told_too(home: "Home") -> None:
    home.install("raw", RAW)
    alice = home.person("alice", "execute")
    answer = alice.post("/v1/plugins/raw/execute", {"payload": {"do": [["socket", 2, 1, 0]]}}).json()
    assert answer["output"] == [[-1, errno.EAFNOSUPPORT]]
    (row,) = home.records(event_type="permission_violation")
    assert (row["details"]["permission"], row["details"]["scope"]) == ("network_read", "socket(2, 1)")


LATER = (
    RAW.replace("def execute", "def attempt")
    + """

def execute(ctx, payload):
    import threading
    import time

    def behind():
        time.sleep(payload["after_s"])
        attempt(ctx, payload)

    threading.Thread(target=behind).start()
"""
)


def test_what_a_call_tries_behind_its_answer_is_laid_to_it(home: "Home") -> None:
    home.install("raw", LATER, isolation="shared")
    alice = home.person("alice", "execute")

    def begin(path: str, after_s: float) -> str:
        payload = {"do": [["openat", -100, path, 0]], "after_s": after_s}
        answer = alice.post("/v1/plugins/raw/execute", {"payload": payload}).json()
        assert (answer["success"], answer["sandbox_result"]["isolation"]) == (True, "shared"), answer
        return str(answer["execution_id"])

    first = begin("/opt/first", 0.3)
    home.until(lambda: violations(home), wait_s=10)
    second = begin("/opt/second", 0)
    home.until(lambda: len(violations(home)) > 1, wait_s=10)
    found = {each["execution_id"]: each["scope"] for each in violations(home)}
    assert found == {first: "/opt/first", second: "/opt/second"}


def test_what_the_systems_own_libraries_look_for_is_no_try(home: "Home") -> None:
    home.install("trier", TRIER)
    assert call(home, "time.localtime().tm_year > 2000", "__import__('locale').setlocale(0, '')")["success"]
    assert violations(home) == []


def test_a_flood_of_raw_calls_is_a_few_records(home: "Home") -> None:
    home.install("raw", RAW)
    alice = home.person("alice", "execute")
    do = [["openat", -100, f"/opt/{number}", 0] for number in range(500)]
    assert alice.post("/v1/plugins/raw/execute", {"payload": {"do": do}}).json()["success"]
    assert len(home.records(event_type="permission_violation")) == 16
