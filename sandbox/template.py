"""A plugin that is loaded once and forks a child for each call, with a channel of the call's own.

Hygiene, not a boundary: the plugin's code has run in the template, so a hostile one may pass things from call to
call. All calls of one template are of one user.
"""

import os
import socket

from sandbox import runtime

_NOTE_BYTES = 1


def serve(control: socket.socket, code: runtime.Code) -> int:
    """Fork a child for each channel that the gateway hands over; gives the exit status when there are no more."""
    while True:
        note, descriptors, _flags, _address = socket.recv_fds(control, _NOTE_BYTES, 1)
        if not note or not descriptors:
            return 0
        channel = socket.socket(fileno=descriptors[0])
        try:
            code.load()
            child = os.fork()
        except BaseException:  # noqa: BLE001  # whatever hinders it, the one call that waits is answered here
            # WHY: what failed halfway may have left anything behind, so this template serves no other call.
            return _serve_one(channel, code)
        if child == 0:
            status = 1
            try:
                control.close()
                status = _serve_one(channel, code)
            finally:
                os._exit(status)
        channel.close()
        os.waitpid(child, 0)


def _serve_one(channel: socket.socket, code: runtime.Code) -> int:
    with channel:
        return runtime.serve_calls(channel, code, most=1)
