"""Tries what no plugin may do. Each deed is held by something, and `attack` says by what."""
# ruff: noqa: PTH208, PTH123, S603  # hostile code is written to reach the kernel, not to please

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import stat
import subprocess
from pathlib import Path

MB = 1 << 20
PTRACE_ATTACH, CLONE_NEWUSER = 16, 0x10000000
GATEWAY_FILES = ("data/audit.db", "data/vault.db", "data/keys/log.key", "run/hearthgate.sock", "hearthgate.toml")
DOORS = ("/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/self/cwd/../..", "/plugin/../../..", "/..")
METADATA = "169.254.169.254"
OUTSIDE = "192.0.2.1"  # set aside for documentation: nobody answers there

libc = ctypes.CDLL(None, use_errno=True)


def attack(ctx):
    """Try everything; a plugin that is held tells of every deed what held it."""
    told = [tried(name, deed, ctx) for name, deed in DEEDS]
    return {"tried": len(told), "held": sum(each["held"] for each in told), "deeds": told}


def stay(_ctx):
    """Never return, whatever is said."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        if os.fork() == 0:
            os.setsid()
    while True:
        signal.pause()


def bomb(_ctx):
    """Use memory until something stops it."""
    held = []
    while True:
        held.append(bytearray(os.urandom(MB)))


def fork_bomb(_ctx):
    """Start processes until something refuses; tell how many there were."""
    for count in range(100_000):
        try:
            if os.fork() == 0:
                signal.pause()
        except OSError as error:
            return {"processes": count, "held": True, "by": described(error)}
    return {"processes": count, "held": False, "by": ""}


def flood(_ctx):
    """Print a gigabyte."""
    block = b"all work and no play " * 50_000
    for _ in range(1024):
        os.write(1, block)
    return {"printed": 1024 * len(block)}


def tried(name, deed, ctx):
    """Do one deed; it is held when it raises."""
    try:
        evidence = deed(ctx)
    except Exception as error:  # noqa: BLE001  # whatever holds it is the answer
        return {"deed": name, "held": True, "by": described(error)}
    return {"deed": name, "held": False, "by": str(evidence)[:80]}


def described(error):
    """Name what held a deed."""
    number = getattr(error, "errno", None)
    code = f"{errno.errorcode[number]}: " if number in errno.errorcode else ""
    return f"{type(error).__name__}: {code}{error}"[:200]


def checked(result):
    """Raise what the kernel said no with."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def read_passwords(_ctx):
    return Path("/etc/shadow").read_text()[:10]


def read_the_home(_ctx):
    return first_readable(door + above + "/" + name for door in DOORS for above in parents() for name in GATEWAY_FILES)


def parents():
    """Guess where the home lies from where the host keeps this plugin's code."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        root, place = line.split(" ")[3:5]
        if place == "/plugin":
            return ["", *(str(each) for each in Path(root).parents)]
    return [""]


def read_other_plugins(_ctx):
    return first_readable(door + above + "/plugins/notes/main.py" for door in DOORS for above in parents())


def list_home_folders(_ctx):
    for folder in ("/root", "/home", "/srv", "/var"):
        try:
            return os.listdir(folder)
        except OSError as error:
            last = error
    raise last


def first_readable(paths):
    """Give the beginning of the first file that can be read."""
    last = FileNotFoundError(errno.ENOENT, "none of the paths")
    for path in paths:
        try:
            return Path(path).read_bytes()[:10]
        except OSError as error:
            last = error
    raise last


def read_environment(_ctx):
    found = dict(os.environ) or Path("/proc/self/environ").read_bytes() or Path("/proc/1/environ").read_bytes()
    if not found:
        raise LookupError("the environment is empty")
    return found


def read_init_memory(_ctx):
    with open("/proc/1/mem", "rb", 0) as file:
        return file.name


def find_descriptors(_ctx):
    found = []
    for number in range(1024):
        try:
            kind = os.fstat(number).st_mode
        except OSError:
            continue
        if not stat.S_ISSOCK(kind) and not stat.S_ISCHR(kind):
            found.append(number)
    if not found:
        raise LookupError("no descriptor but its own")
    return found


def connect_to(host, port):
    with socket.create_connection((host, port), timeout=2) as connection:
        return connection.getpeername()


def look_up(_ctx):
    return socket.getaddrinfo("example.com", 443)


def open_gateway_socket(_ctx):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("/run/hearthgate.sock")
        return "connected"


def open_raw_socket(_ctx):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "opened"


def kill_others(_ctx):
    seen = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    for pid in seen or [os.getppid() + 1_000]:
        os.kill(pid, signal.SIGKILL)
    return f"killed {seen}"


def trace_parent(_ctx):
    return checked(libc.ptrace(PTRACE_ATTACH, os.getppid(), None, None))


def mount_something(ctx):
    return checked(libc.mount(b"none", ctx.scratch.encode(), b"tmpfs", 0, None))


def enter_namespace(_ctx):
    return checked(libc.unshare(CLONE_NEWUSER))


def write_own_code(_ctx):
    with open(__file__, "a") as file:
        return file.write("\n")


def run_from_memory(_ctx):
    return os.memfd_create("program")


def run_from_scratch(ctx):
    program = Path(ctx.scratch, "program")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    return subprocess.run([str(program)], check=True).returncode


def run_shell(_ctx):
    return subprocess.run(["/bin/sh", "-c", "id"], check=True).returncode


def become_root(_ctx):
    os.setuid(0)
    return os.getuid()


def raise_limits(_ctx):
    resource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "raised"


DEEDS = (
    ("read the host's passwords", read_passwords),
    ("read the gateway's home", read_the_home),
    ("read other plugins' code", read_other_plugins),
    ("list home folders", list_home_folders),
    ("read secrets from the environment", read_environment),
    ("read the memory of the cell's init", read_init_memory),
    ("use a descriptor left open", find_descriptors),
    ("connect to a service on this machine", lambda _ctx: connect_to("127.0.0.1", 8642)),
    ("connect to the internet", lambda _ctx: connect_to(OUTSIDE, 443)),
    ("ask the cloud's metadata service", lambda _ctx: connect_to(METADATA, 80)),
    ("look up a name", look_up),
    ("open the gateway's socket", open_gateway_socket),
    ("open a raw socket", open_raw_socket),
    ("kill other processes", kill_others),
    ("trace another process", trace_parent),
    ("mount a file system", mount_something),
    ("enter a namespace with all capabilities", enter_namespace),
    ("change its own code", write_own_code),
    ("run a program from memory", run_from_memory),
    ("run a program from the scratch folder", run_from_scratch),
    ("run a shell", run_shell),
    ("become root", become_root),
    ("raise its own limits", raise_limits),
    ("ask for another scope of the vault", lambda ctx: ctx.vault.read("user_data/diary")),
    ("write where it may only read", lambda ctx: ctx.vault.write("hostile/note", "mine")),
    ("ask for an unlisted host", lambda ctx: ctx.http.get("http://example.com/").status),
    ("ask for the metadata service", lambda ctx: ctx.http.get(f"http://{METADATA}/latest/").status),
    ("ask for a host file", lambda ctx: ctx.files.read("/etc/passwd")[:10]),
    ("ask to run a program", lambda ctx: ctx.system.run(["/bin/id"])),
    ("ask for another plugin", lambda ctx: ctx.plugins.call("notes", {"action": "recall", "word": ""})),
)
