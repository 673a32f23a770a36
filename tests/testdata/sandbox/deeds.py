"""Deeds that no cell may do: run as a plugin's `main.py` in a cell, and as a plain script by the twin that must succeed.

Each deed returns its evidence when it is done and raises when something held it.
"""
# ruff: noqa: BLE001, E501, S108, SIM115  # written as plugin authors write, and worse

import ctypes
import errno
import importlib
import json
import mmap
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
IS_X86 = os.uname().machine == "x86_64"
MORE_DEEDS = ("kernel_deeds", "outward_deeds")
INIT = os.getppid()  # in a cell its trusted init; for the twin a process of the same user


def attempt(_ctx, deed, **given):
    """Do a deed and tell whether it was done, or what held it."""
    try:
        evidence = _deed(deed)(**given)
    except BaseException as error:
        return {"done": False, "by": f"{type(error).__name__}: {error}", "errno": getattr(error, "errno", None)}
    return {"done": True, "evidence": evidence}


def attempt_each(_ctx, orders, seconds):
    """Do many deeds, each in a child of its own, which may end in any way."""
    for name in MORE_DEEDS:
        importlib.import_module(name)
    return [_attempt_in_child(deed, given, seconds) for deed, given in orders]


def attempt_all_here(_ctx, orders, seconds):
    """Do many deeds one after the other in this very process, where there can be no other; one may end them all."""
    signal.signal(signal.SIGALRM, _give_up)
    told = []
    for deed, given in orders:
        signal.alarm(seconds)
        told.append(json.loads(json.dumps(attempt(None, deed, **given), default=str)))
        signal.alarm(0)
    return told


def _give_up(_number, _frame):
    raise TimeoutError("it took too long")


def _attempt_in_child(deed, given, seconds):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(seconds)
        os.close(reader)
        os.write(writer, json.dumps(attempt(None, deed, **given), default=str).encode()[:4096])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(told) if told else {"done": False, "by": f"exit {status}"}


def _deed(name):
    if f"deed_{name}" in globals():
        return globals()[f"deed_{name}"]
    for module in MORE_DEEDS:
        found = getattr(importlib.import_module(module), f"deed_{name}", None)
        if found is not None:
            return found
    raise LookupError(name)


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(x86, arm, *arguments):
    return checked(
        libc.syscall(
            ctypes.c_long(x86 if IS_X86 else arm),
            *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments),
        )
    )


