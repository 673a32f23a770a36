"""A program that answers calls as an MCP server does, over its standard streams; it stays between the calls of a cell.

It runs behind the same barriers as a plugin's code. What speaks for it here shares its cell, and so is believed no more
than a plugin is: what it says of the program's tools is good for seeing a change, and guards nothing by itself.
Source: Model Context Protocol, revision 2025-11-25 (lifecycle, stdio transport, tools).
"""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from sandbox import frames, kernel
from sandbox.channel import Cancelled, Channel
from sandbox.conversation import Conversation, LostServerError, ServerError
from sandbox.runtime import checked, failure
from sandbox.spec import Program

TOOLS, CALL = "(tools)", "(call)"  # no functions' names: to tell the program's tools, and to call one of them
PROTOCOL = "2025-11-25"
_MAX_TOOLS, _MAX_PAGES = 1000, 100
_LEVEL_CHARS, _NOTE_CHARS = 16, 1500
_NOT_OFFERED = -32601
_NOT_DEFINING = frozenset({"_meta", "icons"})  # what is shown to people alone
_ENVIRONMENT = {
    "HOME": "/scratch",
    "TMPDIR": "/scratch",
    "LANG": "C.UTF-8",
    "PYTHONPATH": "/packages",
    "PYTHONDONTWRITEBYTECODE": "1",
}


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
    return Server(Conversation(pid, to_it, from_it))


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
            answer = {**failure(error), "last": isinstance(error, LostServerError) or not server.is_ready}
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

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._asked = 0
        self._is_ready = False
        self._tells_changes = False
        self._tools: dict[str, Mapping[str, Any]] | None = None
        self._channel: Channel | None = None

    @property
    def is_ready(self) -> bool:
        """Tell whether it has said what it offers; one that was interrupted before cannot be asked anew."""
        return self._is_ready

    def speaking(self, sock: socket.socket, channel: Channel) -> "_Speaking":
        """Speak, within the block, about one call: its cancellation is heard, and progress is passed on."""
        return _Speaking(self, sock, channel)

    def attend(self, sock: socket.socket | None, channel: Channel | None) -> None:
        """Take the call that is spoken about from now on."""
        self._channel = channel
        self._conversation.attend(sock)

    def tools(self) -> Mapping[str, Mapping[str, Any]]:
        """Give the definitions of its tools by name, asked for anew unless it would say that they changed and did not.

        Raises:
            ServerError: it does not say them, or one of them twice.
        """
        self._begin()
        self._take_what_is_there()
        if self._tools is None or not self._tells_changes:
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
        offered = told.get("capabilities")
        if not isinstance(offered, dict) or "tools" not in offered:
            raise LostServerError("it offers no tools")
        self._tells_changes = isinstance(offered["tools"], dict) and offered["tools"].get("listChanged") is True
        self._conversation.send({"method": "notifications/initialized"})
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
        self._conversation.send({"id": number, "method": method, "params": params})
        try:
            while True:
                message = self._conversation.receive()
                if message.get("id") == number and "method" not in message:
                    return _result(message)
                self._hear(message, number)
        except Cancelled:
            self._conversation.send({"method": "notifications/cancelled", "params": {"requestId": number}}, wait=False)
            raise

    def _take_what_is_there(self) -> None:
        """Hear what it said when nobody listened."""
        while (message := self._conversation.heard()) is not None:
            self._hear(message, None)

    def _hear(self, message: Mapping[str, Any], asked: int | None) -> None:
        method, number = message.get("method"), message.get("id")
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if method == "notifications/tools/list_changed":
            self._tools = None
        elif method == "notifications/progress" and params.get("progressToken") == asked:
            self._tell_progress(params)
        elif method == "notifications/message" and self._channel is not None:
            level, words = str(params.get("level"))[:_LEVEL_CHARS], str(params.get("data"))[:_NOTE_CHARS]
            self._channel.send({"t": "log", "level": level, "message": words})
        elif isinstance(method, str) and number is not None:
            # WHY: nothing of a companion is offered to a program, not its models, its folders or its people.
            refusal = {"code": _NOT_OFFERED, "message": "not offered"}
            self._conversation.send({"id": number, **({"result": {}} if method == "ping" else {"error": refusal})})

    def _tell_progress(self, params: Mapping[str, Any]) -> None:
        if self._channel is not None:
            fraction = _fraction(params.get("progress"), params.get("total"))
            message = str(params.get("message", ""))[:_NOTE_CHARS]
            self._channel.send({"t": "progress", "fraction": fraction, "message": message})


class _Speaking:
    def __init__(self, server: Server, sock: socket.socket, channel: Channel) -> None:
        self._server = server
        self._sock = sock
        self._channel = channel

    def __enter__(self) -> None:
        self._server.attend(self._sock, self._channel)

    def __exit__(self, *_error: object) -> None:
        self._server.attend(None, None)


def _result(message: Mapping[str, Any]) -> Mapping[str, Any]:
    error, result = message.get("error"), message.get("result")
    if isinstance(error, dict):
        raise ServerError(f"{error.get('message', 'an error')} ({error.get('code')})"[:2000])
    if not isinstance(result, dict):
        raise ServerError("it answered without a result")
    return result


def _fraction(done: object, whole: object) -> float | None:
    """Say how much is done of the whole, if it is said in numbers."""
    if not isinstance(done, int | float) or not isinstance(whole, int | float) or whole <= 0:
        return None
    if done <= 0 or done >= whole:
        return float(done > 0)
    try:
        return done / whole
    except OverflowError:
        return None
