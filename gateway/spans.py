"""Spans of OpenTelemetry for a collector: what took how long, never who or on what; needs the extra `otel`."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Self

from gateway.domain.trace import Trace
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_NAME = "hearthgate"
_QUEUE, _BATCH, _EVERY_MS = 4096, 512, 2000
_EXPORT_S, _CLOSE_S = 3.0, 2.0
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_SERVER_ERROR = 500
_NO_MORE: Mapping[str, str | int | float | bool] = {}


class RequestSpan:
    """The span of a request that is being answered."""

    def __init__(self, span: "Span", method: str) -> None:
        self._span, self._method = span, method

    @property
    def trace(self) -> Trace:
        """The trace of which it is a step, whoever began it."""
        own = self._span.get_span_context()
        return Trace(id=f"{own.trace_id:032x}", parent=f"{own.span_id:016x}", sampled=own.trace_flags.sampled)

    def answered(self, route: str | None, status: int) -> None:
        """Tell what was asked, as the pattern of its path, and with which status it was answered."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 (an extra)

        # SECURITY: the pattern, for a path itself names people and what they keep.
        if route is not None:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(Status(StatusCode.ERROR))


class Spans:
    """Makes spans, and hands them to a collector from a thread of its own.

    INVARIANT: nothing here waits for the collector; what it does not take in time is dropped.
    """

    def __init__(self, exporter: "SpanExporter", *, sample: float = 1.0) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (an extra)
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider  # noqa: PLC0415 (same)
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (same)
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415 (same)

        self._exporter = exporter
        self._provider = TracerProvider(
            # SECURITY: said here, so that no variable of the environment adds what it knows of host and process.
            resource=Resource({"service.name": _NAME, "service.version": version(_NAME)}),
            sampler=ParentBased(TraceIdRatioBased(sample)),
            span_limits=SpanLimits(max_span_attributes=32, max_attribute_length=256),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=_QUEUE,
                schedule_delay_millis=_EVERY_MS,
                max_export_batch_size=_BATCH,
                export_timeout_millis=_EXPORT_S * 1000,
            )
        )
        self._tracer = self._provider.get_tracer(_NAME, version(_NAME))

    @classmethod
    def open(cls, endpoint: str, *, sample: float) -> Self:
        """Hand spans to a collector that speaks OTLP over HTTP; that it is there is not asked.

        Raises:
            ConfigError: the extra is not installed.
        """
        try:
            import requests  # noqa: PLC0415 (comes with the extra)
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 (same)
        except ImportError:
            raise ConfigError(
                "[otel] needs OpenTelemetry, which is not installed", way_out="pip install 'hearthgate[otel]'"
            ) from None
        session = requests.Session()
        session.trust_env = False  # a proxy of the environment would see what is sent
        return cls(OTLPSpanExporter(endpoint, timeout=_EXPORT_S, session=session), sample=sample)

    @contextmanager
    def request(self, method: str, trace: Trace | None) -> Iterator[RequestSpan]:
        """Have what the body does belong to the span of one request."""
        from opentelemetry.trace import SpanKind, use_span  # noqa: PLC0415 (an extra)

        known = method if method in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            known if known == method else "HTTP",
            context=_context(trace),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": known},
        )
        # SECURITY: without the words of errors, which may be a plugin's or a user's.
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield RequestSpan(span, known if known == method else "HTTP")

    def took(self, name: str, seconds: float, more: Mapping[str, str | int | float | bool] = _NO_MORE) -> None:
        """Tell of a step that ended now, within the request that is being answered; where there is none, nothing."""
        from opentelemetry.trace import get_current_span  # noqa: PLC0415 (an extra)

        if not get_current_span().is_recording():
            return
        ended = time.time_ns()
        span = self._tracer.start_span(name, start_time=ended - int(seconds * 1e9), attributes=more)
        span.end(ended)

    def close(self) -> None:
        """Hand over what is left, if the collector takes it within some seconds."""
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(_CLOSE_S)
        if ending.is_alive():
            # WHY: else the library tries again and again for each batch, and who restarts a gateway waits for it.
            self._exporter.shutdown()
            ending.join(_EXPORT_S)


def _context(trace: Trace | None) -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415 (an extra)
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context  # noqa: PLC0415

    if trace is None or trace.parent is None:
        return Context()
    parent = SpanContext(
        trace_id=int(trace.id, 16),
        span_id=int(trace.parent, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT),
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())