def with_child(use):
    """Run `use(pid)` on a child that waits."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        return use(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# Files


def deed_read_file(path):
    return Path(path).read_text()[:20]


def deed_read_through_dots(path):
    return Path(os.path.join(os.path.dirname(__file__), "../" * 20 + path.lstrip("/"))).read_text()[:20]


def deed_read_through_symlink(path, scratch):
    link = Path(scratch, "link")
    link.symlink_to(path)
    return link.read_text()[:20]


def deed_read_through_proc_roots(path):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            return Path(f"/proc/{pid}/root{path}").read_text()[:20]
        except OSError:
            continue
    raise FileNotFoundError(errno.ENOENT, "below no process's root", path)


def deed_hard_link(path, scratch):
    os.link(path, os.path.join(scratch, "hard"))
    return "linked"


def deed_write_own_code():
    with open(__file__, "a") as file:
        file.write("\n# changed\n")
    return "changed"


def deed_replace_own_code():
    os.rename(__file__, __file__ + ".old")
    return "moved"


def deed_make_device(scratch):
    os.mknod(os.path.join(scratch, "device"), stat.S_IFCHR | 0o600, os.makedev(1, 5))
    return "made"


def deed_name_to_handle(path):
    handle = ctypes.create_string_buffer(b"\x80\0\0\0" + bytes(132))
    mount = ctypes.c_int()
    syscall(303, 264, -100, path.encode(), ctypes.byref(handle), ctypes.byref(mount), 0)
    return "named"


def deed_shared_memory_folder():
    Path("/dev/shm/left-behind").write_text("x")
    os.unlink("/dev/shm/left-behind")
    return "written"


def deed_read_kernel_settings():
    return Path("/proc/sys/kernel/osrelease").read_text()


# Running other code


def deed_run_program():
    return subprocess.run(["/bin/true"], check=True).returncode


def deed_run_interpreter():
    return subprocess.run([os.path.realpath(sys.executable), "-I", "-S", "-c", "pass"], check=True).returncode


def deed_run_from_scratch(scratch):
    program = Path(scratch, "program")
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    return subprocess.run([str(program)], check=True).returncode


def deed_memory_file():
    os.close(os.memfd_create("x"))
    return "made"


def deed_load_library_from_scratch(scratch):
    folder = sysconfig.get_path("platstdlib") + "/lib-dynload"
    source = next(os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.startswith("_json"))
    copy = os.path.join(scratch, "library.so")
    shutil.copyfile(source, copy)
    ctypes.CDLL(copy)
    return "loaded"


# Secrets


def deed_find_in_environment(name):
    if name in os.environ:
        return "os.environ"
    for pid in ("self", os.getppid(), 1):
        try:
            if name.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                return f"/proc/{pid}/environ"
        except OSError:
            continue
    raise LookupError(name)


def deed_find_in_memory(reversed_secret):
    # The secret is handed over backwards: the search must not find its own pattern.
    found = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split(" ")[:2]
            if not rights.startswith("rw") or "[v" in line:
                continue
            start, end = (int(each, 16) for each in span.split("-"))
            found += _count_reversed(memory, start, end, reversed_secret.encode())
    if not found:
        raise LookupError("not in this process's memory")
    return found


def _count_reversed(memory, start, end, reversed_secret):
    try:
        memory.seek(start)
        content = memory.read(end - start)
    except OSError:
        return 0
    pattern = bytearray(reversed(reversed_secret))
    count = content.count(pattern)
    # Wiped, or a later page of this very search would hold it.
    pattern[:] = bytes(len(pattern))
    return count


def deed_use_inherited_descriptor():
    for descriptor in range(5, 1024):
        try:
            kind = os.fstat(descriptor).st_mode
        except OSError:
            continue
        if stat.S_ISREG(kind):
            return os.pread(descriptor, 20, 0).decode()
    raise LookupError("no descriptor of a file")


def deed_read_parents_environment():
    return len(Path(f"/proc/{INIT}/environ").read_bytes())


def deed_read_parents_memory():
    with open(f"/proc/{INIT}/mem", "rb", 0):
        return "opened"


# Processes


def deed_see_process(pid):
    return Path(f"/proc/{pid}/status").read_text()[:20]


def deed_kill_process(pid):
    os.kill(pid, signal.SIGKILL)
    return "killed"


def deed_trace_child():
    def trace(pid):
        checked(libc.ptrace(16, pid, None, None))
        os.waitpid(pid, 0)
        return "attached"

    return with_child(trace)


def deed_read_childs_memory():
    secret = ctypes.create_string_buffer(b"secret")

    class Span(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    def read(pid):
        taken = ctypes.create_string_buffer(6)
        here, there = Span(ctypes.addressof(taken), 6), Span(ctypes.addressof(secret), 6)
        syscall(310, 270, pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        return taken.value.decode()

    return with_child(read)


def deed_take_childs_descriptor():
    return with_child(lambda pid: os.close(syscall(438, 438, os.pidfd_open(pid), 0, 0)) or "taken")


# The network


def deed_connect(host, port):
    with socket.create_connection((host, port), timeout=5) as connection:
        return connection.recv(20).decode()


def deed_connect_without_a_call(host, port):
    with socket.socket() as connection:
        connection.sendto(b"x", socket.MSG_FASTOPEN, (host, port))
        return connection.recv(20).decode()


def deed_connect_mapped(port):
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
        connection.connect(("::ffff:127.0.0.1", port))
        return connection.recv(20).decode()


def deed_send_datagram(host, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"x", (host, port))


def deed_listen():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1] > 0


def deed_raw_socket():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "opened"


def deed_packet_socket():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    return "opened"


def deed_netlink_socket():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
    return "opened"


def deed_connect_unix(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return connection.recv(20).decode()


def deed_reach_unix_from_pair(path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        return ours.sendto(b"x", path)


def deed_redirect_a_connected_pair(path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.connect(path)
        return ours.send(b"x")


def deed_look_up_name():
    return socket.getaddrinfo("localhost", 80)[0][4][0]


# The kernel


def deed_mount(scratch):
    checked(libc.mount(b"none", scratch.encode(), b"tmpfs", 0, None))
    checked(libc.umount2(scratch.encode(), 2))
    return "mounted"


def deed_new_user_namespace():
    checked(libc.unshare(0x10000000))
    return "entered"


def deed_clone_into_user_namespace():
    pid = syscall(56, 220, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "cloned"


def deed_enter_namespace():
    descriptor = os.open("/proc/self/ns/uts", os.O_RDONLY)
    checked(libc.setns(descriptor, 0))
    return "entered"


def deed_change_root(scratch):
    os.chroot(scratch)
    return "changed"


def deed_become_root():
    os.setuid(0)
    return os.getuid()


def deed_set_host_name():
    socket.sethostname(socket.gethostname())
    return "set"


def deed_raise_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft + 1, max(hard, soft + 1)))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def deed_add_key():
    return syscall(248, 217, b"user", b"hearth", b"x", 1, -3) > 0


def deed_change_personality():
    syscall(135, 92, 0x0040000)
    return "changed"


def deed_make_ring():
    os.close(syscall(425, 425, 4, ctypes.create_string_buffer(120)))
    return "made"


def deed_system_v_memory():
    number = syscall(29, 194, 0, 4096, 0o600)
    syscall(31, 195, number, 0, None)
    return "made"


def deed_message_queue():
    return syscall(68, 186, 0, 0o1600) >= 0


def deed_open_terminal():
    master, slave = os.openpty()
    os.close(master)
    os.close(slave)
    return "opened"


def deed_old_system_call_gate():
    if not IS_X86:
        raise NotImplementedError("there is no such gate on this machine")
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        pid = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        os._exit(0 if pid == os.getpid() else 1)


# What one is

STATE = ("CapEff", "NoNewPrivs", "Seccomp_filters")


def deed_tell_state():
    return tell_state(None)


def tell_state(_ctx):
    """Tell in which namespaces one is and what the kernel says of one's rights."""
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    kinds = ("user", "mnt", "pid", "net", "ipc", "uts")
    return {
        **{kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds},
        **{name: lines[name] for name in STATE},
    }


