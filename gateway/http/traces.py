"""The trace of a request: taken from its head, noted in its scope, told with its answer."""

from collections.abc import Mapping
from typing import Any

from litestar.types import Scope

from gateway.domain.trace import TRACEPARENT, Trace

_TRACE = "hearthgate.trace"
_NAME = TRACEPARENT.encode()


def trace_of(scope: Scope, headers: Mapping[bytes, bytes]) -> Trace | None:
    """Give the trace that a request belongs to, and note it; None where it says none, or none that is one."""
    noted: Trace | None = scope.get(_TRACE)  # type: ignore[assignment] # an entry of our own
    if noted is not None or _NAME not in headers:
        return noted
    # WHY: of two that differ nobody knows which is meant, so the standard's tests want both ignored.
    sent = [value for name, value in scope["headers"] if name == _NAME]
    trace = Trace.parse(sent[0].decode("latin-1")) if len(sent) == 1 else None
    if trace is not None:
        note_trace(scope, trace)
    return trace


def note_trace(scope: Scope, trace: Trace) -> None:
    """Have a request belong to a trace."""
    scope[_TRACE] = trace  # type: ignore[literal-required] # as above


def trace_head(scope: Any) -> tuple[tuple[bytes, bytes], ...]:  # noqa: ANN401 (the framework's scope, or the server's)
    """Give the header field that tells it."""
    trace: Trace | None = scope.get(_TRACE)
    header = None if trace is None else trace.header
    return () if header is None else ((_NAME, header.encode()),)
