"""The barrier of files: a root of the cell's own that holds the standard library, the plugin and little else.

The zygote prepares once, in its own mount namespace, what every cell has alike; a cell adds what is
its own and makes that its root. Nothing of the host is seen that was not put there.
"""

import os
import stat
import sys
from dataclasses import dataclass

from sandbox import kernel, shown
from sandbox.errors import SandboxError
from sandbox.kernel import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC
from sandbox.relay import CERTIFICATES
from sandbox.spec import LOADER, NATIVE, Spec

DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_MASKED = ("site-packages", "dist-packages")
_BARRIER = "root"
_INODES_LEAST, _INODES_MOST, _BYTES_PER_INODE = 256, 65536, 4096


@dataclass(frozen=True, slots=True)
class Template:
    """What every cell sees alike: folders below `tree`; `new` is where a cell builds its root."""

    place: str
    libraries: tuple[str, ...]
    package: int = -1  # a descriptor of this package's own folder, over which `place` is mounted

    @property
    def state(self) -> str:
        """Give the folder for what a program that makes a cell keeps meanwhile."""
        return os.path.join(self.place, "state")

    @property
    def new(self) -> str:
        """Give the folder on which a cell builds its root."""
        return os.path.join(self.place, "new")

    @property
    def tree(self) -> str:
        """Give the folder that holds what cells share."""
        return os.path.join(self.place, "tree")


def library_folders() -> tuple[str, ...]:
    """Name the folders of the standard library, none of them within another."""
    folders = sorted({os.path.realpath(each) for each in sys.path if os.path.isdir(each)})
    if not folders:
        raise SandboxError(_BARRIER, "the interpreter knows no folder of its standard library")
    return tuple(each for each in folders if not any(each.startswith(other + "/") for other in folders))


def prepare_template(place: str) -> Template:
    """Build, on an existing folder and in this mount namespace alone, what cells share."""
    try:
        kernel.mount("none", "/", None, MS_REC | MS_PRIVATE)
        package = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        kernel.mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m")
        template = Template(place=place, libraries=library_folders(), package=package)
        for folder in (template.new, template.state, template.tree, template.tree + LOADER):
            os.mkdir(folder)
        for folder in template.libraries:
            bind(folder, template.tree + folder, MS_RDONLY | MS_NOSUID | MS_NODEV)
            _mask(template.tree + folder)
        for device in DEVICES:
            bind(device, template.tree + device, MS_NOSUID | MS_NOEXEC)
        kernel.set_mount_flags(place, MS_RDONLY, recursive=False)
    except OSError as error:
        raise SandboxError.from_os(_BARRIER, error) from None
    return template


