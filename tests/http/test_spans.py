"""Spans tell a collector what took how long, name nobody, and no decision waits for them."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.domain.trace import Trace
from gateway.spans import Spans

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SECRET = "gustav-and-his-diary"  # noqa: S105 (a name that must not be told)
QUESTION = {"subject": "user:alice", "permission": "vault_read", "scope": "notes"}


class Collector(ThreadingHTTPServer):
    """Takes spans as OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.bodies: list[bytes] = []

    @property
    def settings(self) -> str:
        return f'[otel]\nendpoint = "http://127.0.0.1:{self.server_port}/v1/traces"\n'

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:  # the name that http.server calls
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def told(span: Any) -> dict[str, Any]:  # noqa: ANN401 (a span of OTLP)
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_call_is_told_with_its_steps_under_the_trace_that_it_came_with(
    make_home: "MakeHome", collector: Collector
) -> None:
    home = make_home(settings=collector.settings)
    home.install("worker", "def execute(ctx, payload):\n    return 1\n")
    path = "/v1/plugins/worker/execute"
    answer = home.owner.ask("POST", path, {"payload": {}}, headers={"traceparent": PARENT})
    assert answer.status_code == 200, answer.text
    assert answer.headers["traceparent"][3:35] == TRACE
    home.close()
    (request,) = [
        span for span in collector.spans if span.trace_id.hex() == TRACE and span.kind == span.SPAN_KIND_SERVER
    ]
    assert request.parent_span_id.hex() == "00f067aa0ba902b7"
    assert answer.headers["traceparent"][36:52] == request.span_id.hex()
    assert request.name == "POST /v1/plugins/{plugin_id}/execute"
    assert told(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/plugins/{plugin_id}/execute",
        "http.response.status_code": 200,
    }
    steps = [span for span in collector.spans if span.parent_span_id == request.span_id]
    assert {span.name for span in steps} == {"hearthgate.decide", "hearthgate.commit", "execute_tool worker"}
    (run,) = [span for span in steps if span.name == "execute_tool worker"]
    assert told(run) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "worker",
        "hearthgate.outcome": "returned",
        "hearthgate.isolation": "pristine",
    }
    assert request.start_time_unix_nano <= run.start_time_unix_nano <= run.end_time_unix_nano
    assert run.end_time_unix_nano <= request.end_time_unix_nano


def test_a_plain_question_is_told_and_recorded_under_a_trace_that_begins_here(
    make_home: "MakeHome", collector: Collector
) -> None:
    home = make_home(settings=collector.settings)
    answer = home.owner.post("/v1/decisions", QUESTION)
    kept = [row["trace_id"] for row in home.records()]
    home.close()
    (request,) = collector.named("POST /v1/decisions")
    assert request.trace_id.hex() == answer.headers["traceparent"][3:35]
    assert request.trace_id.hex() in kept
    assert request.parent_span_id == b""
    decided = [span for span in collector.named("hearthgate.decide") if span.parent_span_id == request.span_id]
    assert {"hearthgate.effect": "deny", "hearthgate.reason": "no_rule"} in [told(span) for span in decided]


def test_a_trace_that_is_not_sampled_is_not_told(make_home: "MakeHome", collector: Collector) -> None:
    home = make_home(settings=collector.settings)
    answer = home.owner.ask("POST", "/v1/decisions", QUESTION, headers={"traceparent": PARENT[:-2] + "00"})
    assert (answer.headers["traceparent"][3:35], answer.headers["traceparent"][-2:]) == (TRACE, "00")
    assert TRACE in [row["trace_id"] for row in home.records()]
    home.close()
    assert TRACE not in {span.trace_id.hex() for span in collector.spans}


