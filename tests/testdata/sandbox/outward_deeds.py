"""Deeds that reach out of a cell by files, /proc and the network; see deeds.py."""

import fcntl
import os
import socket
import stat
import struct
import subprocess
import threading
from pathlib import Path

from main import INIT, checked, libc


def _opened(path, flags):
    os.close(os.open(path, flags))
    return "opened"


# Files


def deed_list_folder(path):
    return len(os.listdir(path))


def deed_open_for_writing(path):
    return _opened(path, os.O_WRONLY)


def deed_open_device(path):
    return _opened(path, os.O_RDONLY | os.O_NONBLOCK)


def deed_move_out(scratch, other):
    Path(scratch, "mine").write_text("x")
    os.rename(os.path.join(scratch, "mine"), os.path.join(other, "moved"))
    return "moved"


def deed_open_own_code_again():
    with open(__file__) as file:
        return _opened(f"/proc/self/fd/{file.fileno()}", os.O_RDWR)


def deed_write_own_code_through_root():
    return _opened("/proc/self/root" + os.path.abspath(__file__), os.O_RDWR)


def deed_open_own_code_from_handle():
    # A handle without rights, opened anew through /proc.
    handle = os.open(os.path.dirname(os.path.abspath(__file__)), os.O_PATH)
    return _opened(f"/proc/self/fd/{handle}/{os.path.basename(__file__)}", os.O_RDWR)


def deed_change_mode_of_own_code():
    os.chmod(__file__, 0o666)
    return "changed"


def deed_make_folder_beside_code():
    os.mkdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "new"))
    return "made"


def deed_label_file(path):
    os.setxattr(path, "user.hearth", b"x")
    return "labelled"


def deed_open_interpreter():
    return _opened("/proc/self/exe", os.O_RDONLY)


def deed_run_oneself():
    return subprocess.run(["/proc/self/exe", "-I", "-S", "-c", "pass"], check=True).returncode


def deed_run_through_loader():
    # The loader takes a program as its argument, so that only the loader itself need be run.
    places = [*Path("/lib64").glob("ld-linux*"), *Path("/lib").glob("ld-linux*"), "/lib64/ld-linux-x86-64.so.2"]
    loader = places[0]
    return subprocess.run([str(loader), "/bin/true"], check=True).returncode


def deed_run_setuid_program():
    return subprocess.run(["/bin/su", "--version"], check=True, stdout=subprocess.DEVNULL).returncode


def deed_run_from_memory():
    program = Path("/bin/true").read_bytes()
    return _run_descriptor(os.memfd_create("x"), program)


def deed_run_from_unnamed_file(scratch):
    descriptor = os.open(scratch, os.O_TMPFILE | os.O_RDWR, 0o700)
    return _run_descriptor(descriptor, b"#!/bin/sh\nexit 0\n")


def _run_descriptor(descriptor, program):
    os.write(descriptor, program)
    readable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    os.set_inheritable(readable, True)
    os.close(descriptor)
    pid = os.fork()
    if pid == 0:
        try:
            os.execve(readable, ["x"], {})
        except OSError as error:
            os._exit(error.errno)
    number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(readable)
    if number:
        raise OSError(number, os.strerror(number))
    return "ran"


def deed_mount_by_program(scratch):
    return subprocess.run(["/bin/mount", "--version"], check=True, cwd=scratch, stdout=subprocess.DEVNULL).returncode


def deed_link_to_init(name):
    return os.readlink(f"/proc/{INIT}/{name}")


def deed_list_descriptors_of_init():
    return len(os.listdir(f"/proc/{INIT}/fd"))


def deed_spare_init_from_memory_killer():
    return _opened(f"/proc/{INIT}/oom_score_adj", os.O_WRONLY)


def deed_spare_oneself_from_memory_killer():
    return _opened("/proc/self/oom_score_adj", os.O_WRONLY)


def deed_find_other_processes(pid):
    if str(pid) in os.listdir("/proc"):
        return "listed"
    raise LookupError(f"no process {pid} is listed")


def deed_make_special_file(scratch):
    # A device that stands for one's own terminal, made as the block kind.
    os.mknod(os.path.join(scratch, "block"), stat.S_IFBLK | 0o600, os.makedev(254, 0))
    return "made"


# The network


def deed_see_interfaces():
    names = [name for _, name in socket.if_nameindex()]
    if set(names) <= {"lo"}:
        raise LookupError("only the loopback")
    return names


def deed_see_hosts_connections(port):
    for family in ("tcp", "udp"):
        if f":{port:04X} " in Path(f"/proc/self/net/{family}").read_text():
            return "seen"
    raise LookupError("that port is in no table")


def deed_connect_abstract(name):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("\0" + name)
        return connection.recv(20).decode()


def deed_send_to_abstract(name):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        return ours.sendto(b"x", "\0" + name)


def deed_connect_sequenced(name):
    # The kind of pair that a cell may make, told to go elsewhere.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    theirs.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect("\0" + name)
        return connection.recv(20).decode()


def deed_connect_metadata(prepare=False):  # the twin alone prepares, in a network of its own
    address = ("169.254.169.254", 8080)
    if prepare:
        _own_network(address[0])
        server = socket.create_server(address)
        threading.Thread(target=server.accept, daemon=True).start()
    with socket.create_connection(address, timeout=5):
        return "connected"


def _own_network(address):
    checked(libc.unshare(0x40000000))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))
        given = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(control, 0x8916, struct.pack("16s", b"lo") + given)


def deed_send_by_message(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendmsg([b"x"], [], 0, ("127.0.0.1", port))


def deed_fast_open(port):
    # Data in the first packet of a connection: no call named `connect` is made.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
        return sender.sendto(b"x", 0x20000000, ("127.0.0.1", port))


def deed_multipath_connect(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as connection:
        connection.settimeout(5)
        connection.connect(("127.0.0.1", port))
        return connection.recv(20).decode()


def deed_raise_interface():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))
    return "raised"
