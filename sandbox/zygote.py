"""The process that cells are forked from: clean, single-threaded, without secrets.

It is exec'd with an empty environment and one descriptor, and is the first process of a pid
namespace of its own: when it ends, for whatever reason, the kernel ends every cell with it.
Of earlier orders (labels, paths, limits) a cell may find traces in its memory; no order is secret.
"""

import gc
import itertools
import os
import signal
import socket
import sys
from typing import NoReturn

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sandbox import cell, controllers, identity, kernel, landlock, libraries, notify, refusals, root, seccomp
from sandbox.errors import SandboxError
from sandbox.nursery import Nursery, tell

_GO_FIRST = "500"
_NAMESPACES_FIX = "run as root with CAP_SYS_ADMIN, or as an ordinary user who may make user namespaces"


def main() -> NoReturn:
    """Start as the launcher's child: settle in, fork the zygote proper, and clean up after it."""
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path.remove(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    offered = controllers.NO_CONTROLLERS
    try:
        _settle()
        offered = controllers.find_controllers()
        if os.getuid() == 0:
            kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
        else:
            identity.enter_user_namespace(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
        zygote = os.fork()
        if zygote == 0:
            _run(control, offered)
        control.close()
        os.waitpid(zygote, 0)
    except OSError as error:
        tell(control, {"t": "error", **SandboxError.from_os("namespaces", error, fix=_NAMESPACES_FIX).as_json()})
    except SandboxError as error:
        tell(control, {"t": "error", **error.as_json()})
    finally:
        controllers.forget_controllers(offered)
        os._exit(0)


def _settle() -> None:
    os.environ.clear()
    os.umask(0o022)
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # WHY: where the host runs out of memory, cells go before the gateway.
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_GO_FIRST)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def _run(control: socket.socket, offered: controllers.Controllers) -> NoReturn:
    try:
        # WHY: a cell outlives neither this process nor, through this, the one that cleans up after it.
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        libraries.preload()
        machine = kernel.machine()
        calls = seccomp.read_table(machine)
        asks = notify.is_available(machine)
        kinds = (False, True) if asks else ()
        filters = {
            (alone, relayed, starts): seccomp.build_filter(
                machine, single_process=alone, relay=relayed, asks=asks, programs=starts
            )
            for alone, relayed, starts in itertools.product((False, True), repeat=3)
        }
        kit = cell.Kit(
            filters=filters,
            refusals=refusals.build_filter(machine),
            last_capability=identity.last_capability(),
            asking={relayed: notify.build_filter(machine, calls, relay=relayed) for relayed in kinds},
            asked=notify.asked(machine, calls),
            template=root.prepare_template(os.path.dirname(os.path.abspath(__file__))),
        )
        gc.collect()
        gc.freeze()
        nursery = Nursery(control, kit, offered)
        found = {"landlock_abi": landlock.abi(), "controllers": sorted(offered.folders), "asks": asks}
        tell(control, {"t": "ready", **found})
        nursery.serve()
    except SandboxError as error:
        tell(control, {"t": "error", **error.as_json()})
    except OSError as error:
        tell(control, {"t": "error", **SandboxError.from_os("zygote", error).as_json()})
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
