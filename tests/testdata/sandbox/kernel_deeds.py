"""Deeds against the kernel itself: its rarer calls, mounts, namespaces, keys and clocks; see deeds.py."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import termios

from main import INIT, checked, libc, syscall

AT_HERE = -100


def reached(x86, arm, *arguments, beyond):
    """Make a call with arguments that nothing can be done with: these errors come only after all checks of rights."""
    try:
        return syscall(x86, arm, *arguments)
    except OSError as error:
        if error.errno in beyond:
            return f"the kernel looked at the arguments: {error}"
        raise


# Mounts


def deed_open_file_system():
    os.close(syscall(430, 430, b"tmpfs", 0))
    return "opened"


def deed_clone_tree():
    os.close(syscall(428, 428, AT_HERE, b"/", 1 | 0x8000))
    return "cloned"


def deed_move_mount():
    return reached(429, 429, -1, b"", -1, b"", 0, beyond=(errno.EBADF, errno.ENOENT))


def deed_swap_root():
    return reached(155, 41, b"/missing", b"/missing", beyond=(errno.ENOENT,))


def deed_make_writable_again(path):
    # In the twin nothing is mounted there, which the kernel says only to who may mount.
    return reached(442, 442, AT_HERE, path.encode(), 0, struct.pack("=QQQQ", 0, 1, 0, 0), 32, beyond=(errno.EINVAL,))


def deed_remount(path):
    result = libc.mount(b"none", path.encode(), None, 0x20 | 0x1000, None)
    if result < 0 and ctypes.get_errno() != errno.EINVAL:
        checked(result)
    return "remounted, or nothing mounted there"


def deed_list_mounts():
    request = struct.pack("=IIQQQ", 24, 0, 0xFFFF_FFFF_FFFF_FFFF, 0, 0)[:24]
    return syscall(458, 458, request, ctypes.create_string_buffer(80), 10, 0)


# Namespaces


def deed_new_namespace(flag):
    checked(libc.unshare(int(flag, 16)))
    return "entered"


def deed_clone3_into_user_namespace():
    arguments = struct.pack("=11Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)
    pid = syscall(435, 435, arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "cloned"


def deed_enter_namespace_of_init(kind):
    checked(libc.setns(os.open(f"/proc/{INIT}/ns/{kind}", os.O_RDONLY), 0))
    return "entered"


def deed_enter_namespaces_by_handle():
    checked(libc.setns(os.pidfd_open(INIT), 0x4000000))
    return "entered"


# Memory and processes, by rarer calls


def deed_user_faults(flags):
    os.close(syscall(323, 282, flags))
    return "made"


def deed_secret_memory():
    os.close(syscall(447, 447, 0))
    return "made"


def deed_compare_with_init():
    return syscall(312, 272, os.getpid(), INIT, 1, 0, 0)


def deed_trace_init():
    checked(libc.ptrace(0x4206, INIT, None, None))
    return "seized"


def deed_be_traced():
    pid = os.fork()
    if pid == 0:
        os._exit(0 if libc.ptrace(0, 0, None, None) == 0 else ctypes.get_errno())
    number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if number:
        raise OSError(number, os.strerror(number))
    return "traced"


def deed_read_init_directly():
    secret = ctypes.create_string_buffer(b"secret")
    taken = ctypes.create_string_buffer(6)
    spans = [(ctypes.c_size_t * 2)(ctypes.addressof(each), 6) for each in (taken, secret)]
    return syscall(310, 270, INIT, spans[0], 1, spans[1], 1, 0)


def deed_write_init_directly():
    held = ctypes.create_string_buffer(b"secret")
    span = (ctypes.c_size_t * 2)(ctypes.addressof(held), 6)
    return syscall(311, 271, INIT, span, 1, span, 1, 0)


def deed_take_descriptor_of_init():
    os.close(syscall(438, 438, os.pidfd_open(INIT), 0, 0))
    return "taken"


def deed_advise_init():
    span = (ctypes.c_size_t * 2)(0, 4096)
    return reached(440, 440, os.pidfd_open(INIT), span, 1, 20, 0, beyond=(errno.ENOMEM,))


def deed_set_property(option, value):
    checked(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))
    return "set"


def deed_move_memory_map():
    size = ctypes.c_uint()
    checked(libc.prctl(35, ctypes.c_ulong(15), ctypes.byref(size), 0, 0))
    return size.value


def deed_add_filter():
    allow = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
    program = struct.pack("=HxxxxxxQ", 1, ctypes.addressof(allow))
    libc.prctl(38, 1, 0, 0, 0)
    os.close(syscall(317, 277, 1, 8, program))
    return "a filter with a listener"


def deed_ask_landlock():
    return syscall(444, 444, None, 0, 1)


def deed_take_capabilities():
    header = struct.pack("=Ii", 0x20080522, 0)
    every = (1 << 32) - 1
    if libc.capset(header, struct.pack("=6I", every, every, 0, 0x1FF, 0x1FF, 0)) < 0:
        held = struct.pack("=6I", 1 << 21, 1 << 21, 0, 0, 0, 0)
        checked(libc.capset(header, held))
    return "taken"


def deed_change_group():
    os.setgroups([])
    return "changed"


def deed_become_root_group():
    os.setresgid(0, 0, 0)
    return "changed"


def deed_lock_memory():
    page = ctypes.create_string_buffer(8192)
    checked(libc.mlock(page, ctypes.c_size_t(4096)))
    return "locked"


def deed_lock_all_memory():
    checked(libc.mlockall(1 | 4))
    return "locked"


# Queues and rings


def deed_open_queue():
    name = f"hearth-{os.getpid()}".encode()
    queue = syscall(240, 180, name, os.O_CREAT | os.O_RDWR, 0o600, None)
    syscall(241, 181, name)
    os.close(queue)
    return "opened"


def deed_attach_hosts_memory(key):
    number = syscall(29, 194, key, 0, 0)
    syscall(30, 196, number, 0, 0)
    return "attached"


def deed_make_semaphores():
    number = syscall(64, 190, 0, 1, 0o600)
    syscall(66, 191, number, 0, 0)
    return "made"


def deed_make_aio():
    context = ctypes.c_ulong(0)
    syscall(206, 0, 1, ctypes.byref(context))
    return "made"


def deed_give_pages_away():
    reader, writer = os.pipe()
    page = ctypes.create_string_buffer(4096)
    span = (ctypes.c_size_t * 2)(ctypes.addressof(page), 4096)
    count = syscall(278, 75, writer, span, 1, 0)
    os.close(reader)
    os.close(writer)
    return count


def deed_watch_files():
    os.close(syscall(294, 26, 0))
    return "made"


def deed_watch_file_system():
    os.close(syscall(300, 262, 0x200, 0))
    return "made"


# What the whole machine shares


def deed_load_module():
    return reached(175, 105, None, 0, b"", beyond=(errno.ENOEXEC, errno.EFAULT))


def deed_remove_module():
    return reached(176, 106, b"no_such_module", 0, beyond=(errno.ENOENT,))


def deed_restart_machine():
    # With numbers that mean nothing: who may restart the machine is told so.
    return reached(169, 142, 1, 2, 3, None, beyond=(errno.EINVAL,))


def deed_swap_on():
    return reached(167, 224, b"/missing", 0, beyond=(errno.ENOENT,))


def deed_keep_accounts():
    return reached(163, 89, b"/missing", beyond=(errno.ENOENT,))


def deed_read_kernel_log():
    return syscall(103, 116, 3, ctypes.create_string_buffer(4096), 4096)


def deed_set_domain_name():
    name = os.uname().nodename.encode()[:8]
    return syscall(171, 162, name, len(name))


def deed_set_clock():
    # What is set is what was read before.
    state = ctypes.create_string_buffer(208)
    syscall(159, 171, state)
    struct.pack_into("=I", state, 0, 0x10)
    return syscall(159, 171, state)


def deed_load_program():
    attributes = struct.pack("=IIII", 2, 4, 8, 1) + bytes(100)
    os.close(syscall(321, 280, 0, attributes, len(attributes)))
    return "a map of the kernel's"


def deed_measure_machine():
    attributes = struct.pack("=IIQ", 1, 112, 0) + bytes(96)
    os.close(syscall(298, 241, attributes, -1, 0, -1, 0))
    return "measured"


def deed_measure_oneself():
    attributes = bytearray(struct.pack("=IIQ", 1, 112, 0) + bytes(96))
    struct.pack_into("=Q", attributes, 40, 0b1100000)
    os.close(syscall(298, 241, bytes(attributes), 0, -1, -1, 0))
    return "measured"


def deed_reach_ports():
    syscall(172, 0, 0)
    return "reached"


def deed_read_segment_table():
    return syscall(154, 0, 0, ctypes.create_string_buffer(64), 64)


def deed_open_by_handle(path):
    handle = ctypes.create_string_buffer(b"\x80\0\0\0" + bytes(132))
    mount = ctypes.c_int()
    syscall(303, 264, AT_HERE, path.encode(), ctypes.byref(handle), ctypes.byref(mount), 0)
    os.close(syscall(304, 265, os.open("/", os.O_RDONLY), ctypes.byref(handle), 0))
    return "opened"


def deed_ask_for_key():
    try:
        return syscall(249, 218, b"user", b"no-such-key", None, 0)
    except OSError as error:
        if error.errno == errno.ENOKEY:
            return "asked"
        raise


# Time and turns


def deed_go_first():
    os.nice(-1)
    return "first"


def deed_go_in_real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "in real time"


def deed_choose_processor():
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    return "chosen"


def deed_slow_process(pid):
    os.setpriority(os.PRIO_PROCESS, pid, 19)
    return "slowed"


def deed_pin_process(pid):
    os.sched_setaffinity(pid, os.sched_getaffinity(0))
    return "pinned"


def deed_limit_process(pid):
    resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.prlimit(pid, resource.RLIMIT_NOFILE))
    return "limited"


# Terminals


def deed_type_into_terminal(request):
    master, slave = os.openpty()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            fcntl.ioctl(slave, request, b"x")
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
    number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    os.close(slave)
    if number:
        raise OSError(number, os.strerror(number))
    return "typed"


def deed_control_without_terminal(request):
    try:
        fcntl.ioctl(0, request, b"x")
    except OSError as error:
        raise OSError(error.errno, error.strerror) from None
    return "done"


def deed_read_file_flags(path):
    with open(path) as file:
        return fcntl.ioctl(file, 0x80086601, bytes(8)).hex()


def deed_open_kernel_gate(family, kind):
    socket.socket(family, kind, 0).close()
    return "opened"


def deed_signal_by_queue(pid):
    return syscall(129, 138, pid, signal.SIGTERM, ctypes.create_string_buffer(struct.pack("=iii", 15, 0, -1), 128))


def deed_kill_thread(pid):
    return syscall(234, 131, pid, pid, signal.SIGKILL)


def deed_kill_group(pid):
    os.killpg(pid, signal.SIGKILL)
    return "killed"


def deed_hold_process(pid):
    os.close(os.pidfd_open(pid))
    return "held"
