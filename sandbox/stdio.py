"""A program that answers calls as an MCP server does, over its standard streams; it stays between the calls of a cell.

It runs behind the same barriers as a plugin's code. What speaks for it here shares its cell, and so is believed no more
than a plugin is: what it says of the program's tools is good for seeing a change, and guards nothing by itself.
Source: Model Context Protocol, revision 2025-11-25 (lifecycle, stdio transport, tools).
"""

import hashlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from sandbox import frames, kernel
from sandbox.channel import Cancelled, Channel
from sandbox.runtime import checked, failure
from sandbox.spec import Program

TOOLS, CALL = "(tools)", "(call)"  # no functions' names: to tell the program's tools, and to call one of them
PROTOCOL = "2025-11-25"
MAX_LINE_BYTES = 8 << 20
_MAX_TOOLS, _MAX_PAGES = 1000, 100
_READ_BYTES = 64 << 10
_LAST_WORDS_S = 0.5
_NOT_OFFERED = -32601
_NOT_DEFINING = frozenset({"_meta", "icons"})  # what is shown to people alone
_ENVIRONMENT = {
    "HOME": "/scratch",
    "TMPDIR": "/scratch",
    "LANG": "C.UTF-8",
    "PYTHONPATH": "/packages",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class ServerError(Exception):
    """The program answered with an error, or with what is no result of a tool."""


class LostServerError(ServerError):
    """The program ended, or what it says is no conversation any more: nothing further can be asked of it."""


def start(program: Program, confine: Callable[[], None]) -> "Server":
    """Start a program behind what `confine` raises last; to be called by a process without any other thread."""
    # SECURITY: the same user inside: the program, which is another one from its first line on, must not look in here.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    (their_in, to_it), (from_it, their_out) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(program, (their_in, their_out), confine)
    for end in (their_in, their_out):
        os.close(end)
    os.set_blocking(to_it, False)
    return Server(pid, to_it, from_it)


def _become(program: Program, ends: tuple[int, int], confine: Callable[[], None]) -> NoReturn:
    try:
        os.dup2(ends[0], 0)
        os.dup2(ends[1], 1)
        os.set_inheritable(2, True)  # noqa: FBT003  # the function takes no names
        kernel.close_from(3)
        os.chdir("/plugin")
        confine()
        os.execve(program.argv[0], program.argv, _ENVIRONMENT)  # noqa: S606  # no shell reads the words
    except BaseException as error:  # noqa: BLE001  # a child must never run on as the cell
        os.write(2, f"{program.argv[0]}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def definition_digest(tool: Mapping[str, Any]) -> str:
    """Name a tool's definition by its content: all of it that a caller could act on."""
    told = {name: value for name, value in tool.items() if name not in _NOT_DEFINING}
    text = json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def serve_calls(sock: socket.socket, server: "Server", *, most: int | None) -> int:
    """Answer calls one after the other until the channel ends, or so many."""
    while most is None or most > 0:
        call = frames.read_frame(sock)
        if call is None:
            return 0
        if call[0].get("t") != "call":
            continue  # a word that nobody waits, which came when its call was over
        channel = Channel(sock, call[0].get("call"))
        try:
            answer = checked({"t": "result", "value": _answer(call[0], sock, channel, server)})
        except BaseException as error:  # noqa: BLE001  # whatever went wrong is an answer
            answer = {**failure(error), "last": isinstance(error, LostServerError)}
        channel.finish(answer)
        if most is not None:
            most -= 1
    return 0


def _answer(call: Mapping[str, Any], sock: socket.socket, channel: Channel, server: "Server") -> dict[str, Any]:
    asked = call["kwargs"]
    with server.speaking(sock, channel):
        if call["function"] == TOOLS:
            return {"tools": [*server.tools().values()]}
        told = {name: definition_digest(tool) for name, tool in server.tools().items()}
        changed = {name: told.get(name) for name, pinned in asked["pinned"].items() if told.get(name) != pinned}
        if changed:
            # SECURITY: nothing is asked of a program that is not, in every tool, what a person approved.
            return {"changed": changed}
        return {"result": server.call(asked["tool"], asked["arguments"])}


class Server:
    """The program, and what it said of its tools."""

    def __init__(self, pid: int, to_it: int, from_it: int) -> None:
        self._pid = pid
        self._to_it = to_it
        self._from_it = from_it
        self._pending = bytearray()
        self._asked = 0
        self._is_ready = False
        self._tools: dict[str, Mapping[str, Any]] | None = None
        self._sock: socket.socket | None = None
        self._channel: Channel | None = None

    def speaking(self, sock: socket.socket, channel: Channel) -> "_Speaking":
        """Speak, within the block, about one call: its cancellation is heard, and progress is passed on."""
        return _Speaking(self, sock, channel)

    def attend(self, sock: socket.socket | None, channel: Channel | None) -> None:
        """Take the call that is spoken about from now on."""
        self._sock, self._channel = sock, channel

    def tools(self) -> Mapping[str, Mapping[str, Any]]:
        """Give the definitions of its tools by name, asked for anew where it said that they changed.

        Raises:
            ServerError: it does not say them, or one of them twice.
        """
        self._begin()
        self._take_what_is_there()
        if self._tools is None:
            found: dict[str, Mapping[str, Any]] = {}
            for tool in self._listed():
                name = tool.get("name")
                if not isinstance(name, str) or not name or name in found or len(found) >= _MAX_TOOLS:
                    raise LostServerError(f"it lists a tool without a name, one twice, or more than {_MAX_TOOLS}")
                found[name] = tool
            self._tools = found
        return self._tools

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call one of its tools, and give what it answers.

        Raises:
            ServerError: it answers with an error, or with what is no result.
        """
        token = self._asked + 1
        result = self._ask("tools/call", {"name": tool, "arguments": arguments, "_meta": {"progressToken": token}})
        if not isinstance(result.get("content"), list):
            raise ServerError("its result has no content")
        return {name: value for name, value in result.items() if name != "_meta"}

    def _begin(self) -> None:
        if self._is_ready:
            return
        client = {"name": "hearthgate", "version": "1"}
        told = self._ask("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client})
        if not isinstance(told.get("capabilities"), dict) or "tools" not in told["capabilities"]:
            raise LostServerError("it offers no tools")
        self._send({"method": "notifications/initialized"})
        self._is_ready = True

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        cursor: object = None
        for _ in range(_MAX_PAGES):
            page = self._ask("tools/list", {} if cursor is None else {"cursor": cursor})
            tools = page.get("tools")
            if not isinstance(tools, list) or not all(isinstance(each, dict) for each in tools):
                raise LostServerError("its list of tools is none")
            yield from tools
            cursor = page.get("nextCursor")
            if cursor is None:
                return
        raise LostServerError(f"its list of tools has more than {_MAX_PAGES} pages")

    def _ask(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        self._asked += 1
        number = self._asked
        self._send({"id": number, "method": method, "params": params})
        try:
            while True:
                message = self._receive()
                if message.get("id") == number and "method" not in message:
                    return _result(message)
                self._hear(message, number)
        except Cancelled:
            self._send({"method": "notifications/cancelled", "params": {"requestId": number}})
            raise

    def _take_what_is_there(self) -> None:
        """Hear what it said when nobody listened."""
        while (line := self._line(wait=False)) is not None:
            self._hear(_message(line), None)

    def _hear(self, message: Mapping[str, Any], asked: int | None) -> None:
        method, number = message.get("method"), message.get("id")
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if method == "notifications/tools/list_changed":
            self._tools = None
        elif method == "notifications/progress" and params.get("progressToken") == asked:
            self._tell_progress(params)
        elif method == "notifications/message" and self._channel is not None:
            self._channel.send({"t": "log", "level": str(params.get("level")), "message": str(params.get("data"))})
        elif isinstance(method, str) and number is not None:
            # WHY: nothing of a companion is offered to a program, not its models, its folders or its people.
            refusal = {"code": _NOT_OFFERED, "message": "not offered"}
            self._send({"id": number, **({"result": {}} if method == "ping" else {"error": refusal})})

    def _tell_progress(self, params: Mapping[str, Any]) -> None:
        done, whole = params.get("progress"), params.get("total")
        known = isinstance(done, int | float) and isinstance(whole, int | float) and whole > 0
        fraction = min(1.0, max(0.0, done / whole)) if known else None  # type: ignore[operator]  # numbers, if known
        if self._channel is not None:
            self._channel.send({"t": "progress", "fraction": fraction, "message": str(params.get("message", ""))})

    def _receive(self) -> Mapping[str, Any]:
        line = self._line(wait=True)
        if line is None:
            raise LostServerError(f"it ended {_how(self._pid)} before it answered")
        return _message(line)

    def _line(self, *, wait: bool) -> bytes | None:
        """Give its next line; None where it ended, or where there is none and nobody waits."""
        while (end := self._pending.find(b"\n")) < 0:
            if len(self._pending) > MAX_LINE_BYTES:
                raise LostServerError(f"it wrote a line of more than {MAX_LINE_BYTES} bytes")
            if not self._await(self._from_it, select.POLLIN, wait=wait):
                return None
            data = os.read(self._from_it, _READ_BYTES)
            if not data:
                return None
            self._pending += data
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        return line

    def _send(self, message: Mapping[str, Any]) -> None:
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        view = memoryview(text)
        while view:
            self._await(self._to_it, select.POLLOUT, wait=True)
            try:
                view = view[os.write(self._to_it, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise LostServerError(f"it ended {_how(self._pid)}, or closed its input") from None

    def _await(self, descriptor: int, event: int, *, wait: bool) -> bool:
        """Wait until it can be spoken with; tells whether it can."""
        poller = select.poll()
        poller.register(descriptor, event)
        if self._sock is not None:
            poller.register(self._sock, select.POLLIN)
        while True:
            ready = dict(poller.poll(None if wait else 0))
            if self._sock is not None and self._sock.fileno() in ready:
                self._hear_gateway(self._sock)
            if descriptor in ready:
                return True
            if not wait:
                return False

    def _hear_gateway(self, sock: socket.socket) -> None:
        frame = frames.read_frame(sock)
        if frame is None or frame[0].get("t") == "cancel":
            raise Cancelled


class _Speaking:
    def __init__(self, server: Server, sock: socket.socket, channel: Channel) -> None:
        self._server = server
        self._sock = sock
        self._channel = channel

    def __enter__(self) -> None:
        self._server.attend(self._sock, self._channel)

    def __exit__(self, *_error: object) -> None:
        self._server.attend(None, None)


def _message(line: bytes) -> Mapping[str, Any]:
    try:
        return frames.decode_header(line)
    except frames.ProtocolError as error:
        raise LostServerError(f"it wrote a line that is no message: {error}") from None


def _result(message: Mapping[str, Any]) -> Mapping[str, Any]:
    error, result = message.get("error"), message.get("result")
    if isinstance(error, dict):
        raise ServerError(f"{error.get('message', 'an error')} ({error.get('code')})"[:2000])
    if not isinstance(result, dict):
        raise ServerError("it answered without a result")
    return result


def _how(pid: int) -> str:
    """Say how it ended, if it did."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended == 0 and select.select([os.pidfd_open(pid)], [], [], _LAST_WORDS_S)[0]:
            ended, status = os.waitpid(pid, os.WNOHANG)
    except OSError:
        return "(nobody knows how)"
    if ended == 0:
        return "its output"
    code = os.waitstatus_to_exitcode(status)
    return f"with exit status {code}" if code >= 0 else f"by signal {signal.Signals(-code).name}"
