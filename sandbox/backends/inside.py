"""The first process of ours in a cell that another program made: raises the remaining barriers, becomes the plugin.

Started as a script by the interpreter in the cell's loader. Until it is ready its standard error is a line to the
one who waits outside; then that is the plugin's plain output.
"""

import ctypes
import json
import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, "/loader/code")

from sandbox import cell, disk, identity, kernel, refusals, relay, root, seccomp
from sandbox.backends.outside import DISK
from sandbox.errors import SandboxError
from sandbox.spec import RUNSC, Spec

_TOLD = 2


def main() -> None:
    """Take what is known from the one argument; ends when the plugin does."""
    status = 1
    try:
        told = json.loads(sys.argv[1])
        sys.path.remove("/loader/code")
        _forget_environment()
        spec = Spec.from_json(told["spec"])
        kit = _kit(spec, int(told["last"]))
        source = cell.read_code(spec)
        if spec.backend == RUNSC:
            _in_gvisor(spec, kit)
        else:
            _in_bubblewrap(spec, kit, memory_is_bounded=bool(told["memory_is_bounded"]))
        os.write(_TOLD, cell.READY + b"\n")
        os.dup2(1, _TOLD)
        status = cell.serve(spec, source)
    except SandboxError as error:
        _tell(error)
    except BaseException as error:  # noqa: BLE001  # whatever it is, the one who waits outside must be told
        _tell(SandboxError("cell", f"{type(error).__name__}: {error}"))
    finally:
        os._exit(status)


def _in_bubblewrap(spec: Spec, kit: cell.Kit, *, memory_is_bounded: bool) -> None:
    try:
        # SECURITY: bubblewrap's own view of /proc tells of the whole kernel; this one lies over it for good.
        root.show_processes("/proc")
    except OSError as error:
        raise SandboxError.from_os("root", error) from None
    if spec.relay:
        relay.hand_over(relay.open_door(), cell.CHANNEL)
    disk.hand_over(DISK, cell.CHANNEL)
    identity.drop_privileges(kit.last_capability, spec.uid)
    cell.become_plugin(spec, kit, memory_is_bounded=memory_is_bounded)


def _in_gvisor(spec: Spec, kit: cell.Kit) -> None:
    os.dup2(0, cell.CHANNEL, inheritable=False)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    kernel.close_from(cell.CHANNEL + 1)
    # WHY: the group counts gVisor's memory too, so the plugin's own is bounded by the limits of its one process.
    cell.restrain(spec, kit, memory_is_bounded=False)


def _kit(spec: Spec, last_capability: int) -> cell.Kit:
    machine = kernel.machine()
    kind = (spec.single_process, spec.relay, False)
    return cell.Kit(
        template=root.Template(place="", libraries=root.library_folders()),
        filters={kind: seccomp.build_filter(machine, single_process=kind[0], relay=kind[1])},
        refusals=refusals.build_filter(machine),
        last_capability=last_capability,
    )


def _forget_environment() -> None:
    """Wipe what the one who started this put into its environment, also where /proc shows it."""
    words = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    number = 0
    while words and words[number]:
        ctypes.memset(words[number], 0, len(ctypes.string_at(words[number])))
        number += 1
    os.environ.clear()


def _tell(error: SandboxError) -> None:
    os.write(_TOLD, json.dumps({"t": "error", **error.as_json()}).encode() + b"\n")


if __name__ == "__main__":
    main()
