"""The trusted part of a plugin's process: takes one call, runs the plugin's function, gives the result.

Trusted to be friendly, not to confine: it shares its process with the plugin, so nothing that
matters is decided here.
"""

import asyncio
import importlib.util
import inspect
import linecache
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from sandbox import frames
from sandbox.channel import Channel
from sandbox.context import Context
from sandbox.witness import Witness

LOAD = "(load)"  # no function's name: the code is loaded, and asked which functions it has
_PLUGIN = "/plugin"
_PACKAGES = "/packages"
_TRACE_LINES = 20
_LINE_CHARACTERS = 300
_MESSAGE_CHARACTERS = 2000


class Code:
    """A plugin's code, which is loaded by the first call; `source` is what its entry point holds."""

    def __init__(self, entry_point: str, source: bytes) -> None:
        self.entry_point = entry_point
        self._source = source
        self._module: ModuleType | None = None

    def load(self) -> ModuleType:
        """Give the plugin's module; whatever it raises when it is loaded is raised."""
        if self._module is None:
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # the zygote opened it as text
            self._module = _load(self.entry_point, self._source)
        return self._module


def serve_calls(sock: socket.socket, code: Code, *, most: int | None) -> int:
    """Answer calls one after the other until the channel ends, or so many."""
    witness: Witness | None = None
    while most is None or most > 0:
        call = frames.read_frame(sock)
        if call is None:
            return 0
        if call[0].get("t") != "call":
            continue  # an answer, or a word that nobody waits, which came when its call was over
        channel = Channel(sock, call[0].get("call"))
        if witness is None:
            witness = Witness(channel.send_if_free)
            if call[0].get("tell_refusals"):
                witness.watch()
        witness.begin(channel.send_if_free)
        answer = _answer(call[0], channel, code)
        _flush()
        witness.flush()
        channel.finish(answer)
        if most is not None:
            most -= 1
    return 0


def _answer(call: Mapping[str, Any], channel: Channel, code: Code) -> dict[str, object]:
    try:
        value = _run(call, channel, code)
        return checked({"t": "result", "value": value})
    except BaseException as error:  # noqa: BLE001  # whatever a plugin raises is an answer
        return failure(error)


def _run(call: Mapping[str, Any], channel: Channel, code: Code) -> object:
    if call["function"] == LOAD:
        module = code.load()
        return [name for name in call["kwargs"]["names"] if not callable(getattr(module, name, None))]
    function = getattr(code.load(), call["function"], None)
    if not callable(function):
        raise AttributeError(f"`{code.entry_point}` has no function `{call['function']}`")  # noqa: TRY004  # it is missing
    context = Context(channel, call)
    value = function(context, **call["kwargs"])
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> object:  # noqa: ANN401  # whatever the plugin made to be awaited
    return await value


class _Loader(SourceFileLoader):
    """Compiles what was read already, and looks for nothing that was compiled before."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source."""
        return self.source_to_code(self._source, self.get_filename(fullname))


def _load(entry_point: str, source: bytes) -> ModuleType:
    # SECURITY: after the standard library, so that no package stands in for a module of it.
    sys.path.append(_PACKAGES)
    sys.path.insert(0, _PLUGIN)
    sys.argv = [os.path.join(_PLUGIN, entry_point)]
    path = os.path.join(_PLUGIN, entry_point)
    name = entry_point.removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, path, source))
    if spec is None or spec.loader is None:
        raise ImportError(f"`{entry_point}` cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def checked(answer: dict[str, object]) -> dict[str, object]:
    """Give the answer back if it is what a strict reader takes; else say what is wrong with it."""
    value = answer["value"]
    _check_json(value, "the result")
    try:
        frame = frames.encode(answer)
        frames.decode_header(frame[8:])
    except frames.ProtocolError as error:
        raise ValueError(f"the result cannot be sent: {error}") from None
    return answer


def _check_json(value: object, what: str) -> None:
    level = [value]
    for _ in range(frames.MAX_DEPTH):
        following: list[object] = []
        for each in level:
            if isinstance(each, dict):
                if not all(type(key) is str for key in each):
                    raise TypeError(f"{what} is no JSON: a name that is no text")
                following += each.values()
            elif isinstance(each, list | tuple):
                following += each
            elif not isinstance(each, str | int | float | bool | None):
                raise TypeError(f"{what} is no JSON: a value of type `{type(each).__name__}`")
        if not following:
            return
        level = following
    raise ValueError(f"{what} is nested too deeply: {frames.MAX_DEPTH} levels at most")


def failure(error: BaseException) -> dict[str, object]:
    """Give the answer to a call that raised; of its trace what lies in the plugin's code."""
    linecache.clearcache()
    lines = [
        line[:_LINE_CHARACTERS]
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(_PLUGIN + "/")
        for line in (f"{frame.filename}:{frame.lineno} in {frame.name}", *_source_of(frame))
    ]
    return {
        "t": "error",
        "type": type(error).__name__[:_LINE_CHARACTERS],
        "message": _clean(error),
        "trace": [_plain(line) for line in lines[-_TRACE_LINES:]],
    }


def _source_of(frame: traceback.FrameSummary) -> list[str]:
    return [f"    {frame.line}"] if frame.line else []


def _clean(error: BaseException) -> str:
    try:
        return _plain(str(error)[:_MESSAGE_CHARACTERS])
    except Exception:  # noqa: BLE001  # a plugin's own `__str__` may raise anything
        return "an error that cannot be written"


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112  # a plugin may have put anything in their place
            continue