def test_nobody_and_nothing_asked_for_is_named(make_home: "MakeHome", collector: Collector) -> None:
    home = make_home(settings=collector.settings)
    home.install("worker", f"def execute(ctx, payload):\n    ctx.vault.read('{SECRET}')\n")
    home.owner.behalf(SECRET).post("/v1/plugins/worker/execute", {"payload": {"who": SECRET}})
    home.owner.post("/v1/decisions", {"subject": f"user:{SECRET}", "permission": "vault_read", "scope": SECRET})
    home.owner.get(f"/v1/plugins/{SECRET}?reason={SECRET}")
    home.owner.get(f"/{SECRET}/{SECRET}")
    home.owner.ask(SECRET.upper(), "/v1/policy", headers={"tracestate": f"{SECRET}=1", "user-agent": SECRET})
    home.stranger.get("/v1/policy")
    home.close()
    assert len(collector.spans) > 8
    text = b"".join(collector.bodies)
    assert SECRET.encode() not in text.lower()
    for each in (home.folder, socket.gethostname()):
        assert str(each).encode() not in text


def test_the_environment_adds_nothing(
    make_home: "MakeHome", collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"who={SECRET}")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    home = make_home(settings=collector.settings)
    home.owner.post("/v1/decisions", QUESTION)
    home.close()
    assert collector.named("POST /v1/decisions")
    assert SECRET.encode() not in b"".join(collector.bodies)


@contextmanager
def a_dead_collector(*, silent: bool) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:  # connections are made by the kernel, and nobody ever reads of them
            listener.listen(64)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("silent", [False, True])
def test_a_dead_collector_stops_nothing_and_delays_no_end(make_home: "MakeHome", *, silent: bool) -> None:
    with a_dead_collector(silent=silent) as port:
        home = make_home(settings=f'[otel]\nendpoint = "http://127.0.0.1:{port}/v1/traces"\n')
        answers = [home.owner.post("/v1/decisions", QUESTION) for _ in range(600)]  # more than one batch
        assert {each.status_code for each in answers} == {200}
        began = time.monotonic()
        home.close()
        assert time.monotonic() - began < 10  # many times the two seconds that it is given


def test_more_spans_than_are_taken_are_lost_and_nothing_waits() -> None:
    taken = threading.Event()

    class Slow(InMemorySpanExporter):
        def export(self, spans: Any) -> Any:  # noqa: ANN401 (as the library has it)
            taken.wait(20)
            return super().export(spans)

    exporter = Slow()
    spans = Spans(exporter)
    for _ in range(20_000):
        with spans.request("GET", None) as span:
            span.answered("/x", 200)
    taken.set()
    spans.close()
    assert 0 < len(exporter.get_finished_spans()) < 10_000


def test_steps_outside_a_request_are_none() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    spans.took("hearthgate.decide", 0.001)
    with spans.request("BREW", Trace.parse(PARENT)) as span:
        spans.took("hearthgate.decide", 0.001)
        span.answered(None, 503)
    spans.close()
    step, request = exporter.get_finished_spans()
    assert (step.name, request.name, step.parent) == ("hearthgate.decide", "HTTP", request.context)
    assert dict(request.attributes or {}) == {
        "http.request.method": "_OTHER",
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert not request.status.is_ok


def test_what_goes_wrong_is_told_without_its_words() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    with pytest.raises(ValueError, match=SECRET), spans.request("GET", None):
        raise ValueError(SECRET)
    spans.close()
    assert SECRET not in exporter.get_finished_spans()[0].to_json()


@pytest.mark.parametrize("endpoint", ["http://collector.example:4318/v1/traces", "ftp://x/", "https://u:p@h/"])
def test_spans_cross_no_network_in_the_clear(make_home: "MakeHome", endpoint: str) -> None:
    home: Home = make_home(settings=f'[otel]\nendpoint = "{endpoint}"\n', opened=False)
    with pytest.raises(Exception, match="settings that cannot be"):
        home.open()


def test_without_the_extra_the_start_says_so(make_home: "MakeHome", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    home = make_home(settings='[otel]\nendpoint = "http://127.0.0.1:4318/v1/traces"\n', opened=False)
    with pytest.raises(Exception, match=r"hearthgate\[otel\]"):
        home.open()
