"""Each deed is tried in a cell, where it must fail, and by a plain twin, where it must succeed."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

GREETING = b"come in"
DENIED = r"Errno (1|13)\]"
ABSENT = r"Errno 2\]"
NO_SUCH_FAMILY = r"Errno 97\]"


@dataclass(frozen=True, slots=True)
class World:
    """What stands outside a cell, for deeds to reach out to."""

    port: int
    datagram_port: int
    socket_path: str
    datagram_path: str
    victim: "subprocess.Popen[bytes]"


@pytest.fixture
def world(host: Any) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.bind(("127.0.0.1", 0))
        folder = host.scratch()
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        receiving = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        for sock, name in ((listening, "gateway.sock"), (receiving, "datagrams.sock")):
            sock.bind(f"{folder}/{name}")
            Path(folder, name).chmod(0o777)
        listening.listen()
        for sock in (server, listening):
            threading.Thread(target=greet, args=(sock,), daemon=True).start()
        ids: dict[str, Any] = {"user": host.uid} if os.getuid() == 0 else {}
        victim = subprocess.Popen(["/bin/sleep", "300"], **ids)
        yield World(
            port=server.getsockname()[1],
            datagram_port=datagrams.getsockname()[1],
            socket_path=f"{folder}/gateway.sock",
            datagram_path=f"{folder}/datagrams.sock",
            victim=victim,
        )
        for sock in (server, listening):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        victim.kill()
        victim.wait()


def greet(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(GREETING)


@dataclass(frozen=True, slots=True)
class Attack:
    """A deed, what it is given, and what is expected to hold it."""

    deed: str
    held_by: str
    given: tuple[str, ...] = ()
    privileged: bool = False
    only_root: bool = False  # an ordinary user has no way to do it, so there is nothing to prove


ATTACKS = (
    Attack("read_file", ABSENT, ("path=secret_file",)),
    Attack("read_file", ABSENT, ("path=/etc/passwd",)),
    Attack("read_file", ABSENT, ("path=other_code",)),
    Attack("read_through_dots", ABSENT, ("path=secret_file",)),
    Attack("read_through_symlink", ABSENT, ("path=secret_file", "scratch")),
    Attack("read_through_proc_roots", ABSENT, ("path=secret_file",)),
    Attack("hard_link", ABSENT, ("path=own_file", "scratch")),
    Attack("write_own_code", r"Errno (13|30)\]"),
    Attack("replace_own_code", r"Errno (13|18|30)\]"),
    Attack("make_device", DENIED, ("scratch",), only_root=True),
    Attack("name_to_handle", DENIED, ("path=code",)),
    Attack("shared_memory_folder", ABSENT),
    Attack("read_kernel_settings", ABSENT),
    Attack("run_program", DENIED),
    Attack("run_interpreter", DENIED),
    Attack("run_from_scratch", DENIED, ("scratch",)),
    Attack("memory_file", r"Errno 38\]"),
    Attack("load_library_from_scratch", r"failed to map segment", ("scratch",)),
    Attack("find_in_environment", r"LookupError", ("name=HEARTH_SECRET",)),
    Attack("use_inherited_descriptor", r"LookupError"),
    Attack("read_parents_environment", ABSENT),
    Attack("read_parents_memory", ABSENT),
    Attack("see_process", ABSENT, ("pid",)),
    Attack("kill_process", r"Errno 3\]", ("pid",)),
    Attack("trace_child", DENIED),
    Attack("read_childs_memory", DENIED),
    Attack("take_childs_descriptor", DENIED),
    Attack("connect", NO_SUCH_FAMILY, ("host=127.0.0.1", "port")),
    Attack("connect_mapped", NO_SUCH_FAMILY, ("port",)),
    Attack("send_datagram", NO_SUCH_FAMILY, ("host=127.0.0.1", "port=datagram")),
    Attack("listen", NO_SUCH_FAMILY),
    Attack("raw_socket", NO_SUCH_FAMILY, privileged=True),
    Attack("packet_socket", NO_SUCH_FAMILY, privileged=True),
    Attack("netlink_socket", NO_SUCH_FAMILY),
    Attack("connect_unix", NO_SUCH_FAMILY, ("path=socket",)),
    Attack("reach_unix_from_pair", DENIED, ("path=datagrams",)),
    Attack("redirect_a_connected_pair", DENIED, ("path=datagrams",)),
    Attack("look_up_name", r"gaierror"),
    Attack("mount", DENIED, ("scratch",), privileged=True),
    Attack("new_user_namespace", DENIED),
    Attack("clone_into_user_namespace", DENIED),
    Attack("enter_namespace", DENIED, privileged=True),
    Attack("change_root", DENIED, ("scratch",), privileged=True),
    Attack("become_root", DENIED, privileged=True),
    Attack("set_host_name", DENIED, privileged=True),
    Attack("raise_limit", r"not allowed to raise|Errno 1\]"),
    Attack("add_key", DENIED),
    Attack("change_personality", DENIED),
    Attack("make_ring", r"Errno 38\]"),
    Attack("system_v_memory", DENIED),
    Attack("message_queue", DENIED),
    Attack("open_terminal", r"Errno 2\]|Errno 1\]|out of pty"),
)


def given_to(attack: Attack, host: Any, world: World, *, in_cell: bool) -> dict[str, object]:
    known: dict[str, object] = {
        "secret_file": host.secret_file,
        "other_code": f"{host.snapshot('x = 1')}/main.py",
        "own_file": f"{host.snapshot('x = 1')}/main.py",
        "code": "/plugin/main.py" if in_cell else f"{host.code}/main.py",
        "scratch": "/scratch" if in_cell else host.scratch(),
        "pid": world.victim.pid,
        "port": world.port,
        "datagram": world.datagram_port,
        "socket": world.socket_path,
        "datagrams": world.datagram_path,
    }
    pairs = (each.partition("=") for each in attack.given)
    return {name: known.get(value or name, value) for name, _, value in pairs}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: "-".join((each.deed, *each.given)))
def test_a_cell_holds_what_its_twin_can_do(attack: Attack, host: Any, world: World) -> None:
    inside = host.call("attempt", deed=attack.deed, **given_to(attack, host, world, in_cell=True))
    assert inside["frame"]["t"] == "result", inside
    value = inside["frame"]["value"]
    assert not value["done"], value
    assert re.search(attack.held_by, value["by"]), value

    if attack.only_root and host.uid != 0:
        return
    outside = host.twin(attack.deed, privileged=attack.privileged, **given_to(attack, host, world, in_cell=False))
    assert outside["done"], f"without the barrier the deed must succeed, else this proves nothing: {outside}"


def test_a_secret_in_the_launchers_memory_is_in_no_cell(host: Any) -> None:
    backwards = host.secret[::-1]
    inside = host.call("attempt", deed="find_in_memory", reversed_secret=backwards)
    assert inside["frame"]["value"] == {"done": False, "by": "LookupError: not in this process's memory", "errno": None}
    forked = host.twin("find_in_memory", reversed_secret=backwards, hold=host.secret_file)
    assert forked["done"], "a process forked from one that holds the secret must find it"
    clean = host.twin("find_in_memory", reversed_secret=backwards)
    assert not clean["done"], "the search must not find its own pattern"


@pytest.mark.parametrize("function", ["x32_call", "old_gate"])
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other ways into the kernel exist on x86_64 alone")
def test_another_way_into_the_kernel_ends_the_process(host: Any, function: str) -> None:
    ending = host.call(function)["ending"]
    assert ending["signal"] == signal.SIGSYS


def test_killing_everyone_reaches_nobody_outside(host: Any, world: World) -> None:
    told = host.call("kill_everyone")
    assert told["frame"]["value"] == 2
    assert world.victim.poll() is None
    assert host.call("attempt", deed="look_up_name")["frame"]["t"] == "result"
    assert host.twin("kill_process", pid=world.victim.pid)["done"]


@pytest.mark.parametrize("text", ["ffffffff00000000", "00000002ffffffff", "000000025b5d", "00000002000000007b7b"])
def test_what_is_no_frame_ends_the_cell_not_the_reader(host: Any, text: str) -> None:
    told = host.call("say_raw", text=text, then_wait=True, patience_s=0.5)
    assert told["frame"]["t"] in {"broken", "silence"}
    assert told["ending"]["signal"] == signal.SIGKILL
    assert host.call("attempt", deed="look_up_name")["frame"]["t"] == "result"
