import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gateway.errors import ConflictError, DeniedError, HearthgateError, MalformedError, NotFoundError, TooLargeError
from gateway.resources.apart import ProgramResult
from gateway.resources.system import MAX_RUNNING, System

KEY = "the key of the house"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that everybody on the host may read and write."""
    name = subprocess.run(["mktemp", "-d", "-t", "system-test-XXXXXXXX"], capture_output=True, text=True, check=True)
    folder = Path(name.stdout.strip())
    folder.chmod(0o777)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def run(system: System, *argv: str, timeout_s: float = 30.0, max_bytes: int = 1 << 20) -> ProgramResult:
    resolved = [system.resolve_program(argv[0]), *argv[1:]]
    return asyncio.run(system.run(resolved, timeout_s=timeout_s, max_bytes=max_bytes))


def shell(system: System, script: str, **options: float) -> ProgramResult:
    return run(system, "/bin/sh", "-c", script, timeout_s=options.get("timeout_s", 30.0))


def test_info_gives_figures_and_names_no_host() -> None:
    system = System()
    topics = system.info("topics")
    assert topics == ["cpu", "memory", "disk", "load", "platform", "topics"]
    assert isinstance(topics, list)
    everything = repr([system.info(str(topic)) for topic in topics])
    assert socket.gethostname() not in everything.replace("Linux", "")
    with pytest.raises(NotFoundError, match="one of cpu, memory"):
        system.info("environment")


def test_a_program_gets_its_arguments_as_they_are_and_nothing_else() -> None:
    result = run(System(), "/bin/echo", "a b", "$HOME", "; rm", "*", "\u00fc\n\x01")
    assert result == ProgramResult(exit_status=0, stdout="a b $HOME ; rm * \u00fc\n\x01\n".encode(), stderr=b"")
    assert run(System(), "/usr/bin/env").stdout == b"PATH=/usr/bin:/bin\n"


def test_a_script_runs_by_its_first_line(open_folder: Path) -> None:
    script = open_folder / "script"
    script.write_text("#!/bin/sh\necho ran $1\nexit 3\n")
    script.chmod(0o755)
    assert run(System(), str(script), "well") == ProgramResult(exit_status=3, stdout=b"ran well\n", stderr=b"")


def test_a_program_writes_in_its_own_folder_only_and_leaves_nothing(open_folder: Path) -> None:
    result = shell(System(), "pwd; ls -A; echo x > mine && cat mine; echo y > /etc/mine; echo z > /dev/null")
    assert result.stdout == b"/tmp\nx\n"
    assert result.stderr.count(b"Read-only") == 1
    assert not Path(open_folder.parent, "mine").exists()


@pytest.mark.parametrize(
    ("hidden", "sight"), [("/usr/share", "ls /usr/share"), ("/etc/localtime", "cat /etc/localtime")]
)
def test_a_program_does_not_see_what_is_hidden(hidden: str, sight: str) -> None:
    assert shell(System(), sight).stdout  # the twin without the barrier
    system = System([Path(hidden)])
    assert (
        shell(system, f"{sight}; umount {hidden}; {sight}; ls -A /run /sys /var /tmp | grep -v :").stdout.strip() == b""
    )
    with pytest.raises(DeniedError):
        run(system, hidden)


@pytest.mark.parametrize(
    "sight",
    [
        "cat /etc/passwd",
        "cat /etc/hostname",
        "ls -A /home /root /var",
        "cat {file}",
        "ls -d {folder}",
    ],
)
def test_a_program_reads_no_file_of_the_host_but_the_systems_own(sight: str) -> None:
    folder = Path(__file__).parent
    sight = sight.format(file=__file__, folder=folder)
    twin = subprocess.run(["/bin/sh", "-c", sight], capture_output=True, check=False)
    assert twin.stdout, "the twin without the barrier"
    assert set(shell(System(), sight).stdout.decode().split()) <= {"/home:", "/root:", "/var:"}


@pytest.mark.parametrize("deed", ["unshare --user true", "unshare --user --net true", "unshare --user --mount true"])
def test_a_program_opens_no_namespace_of_its_own(deed: str) -> None:
    assert subprocess.run(["/bin/sh", "-c", deed], capture_output=True, check=False).returncode == 0
    result = shell(System(), deed)
    assert result.exit_status != 0
    assert b"not permitted" in result.stderr


def test_a_program_has_no_network_and_sees_no_other_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        subprocess.run([sys.executable, "-c", program], check=True)  # the twin without the barrier
        result = run(
            System(),
            "/usr/bin/perl",
            "-MIO::Socket::INET",
            "-e",
            f"print IO::Socket::INET->new('127.0.0.1:{port}') ? 'in' : 'out'",
        )
    assert result.stdout == b"out"
    seen = shell(System(), "ls /proc; cat /proc/1/environ").stdout.split()
    assert sum(name.isdigit() for name in seen) <= 4
    assert str(os.getpid()).encode() not in seen


def test_a_program_has_no_rights_and_gets_none() -> None:
    status = shell(
        System(), "grep -E '^(CapEff|CapPrm|CapInh|CapAmb|NoNewPrivs|Uid)' /proc/self/status"
    ).stdout.decode()
    values = {line.split()[0]: line.split()[1] for line in status.splitlines()}
    assert {values[f"Cap{each}:"] for each in ("Eff", "Prm", "Inh", "Amb")} == {"0" * 16}
    assert values["NoNewPrivs:"] == "1"
    assert values["Uid:"] != "0"


def test_no_descriptor_of_the_gateway_is_left_open() -> None:
    with Path("/etc/passwd").open() as secret:
        os.set_inheritable(secret.fileno(), True)  # noqa: FBT003 (it takes no keyword)
        seen = run(System(), "/bin/ls", "-l", "/proc/self/fd").stdout
    assert b"/etc/passwd" not in seen


def processes_with(mark: str) -> list[int]:
    return [
        process.pid for process in psutil.process_iter(["cmdline"]) if mark in " ".join(process.info["cmdline"] or ())
    ]


@pytest.mark.parametrize(
    "script", ["sleep {0} & sleep {0}", "setsid sleep {0} & exec sleep {0}", "trap '' TERM; sleep {0}"]
)
def test_at_the_deadline_everything_that_was_started_ends(script: str) -> None:
    mark = f"7{time.monotonic_ns()}"
    result = shell(System(), "echo began; " + script.format(mark), timeout_s=1.0)
    assert (result.timed_out, result.exit_status, result.stdout) == (True, None, b"began\n")
    deadline = time.monotonic() + 10
    while left := processes_with(mark):
        assert time.monotonic() < deadline, left


def test_what_a_program_leaves_running_ends_with_it() -> None:
    mark = f"7{time.monotonic_ns()}"
    result = shell(System(), f"setsid sleep {mark} > /dev/null 2>&1 & echo done")
    assert result.stdout == b"done\n"
    deadline = time.monotonic() + 10
    while left := processes_with(mark):
        assert time.monotonic() < deadline, left


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_pipe_of_a_program_that_printed_too_much_stays_open() -> None:
    async def flood() -> tuple[int, int]:
        system = System()
        call = [system.resolve_program("/bin/sh"), "-c", "yes & yes >&2"]
        await system.run(call, max_bytes=1000)
        before = open_descriptors()
        for _ in range(5):
            assert (await system.run(call, max_bytes=1000)).truncated
        return before, open_descriptors()

    before, after = asyncio.run(flood())
    assert after == before


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_a_program_that_prints_without_end_is_ended(stream: str) -> None:
    result = run(System(), "/bin/sh", "-c", f"yes {stream}", max_bytes=1000)
    assert (result.truncated, result.timed_out, result.exit_status) == (True, False, None)
    assert {len(result.stdout), len(result.stderr)} == {1000, 0}


def test_a_program_cannot_fill_the_disk_or_the_memory() -> None:
    assert shell(System(), "head -c 100000000 /dev/zero > big").exit_status != 0
    hungry = run(System(), "/usr/bin/perl", "-e", "my $x = 'x' x 3_000_000_000; print 'ate it'")
    assert b"ate it" not in hungry.stdout
    assert hungry.exit_status != 0


def test_death_by_signal_is_told() -> None:
    assert shell(System(), "kill -9 $$").exit_status == 128 + 9


@pytest.mark.parametrize(
    "argv0", ["", "sh", "./sh", "bin/sh", "/bin/../bin/sh", "//bin/sh", "/bin/sh/", "/bin/sh\0", "/\ud800"]
)
def test_a_program_is_named_in_full(argv0: str) -> None:
    with pytest.raises(MalformedError):
        System().resolve_program(argv0)


def test_the_path_that_is_decided_on_is_where_the_links_lead(open_folder: Path) -> None:
    (open_folder / "innocent").symlink_to("/bin/sh")
    system = System()
    assert system.resolve_program(str(open_folder / "innocent")) == str(Path("/bin/sh").resolve())
    with pytest.raises(ConflictError):
        asyncio.run(system.run([str(open_folder / "innocent"), "-c", "echo ran"]))


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/nowhere/at/all", NotFoundError),
        ("/etc/passwd", DeniedError),
        ("/usr", DeniedError),
        ("/dev/null", HearthgateError),
        ("/run/x", DeniedError),
    ],
)
def test_what_is_no_program_is_refused(path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(System(), path)


def test_a_file_that_only_claims_to_be_a_program_is_refused(open_folder: Path) -> None:
    (open_folder / "claim").write_bytes(b"\0\0\0\0")
    (open_folder / "claim").chmod(0o755)
    with pytest.raises(DeniedError, match="does not take it for a program"):
        run(System(), str(open_folder / "claim"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["a\0b"], MalformedError),
        (["\ud800"], MalformedError),
        (["a"] * 300, TooLargeError),
        (["a" * 20_000], TooLargeError),
    ],
)
def test_arguments_have_bounds(arguments: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        run(System(), "/bin/echo", *arguments)
    with pytest.raises(MalformedError):
        asyncio.run(System().run([]))


def test_the_longest_odd_arguments_still_arrive() -> None:
    assert run(System(), "/bin/echo", "\x01" * 16_000).stdout == b"\x01" * 16_000 + b"\n"


def test_only_so_many_programs_run_at_once() -> None:
    async def crowd() -> list[ProgramResult | BaseException]:
        system = System()
        program = [system.resolve_program("/bin/sleep"), "60"]
        return await asyncio.gather(
            *(system.run(program, timeout_s=0.2) for _ in range(MAX_RUNNING + 1)), return_exceptions=True
        )

    kinds = [type(each).__name__ for each in asyncio.run(crowd())]
    assert sorted(kinds) == ["OverloadedError"] + ["ProgramResult"] * MAX_RUNNING
