"""What the gateway tells of itself while it runs: one line each on stderr, without secrets, at a level one chooses.

It is not the decision log. It tells operators what happened with ids; what a call was about is asked there.
"""

import json
import logging
import re
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import IO, Any

OWN = "hearthgate"
_LIBRARIES = (
    "asyncio",
    "casbin",
    "httpcore",
    "httpx",
    "litestar",
    "mcp",
    "opentelemetry",
    "sse_starlette",
    "urllib3",
    "uvicorn",
    "watchdog",
)
_FRAMES = 12
_MASK = "***"
_MASKS = (
    (re.compile(r"\bhg_([0-9a-f]{8})_[A-Za-z0-9_-]{10,}"), rf"hg_\1_{_MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {_MASK}"),
    (re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)\b([\"']?\s*[:=]\s*).*"), rf"\1\2{_MASK}"),
    (re.compile(r"://[^/\s@]+@"), f"://{_MASK}@"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.DOTALL), _MASK),
)
# SECURITY: whoever chose the text, a word and a URL are begun to be looked at once, and never from within.
_SAID = re.compile(
    r"(?i)(?<![\w-])(?=[\w-]*?(?:api[_-]?key|secret|token|passw(?:or)?d|passphrase))"
    r"([\w-]++[\"']?\s*+[:=]\s*+)[^\s,;}]+"
)
_URL = re.compile(r"(://[^\s?`'\"]*+)(\?[^\s`'\"]*+)?")
_MAX_CHARS = 16_384  # of a line


def masked(text: str) -> str:
    """Give a text without what looks like a secret, in time that its length bounds."""
    for pattern, instead in _MASKS:
        text = pattern.sub(instead, text)
    return _URL.sub(_without_query, _SAID.sub(rf"\1{_MASK}", text))


def _without_query(found: re.Match[str]) -> str:
    return found[1] if found[2] is None else f"{found[1]}?{_MASK}"


def described(error: BaseException) -> str:
    """Give the type of an error and where it was raised, the innermost first, without its words."""
    return " < ".join(_places(error))


def set_up_own_log(level: str, form: str = "text", stream: IO[str] | None = None) -> None:
    """Print what this process tells of itself: its own lines from `level` on, of libraries warnings alone."""
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_JsonLine() if form == "json" else _TextLine())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _Handler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(OWN).setLevel(level.upper())
    threading.excepthook = _tell_thread


def quiet_libraries() -> None:
    """Let libraries tell of warnings alone, whatever level a program sets for all.

    SECURITY: below that some print heads of requests and answers, in which plugins' keys travel.
    """
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)


def tell_loop(_loop: object, context: dict[str, Any]) -> None:
    """Tell of an error that nobody waited for, without its words: they may be a plugin's or a user's."""
    error = context.get("exception")
    _log.error("something failed unnoticed: %s", "no exception" if error is None else described(error))


def _tell_thread(args: threading.ExceptHookArgs) -> None:
    name = "a thread" if args.thread is None else args.thread.name
    _log.error("%s failed: %s", name, args.exc_type.__name__ if args.exc_value is None else described(args.exc_value))


class _Handler(logging.StreamHandler[IO[str]]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        """Say where a line could not be told; logging's own way would print its arguments."""
        sys.stderr.write(f"hearthgate: a line of {record.name} (line {record.lineno}) could not be told\n")


class _TextLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Give one line for people."""
        text = " < ".join([_one_line(record.getMessage()), *_frames(record)])
        return f"{_moment(record)} {record.levelname} {_part(record)}: {text}"


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Give one JSON object."""
        body: dict[str, object] = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "part": _part(record),
            "message": _one_line(record.getMessage()),
        }
        if frames := _frames(record):
            body["trace"] = frames
        return json.dumps(body, ensure_ascii=False)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _part(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{OWN}.")


def _one_line(text: str) -> str:
    # SECURITY: a text of a plugin or a file must not pass for a second line, or repaint a terminal.
    told = "".join(char if char.isprintable() else repr(char)[1:-1] for char in masked(text))
    return told if len(told) <= _MAX_CHARS else f"{told[:_MAX_CHARS]}... ({len(told) - _MAX_CHARS} characters more)"


def _frames(record: logging.LogRecord) -> list[str]:
    return _places(record.exc_info[1]) if record.exc_info and record.exc_info[1] is not None else []


def _places(error: BaseException) -> list[str]:
    # SECURITY: where, and of which type, but not its words: they may be a plugin's or a user's.
    frames = reversed(traceback.extract_tb(error.__traceback__)[-_FRAMES:])
    return [type(error).__name__, *(f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)]


def _short(path: str) -> str:
    return path.rpartition("/site-packages/")[2]


_log = logging.getLogger(OWN)
