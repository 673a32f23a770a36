"""A zygote with one barrier less, for tests that ask what then still holds; its file's name says which one.

The product has no such switch: this replaces the barrier's function before the zygote's own code runs.
"""

import os
import signal
import socket
import sys

LIBRARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib")
sys.path.insert(0, LIBRARY)

from sandbox import bpf, controllers, identity, kernel, landlock, notify, refusals, rlimits, root, seccomp, zygote

NAMESPACES = {
    "pid namespace": kernel.CLONE_NEWPID,
    "network namespace": kernel.CLONE_NEWNET,
    "ipc namespace": kernel.CLONE_NEWIPC,
    "uts namespace": kernel.CLONE_NEWUTS,
}
KEEP_CAPABILITIES = 8
HOST_PROC = 0x1000 | 0x4000


def replace(module: object, name: str, function: object) -> object:
    """Put a function in another's place; gives the other. One that is not there any more is an error."""
    before = getattr(module, name)
    setattr(module, name, function)
    return before


def without_namespace(flag: int) -> None:
    """Stay in the host's namespace."""
    before = kernel.unshare

    def unshare(flags: int) -> None:
        if flags & ~flag:
            before(flags & ~flag)

    replace(kernel, "unshare", unshare)
    if flag == kernel.CLONE_NEWUTS:
        _without_naming_the_host()
    if flag == kernel.CLONE_NEWPID:
        _without_processes_of_its_own()


def _without_naming_the_host() -> None:
    before = socket.sethostname

    def leave_the_name(_name: str) -> None:
        replace(socket, "sethostname", before)

    replace(socket, "sethostname", leave_the_name)


def _without_processes_of_its_own() -> None:
    mount = kernel.mount

    def mount_hosts(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
        try:
            mount(source, target, kind, flags, options)
        except PermissionError:
            # Only who owns the namespace of processes may show it: then the host's own view.
            if kind != "proc":
                raise
            mount("/proc", target, None, HOST_PROC)

    replace(kernel, "mount", mount_hosts)
    replace(kernel, "enter_namespace", nothing)
    limit = rlimits.limit_process

    def limit_and_follow(*arguments: object, **named: object) -> None:
        # What the pid namespace did: the plugin goes when its init does.
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        limit(*arguments, **named)

    replace(rlimits, "limit_process", limit_and_follow)


def without_user_namespace() -> None:
    """Stay in the namespace of users that the zygote is in."""
    enter = identity.enter_user_namespace
    replace(identity, "enter_user_namespace", lambda flags=0: enter(flags) if flags else None)
    # What was given up before cannot be given up again.
    replace(identity, "drop_privileges", nothing)


def without_root() -> None:
    """Show a cell all of the host's files, and its own two folders besides."""

    def enter_hosts_root(template: root.Template, spec: object, uid: int) -> int:
        new = template.new
        own = {each.split("/")[1] for each in template.libraries}
        kernel.mount("tmpfs", new, "tmpfs", 0, "mode=0755,size=1m")
        for name in os.listdir("/"):
            place = os.path.join(new, name)
            if os.path.islink("/" + name):
                os.symlink(os.readlink("/" + name), place)
            elif os.path.isdir("/" + name):
                os.mkdir(place)
                # A folder that none but root may enter would keep the standard library out of reach.
                is_closed = name in own and not os.stat("/" + name).st_mode & 1
                source = os.path.join(template.tree, name) if is_closed else "/" + name
                kernel.mount(source, place, None, kernel.MS_BIND | kernel.MS_REC)
        for name in ("plugin", "scratch"):
            os.mkdir(os.path.join(new, name))
        kernel.mount("tmpfs", new + "/scratch", "tmpfs", 0, f"mode=0700,uid={uid},gid={uid},size=1m")
        kernel.mount(spec.code, new + "/plugin", None, kernel.MS_BIND)
        disk = os.open(new + "/scratch", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.chdir(new)
        kernel.pivot_root(".", ".")
        kernel.unmount(".", kernel.MNT_DETACH)
        os.chdir("/")
        return disk

    replace(root, "enter_root", enter_hosts_root)


def without_root_for_all() -> None:
    """Exchange the root of the cell's init alone."""

    def exchange_own(new: str) -> None:
        os.chroot(new)
        os.chdir("/")

    replace(root, "_swap_roots", exchange_own)


def without_capability_drop() -> None:
    """Keep every capability, for the plugin in its own namespace of users."""

    def keep(uid: int) -> None:
        kernel.prctl(KEEP_CAPABILITIES, 1)
        identity.become(uid)

    replace(identity, "bar_gains", lambda _last: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1))
    replace(identity, "drop_capabilities", keep)
    replace(identity, "drop_privileges", nothing)


def without_new_privileges_barred() -> None:
    """Leave out the promise that the kernel asks for before it takes a filter."""
    before = kernel.prctl
    barred = kernel.PR_SET_NO_NEW_PRIVS
    replace(kernel, "prctl", lambda option, *rest: 0 if option == barred else before(option, *rest))


def without_filters(*modules: object) -> None:
    """Take filters that allow everything."""
    # What asks the init is a filter too, and it would refuse what these no longer do.
    replace(notify, "is_available", lambda _machine: False)
    for module in modules:
        replace(module, "build_filter", lambda *_arguments, **_named: bpf.assemble((bpf.answer(bpf.ALLOW),)))


def nothing(*_arguments: object, **_named: object) -> None:
    """Stand in for a barrier."""


def without_rlimits() -> None:
    replace(rlimits, "limit_process", nothing)
    replace(rlimits, "limit_files", nothing)


LAYERS = {
    **{name: lambda flag=flag: without_namespace(flag) for name, flag in NAMESPACES.items()},
    "user namespace": without_user_namespace,
    "root": without_root,
    "root for all": without_root_for_all,
    "capabilities": without_capability_drop,
    "no new privileges": without_new_privileges_barred,
    "seccomp list": lambda: without_filters(seccomp),
    "refusals": lambda: without_filters(refusals),
    "both filters": lambda: without_filters(seccomp, refusals),
    "landlock": lambda: replace(landlock, "restrict", nothing),
    "cgroup": lambda: replace(controllers, "find_controllers", lambda: controllers.NO_CONTROLLERS),
    "rlimits": without_rlimits,
}

if __name__ == "__main__":
    LAYERS[os.path.basename(__file__).removesuffix(".py").replace("_", " ")]()
    zygote.main()
