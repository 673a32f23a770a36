"""The system call filter of both architectures, run by a small interpreter of the kernel's filter machine."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import notify, refusals, seccomp

ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
ALLOW, KILL, TRACE = 0x7FFF_0000, 0x8000_0000, 0x7FF0_0000
MACHINES = sorted(ARCHITECTURES)
REFUSALS = {machine: refusals.build_filter(machine) for machine in ARCHITECTURES}
REFUSED = {machine: seccomp.read_table(machine, refusals._TABLE) for machine in ARCHITECTURES}
FILTERS = {machine: seccomp.build_filter(machine) for machine in MACHINES}
NEW_NAMESPACE_FLAGS = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
DANGEROUS = (
    "mount umount2 pivot_root chroot unshare setns ptrace process_vm_readv process_vm_writev bpf perf_event_open "
    "keyctl add_key request_key init_module finit_module delete_module kexec_load reboot swapon personality "
    "userfaultfd open_by_handle_at name_to_handle_at execve execveat bind listen accept accept4 setuid setgid "
    "setresuid setrlimit capset seccomp pidfd_getfd mknod mknodat quotactl acct settimeofday shmget msgget semget "
    "mq_open fanotify_init landlock_restrict_self move_mount fsopen fsmount open_tree mount_setattr"
)


# What the last steps of a cell's making need, or a plugin that was granted a program or a host.
WORK_OF_A_CELL = {
    "execve",
    "execveat",
    "connect",
    "bind",
    "listen",
    "accept",
    "accept4",
    "setrlimit",
    "landlock_restrict_self",
}
ABSENT_HERE = {"mknod"}


def refuse(number: int) -> int:
    return 0x0005_0000 | number


def run(
    machine: str, number: int, *arguments: int, architecture: int | None = None, program: bytes | None = None
) -> int:
    """Run the filter on one call and give its answer."""
    values = [each & (1 << 64) - 1 for each in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *values)
    instructions = list(struct.iter_unpack("=HBBI", program or FILTERS[machine]))
    at, word = 0, 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        match code:
            case 0x20:
                word = struct.unpack_from("<I", data, value)[0]
            case 0x54:
                word &= value
            case 0x05:
                at += value
            case 0x15:
                at += if_true if word == value else if_false
            case 0x35:
                at += if_true if word >= value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(code)


def number_of(machine: str, name: str) -> int:
    return seccomp.read_table(machine)[name][0]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_of_the_table_is_judged_by_its_rule(machine: str) -> None:
    table = seccomp.read_table(machine)
    numbers = [number for number, _ in table.values()]
    assert len(numbers) == len(set(numbers))
    for number, rule in table.values():
        match rule:
            case "allow":
                assert run(machine, number) == ALLOW
            case "enosys":
                assert run(machine, number) == refuse(errno.ENOSYS)
            case "socket":
                assert run(machine, number, 2, 1) == refuse(errno.EAFNOSUPPORT)
            case "connect":
                assert run(machine, number) == refuse(errno.EPERM)
            case "send_flags_3rd" | "send_flags_4th":
                before = (0,) * (2 if rule == "send_flags_3rd" else 3)
                assert run(machine, number, *before, 0x4040) == ALLOW
                assert run(machine, number, *before, 0x2000_4040) == refuse(errno.EPERM)


@given(st.sampled_from(MACHINES), st.integers(0, 2**30 - 1))
def test_a_call_that_is_not_in_the_table_is_refused(machine: str, number: int) -> None:
    known = {each for each, _ in seccomp.read_table(machine).values()}
    if number not in known:
        assert run(machine, number) == refuse(errno.EPERM)


@given(st.sampled_from(MACHINES), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_another_architectures_call_ends_the_process(machine: str, number: int, architecture: int) -> None:
    if architecture not in {0, ARCHITECTURES[machine]}:
        assert run(machine, number, architecture=architecture) == KILL


@given(st.integers(2**30, 2**32 - 1))
def test_a_call_of_the_x32_kind_ends_the_process(number: int) -> None:
    assert run("x86_64", number) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@given(flag=st.sampled_from(NEW_NAMESPACE_FLAGS), others=st.integers(0, 2**64 - 1))
def test_no_clone_makes_a_namespace(machine: str, flag: int, others: int) -> None:
    clone = number_of(machine, "clone")
    assert run(machine, clone, flag | others) == refuse(errno.EPERM)
    plain = others & ~0x7E02_0000
    assert run(machine, clone, plain) == ALLOW


@given(st.sampled_from(MACHINES), st.integers(0, 2**64 - 1))
def test_one_process_may_make_threads_and_nothing_else(machine: str, flags: int) -> None:
    alone = seccomp.build_filter(machine, single_process=True)
    clone = number_of(machine, "clone")
    thread = flags & 0x10000 and not flags & 0x7E02_0000
    assert run(machine, clone, flags, program=alone) == (ALLOW if thread else refuse(errno.EPERM))
    for name in {"fork", "vfork"} & set(seccomp.read_table(machine)):
        assert run(machine, number_of(machine, name), program=alone) == refuse(errno.EPERM)
        assert run(machine, number_of(machine, name)) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide_where_the_table_says_so(machine: str) -> None:
    pair, limit = number_of(machine, "socketpair"), number_of(machine, "prlimit64")
    control, process = number_of(machine, "ioctl"), number_of(machine, "prctl")
    stream, datagram, flags = 1, 2, 0o2000000 | 0o4000
    assert run(machine, pair, 1, stream | flags) == ALLOW
    assert run(machine, pair, 1, datagram | flags) == refuse(errno.EPERM)
    assert run(machine, pair, 2, stream) == refuse(errno.EPERM)
    assert run(machine, limit, 0, 7, 0) == ALLOW
    assert run(machine, limit, 0, 7, 0x1000) == refuse(errno.EPERM)
    assert run(machine, limit, 0, 7, 1 << 32) == refuse(errno.EPERM)
    assert run(machine, control, 1, 0x5401) == ALLOW
    assert run(machine, control, 1, 0x5412) == refuse(errno.ENOTTY)
    assert run(machine, control, 1, 0x541C) == refuse(errno.ENOTTY)
    assert run(machine, process, 15) == ALLOW
    assert run(machine, process, 22) == refuse(errno.EPERM)


@given(st.sampled_from(MACHINES), st.integers(0, 50), st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_with_a_relay_there_are_tcp_sockets_and_no_others(machine: str, family: int, kind: int, protocol: int) -> None:
    relayed = seccomp.build_filter(machine, relay=True)
    call = number_of(machine, "socket")
    is_tcp = family == 2 and kind & 0xF == 1 and protocol in {0, 6}
    told = run(machine, call, family, kind, protocol, program=relayed)
    assert told == (ALLOW if is_tcp else refuse(errno.EAFNOSUPPORT))
    assert run(machine, call, family, kind, protocol) == refuse(errno.EAFNOSUPPORT)


@pytest.mark.parametrize("machine", MACHINES)
def test_with_a_relay_sockets_connect_and_never_listen(machine: str) -> None:
    relayed = seccomp.build_filter(machine, relay=True)
    table = seccomp.read_table(machine)
    assert run(machine, number_of(machine, "socket"), 2, 1 | 0o2000000 | 0o4000, 0, program=relayed) == ALLOW
    assert run(machine, number_of(machine, "connect"), program=relayed) == ALLOW
    assert not {"bind", "listen", "accept", "accept4"} & set(table)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_socket_takes_plain_options_alone(machine: str) -> None:
    option = number_of(machine, "setsockopt")
    general, tcp, ip = 1, 6, 0
    keep_alive, no_delay, attach_filter, upper_protocol, congestion = 9, 1, 26, 31, 13
    assert run(machine, option, 3, general, keep_alive) == ALLOW
    assert run(machine, option, 3, tcp, no_delay) == ALLOW
    for level, name in ((general, attach_filter), (tcp, upper_protocol), (tcp, congestion), (ip, 1)):
        assert run(machine, option, 3, level, name) == refuse(errno.ENOPROTOOPT)


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_dangerous_is_in_the_table(machine: str) -> None:
    assert set(DANGEROUS.split()) & set(seccomp.read_table(machine)) == set()


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_never_needed_is_refused_by_a_second_list(machine: str) -> None:
    assert len({number for number, _ in REFUSED[machine].values()}) == len(REFUSED[machine])
    for name, (number, rule) in REFUSED[machine].items():
        answer = run(machine, number, 0x10000000, 0x5412, program=REFUSALS[machine])
        expected = {"enosys": errno.ENOSYS, "family": errno.EAFNOSUPPORT}.get(rule, errno.EPERM)
        assert answer == refuse(expected), name
    assert set(DANGEROUS.split()) - WORK_OF_A_CELL <= set(REFUSED[machine]) | ABSENT_HERE


@pytest.mark.parametrize("machine", MACHINES)
def test_the_second_list_refuses_nothing_that_the_first_one_allows(machine: str) -> None:
    for name, (number, rule) in seccomp.read_table(machine).items():
        if rule == "allow":
            assert run(machine, number, program=REFUSALS[machine]) == ALLOW, name
    for name, first, second in (("clone", 0x3D0F00, 0), ("socket", 2, 1), ("socket", 1, 1), ("ioctl", 0, 0x5401)):
        assert run(machine, number_of(machine, name), first, second, program=REFUSALS[machine]) == ALLOW


@given(st.sampled_from(MACHINES), st.integers(3, 2**31 - 1))
def test_no_socket_of_a_rare_family_passes(machine: str, family: int) -> None:
    if family != 10:
        answer = run(machine, number_of(machine, "socket"), family, 1, program=REFUSALS[machine])
        assert answer == refuse(errno.EAFNOSUPPORT)


@given(st.sampled_from(MACHINES), st.integers(0, 2**32 - 1))
def test_the_second_list_too_ends_another_architectures_call(machine: str, architecture: int) -> None:
    if architecture not in {0, ARCHITECTURES[machine]}:
        assert run(machine, 1, architecture=architecture, program=REFUSALS[machine]) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("relay", [False, True])
def test_without_anybody_who_answers_nothing_more_is_allowed(machine: str, relay: bool) -> None:  # noqa: FBT001  # a table's
    plain = seccomp.build_filter(machine, relay=relay)
    asked = seccomp.build_filter(machine, relay=relay, asks=True)
    for number in [*range(600), *notify.PROGRAMS[machine]]:
        for family in (1, 2, 10, 16):
            before, after = (run(machine, number, family, 1, program=program) for program in (plain, asked))
            assert (before == ALLOW) == (after == ALLOW), number
            assert after in {before, TRACE}, number


def test_only_what_other_barriers_judge_goes_on() -> None:
    calls = notify.asked("x86_64", seccomp.read_table("x86_64"))
    for relay in (False, True):
        listener = notify.Listener(-1, calls, relay=relay, tell=lambda _told: True)
        program = seccomp.build_filter("x86_64", relay=relay)
        for number, name in calls.items():
            if name in listener._goes_on:
                assert run("x86_64", number, 2, 1, program=program) == ALLOW, name