def begin_root(template: Template, backend: str = NATIVE) -> None:
    """Put on the template's `new` what cells have alike; `build_root` adds what is a cell's own."""
    new = template.new
    try:
        kernel.mount("tmpfs", new, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m,nr_inodes=4k")
        loader = () if backend == NATIVE else (LOADER,)
        for folder in (*template.libraries, *loader, "/dev"):
            # WHY: each by itself, so that beside it there is room for what the plugin was granted.
            os.makedirs(new + folder)
            kernel.mount(template.tree + folder, new + folder, None, MS_BIND | MS_REC)
    except OSError as error:
        raise SandboxError.from_os(_BARRIER, error) from None


def enter_root(template: Template, spec: Spec, uid: int) -> int:
    """Finish this cell's root and move into it; afterwards the host's files have no name here.

    Gives what `build_root` gives.
    """
    disk = build_root(template, spec, uid)
    try:
        # SECURITY: of /proc only what belongs to processes, and of those only one's own.
        show_processes(template.new + "/proc")
        _swap_roots(template.new)
    except OSError as error:
        raise SandboxError.from_os(_BARRIER, error) from None
    return disk


def build_root(template: Template, spec: Spec, uid: int) -> int:
    """Build this cell's root on what `begin_root` began, all but its processes.

    Gives a descriptor of the disk that holds all that the cell can write: its folder `scratch`, and for each
    writable mount a folder `changed-<n>` of what differs from its source.
    """
    try:
        # SECURITY: opened before anything of the cell's own is mounted, so no path is looked up where a mount could
        # hide it; what is there already lies in the template, where nothing of a specification can.
        code = _open_source(spec.code)
        trusted = None if spec.certificates is None else _open_source(spec.certificates)
        packages = None if spec.packages is None else _open_source(spec.packages)
        program = _open_program(spec, template)
        sources = [(each, shown.open_source(each)) for each in spec.mounts]
        new = template.new
        disk = _own_folders(new, spec, uid)
        _bind_open(code, new + "/plugin", MS_RDONLY | MS_NOSUID | MS_NODEV)
        if trusted is not None:
            _bind_open(trusted, new + CERTIFICATES, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
        if packages is not None:
            _bind_open(packages, new + "/packages", MS_RDONLY | MS_NOSUID | MS_NODEV)
        for place, file in program:
            _bind_open(file, new + place, MS_RDONLY | MS_NOSUID | MS_NODEV)
        for number, (mount, source) in enumerate(sources):
            _check_place(mount.target, template)
            make_place(new + mount.target, is_folder=shown.is_folder(source, mount))
            if mount.writable:
                shown.show_writable(source, mount, new, number, uid)
            else:
                shown.show(source, mount, new + mount.target, uid)
        kernel.unmount(new + shown.DISK, kernel.MNT_DETACH)
        os.rmdir(new + shown.DISK)
        kernel.set_mount_flags(new, MS_RDONLY, recursive=False)
    except OSError as error:
        raise SandboxError.from_os(_BARRIER, error) from None
    return disk


def _open_program(spec: Spec, template: Template) -> list[tuple[str, int]]:
    """Open what a program is made of, but for what every cell has; each with its place."""
    if spec.program is None:
        return []
    within = tuple(folder + "/" for folder in template.libraries)
    return [(place, _open_source(file)) for place, file in spec.program.files if not place.startswith(within)]


def _check_place(target: str, template: Template) -> None:
    for folder in template.libraries:
        if (folder + "/").startswith(target + "/") or (target + "/").startswith(folder + "/"):
            raise SandboxError("mount", f"`{target}`: the cell has its own `{folder}` there")


def _own_folders(new: str, spec: Spec, uid: int) -> int:
    for name in ("plugin", "proc", "scratch"):
        os.mkdir(os.path.join(new, name))
    os.symlink("scratch", os.path.join(new, "tmp"))
    hidden = MS_NOSUID | MS_NODEV | MS_NOEXEC
    inodes = max(_INODES_LEAST, min(_INODES_MOST, spec.limits.scratch_bytes // _BYTES_PER_INODE))
    disk = new + shown.DISK
    os.mkdir(disk)
    # INVARIANT: one file system for all that a cell writes, so that one size bounds all of it.
    kernel.mount("tmpfs", disk, "tmpfs", hidden, f"mode=0755,size={spec.limits.scratch_bytes},nr_inodes={inodes}")
    os.mkdir(disk + "/scratch", 0o700)
    os.chown(disk + "/scratch", uid, uid if os.getuid() == 0 else -1)
    kernel.mount(disk + "/scratch", new + "/scratch", None, MS_BIND)
    kernel.set_mount_flags(new + "/scratch", hidden)
    return os.open(disk, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def show_processes(place: str) -> None:
    """Mount there what /proc tells of the processes of this pid namespace, and nothing else of it."""
    kernel.mount("proc", place, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=invisible,subset=pid")


def _swap_roots(new: str) -> None:
    os.chdir(new)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")


def _open_source(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        # INVARIANT: a mount that is missing ends the cell; it is never left out.
        raise SandboxError.from_os("mount", error, detail=f"`{path}`") from None


def _bind_open(source: int, target: str, flags: int) -> None:
    kind = os.fstat(source).st_mode
    if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
        raise SandboxError("mount", f"`{target}`: only folders and plain files can be shown in a cell")
    make_place(target, is_folder=stat.S_ISDIR(kind))
    kernel.mount(f"/proc/self/fd/{source}", target, None, MS_BIND | MS_REC)
    kernel.set_mount_flags(target, flags)
    os.close(source)


def bind(source: str, target: str, flags: int) -> None:
    """Mount a file or folder of the host at a place that is made if need be."""
    if not os.path.exists(source):
        raise SandboxError("mount", f"`{source}` does not exist")
    make_place(target, is_folder=os.path.isdir(source))
    kernel.mount(source, target, None, MS_BIND | MS_REC)
    kernel.set_mount_flags(target, flags)


def _mask(folder: str) -> None:
    """Hide what is installed beside the standard library."""
    for name in _MASKED:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "mode=0755,size=4k")


def make_place(target: str, *, is_folder: bool) -> None:
    """Make the folder or empty file that something is mounted on."""
    if is_folder:
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444))