# What uses up, and what stays


def fill_memory(_ctx, size):
    held = bytearray(size)
    for offset in range(0, size, 4096):
        held[offset] = 1
    return len(held)


def fill_memory_in_children(_ctx, children, size):
    pids = []
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            try:
                fill_memory(None, size)
                signal.pause()
            finally:
                os._exit(1)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def fork_until_refused(_ctx, most):
    for count in range(most):
        try:
            if os.fork() == 0:
                signal.pause()
                os._exit(0)
        except OSError as error:
            return {"count": count, "errno": error.errno}
    return {"count": most, "errno": None}


def count_in_threads(_ctx, threads):
    done = []
    started = [threading.Thread(target=done.append, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return len(done)


def fill_disk(_ctx, scratch, size):
    written = 0
    try:
        for number in range(1000):
            with open(os.path.join(scratch, f"full-{number}"), "wb", 0) as file:
                for _ in range(1024):
                    written += file.write(b"x" * 65536)
                    if written > size:
                        return {"written": written, "errno": None}
    except OSError as error:
        return {"written": written, "errno": error.errno}


def rest(_ctx, seconds):
    time.sleep(seconds)
    return "rested"


def fill_inodes(_ctx, scratch, most):
    for count in range(most):
        try:
            open(os.path.join(scratch, f"inode-{count}"), "wb").close()
        except OSError as error:
            return {"count": count, "errno": error.errno}
    return {"count": most, "errno": None}


def open_until_refused(_ctx, most):
    held = []
    try:
        while len(held) < most:
            held.append(open("/dev/null", "rb"))
    except OSError as error:
        return {"count": len(held), "errno": error.errno}
    return {"count": len(held), "errno": None}


def spin(_ctx):
    while True:
        pass


def print_much(_ctx, megabytes):
    block = b"x" * (1 << 20)
    for _ in range(megabytes):
        os.write(1, block)
    return "printed"


def resist(_ctx):
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


def stop_oneself(_ctx):
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_everyone(_ctx):
    for pid in (1, -1):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
    return os.getpid()


def leave_daemon(_ctx, name, stay=False):
    """Leave a process that belongs to nobody; its name tells it to whoever looks from outside."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        libc.prctl(15, name.encode(), 0, 0, 0)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        while True:
            signal.pause()
    with open("/proc/self/comm") as file:
        own = file.read()
    while not stay and not _named(name):
        pass
    if stay:
        signal.pause()
    return own


def _named(name):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                return True
        except OSError:
            continue
    return False


def leave_orphans(_ctx, count):
    for _ in range(count):
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
    return count


def x32_call(_ctx):
    libc.syscall(ctypes.c_long(0x40000000 + 39))
    return "came back"


def old_gate(_ctx):
    deed_old_system_call_gate()


def say_raw(_ctx, text, then_wait=False):
    os.write(3, bytes.fromhex(text))
    if then_wait:
        signal.pause()


if __name__ == "__main__":
    # The twin: no cell, the same interpreter. With `privileged`, it first takes what an ordinary user may take.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.modules["main"] = sys.modules["__main__"]
    INIT = os.getpid()
    order = json.loads(sys.argv[1])
    held = Path(order.pop("hold")).read_text() if "hold" in order else None
    privileged = order.pop("privileged")
    if privileged and os.getuid() == 0:
        # What is mounted is mounted for this process alone.
        checked(libc.unshare(0x20000))
        checked(libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None))
    elif privileged:
        uid, gid = os.getuid(), os.getgid()
        checked(libc.unshare(0x10000000 | 0x20000 | 0x4000000 | 0x40000000))
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        if order["deed"] != "change_group":
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    # In a child, as in a cell: the parent is then a process of the same user.
    child = os.fork()
    if child == 0:
        sys.stdout.write(json.dumps(attempt(None, **order)))
        sys.stdout.flush()
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0)
