"""Spans: who they are, what is sent of them, and what they cost where nothing is traced."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.peers.collector import Collector, collecting
from shared.infra import logs, tracing
from shared.infra.errors import StorageUnavailable
from shared.infra.tracing import Kind, TraceContext, export

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONTEXT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as started:
        monkeypatch.setenv(ENDPOINT, started.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        monkeypatch.setattr(export, "LAST_S", 60.0)  # the machine may stand still
        yield started


@pytest.fixture
def traced(collector: Collector) -> Iterator[Collector]:
    """The collector of this process' spans, which has them all once ``stop`` was called."""
    tracing.start("test", "test@here")
    yield collector
    collector.release()
    tracing.stop()


def test_a_traceparent_is_read_as_w3c_has_it() -> None:
    assert TraceContext.parse(CLIENT) == CONTEXT
    assert CONTEXT.traceparent == CLIENT
    unsampled = TraceContext.parse(CLIENT[:-2] + "00")
    assert unsampled is not None
    assert not unsampled.sampled
    later = TraceContext.parse("cc" + CLIENT[2:-2] + "09-what-later-versions-add")
    assert later == CONTEXT


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "ff" + CLIENT[2:],
        CLIENT + "-more",
        CLIENT.upper(),
        CLIENT[:-1],
        "00-" + 32 * "0" + CLIENT[35:],
        CLIENT[:36] + 16 * "0" + "-01",
        CLIENT.replace("-", "_"),
        "\u0660" + CLIENT[1:],
    ],
)
def test_what_is_no_traceparent_is_as_good_as_absent(header: str | None) -> None:
    assert TraceContext.parse(header) is None


@given(st.text(max_size=80))
def test_no_header_is_an_error(header: str) -> None:
    TraceContext.parse(header)


def test_without_an_endpoint_nothing_is_imported_and_the_clients_trace_is_passed_on() -> None:
    """FastAPI imports OpenTelemetry's API, and redis-py also the SDK's metrics; we use neither."""
    program = f"""
import sys
import api.app, worker.tasks, worker.steps.run, worker.roles.model
from shared.infra import tracing
tracing.start("api", "api@here")
with tracing.begin("a", parent=tracing.TraceContext.parse({CLIENT!r})).active():
    with tracing.span("b") as span:
        assert span.traceparent == {CLIENT!r} and not span.is_recording
assert tracing.begin_trace("c", links=[]).context is None
tracing.stop()
ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
print([name for name in sys.modules if name.startswith(ours)])
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, ""),
        ({ENDPOINT: "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({ENDPOINT: "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://d/t"}, "http://d/t"),
        ({ENDPOINT: "http://c", "OTEL_SDK_DISABLED": "TRUE"}, ""),
        ({ENDPOINT: "http://c", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({ENDPOINT: " "}, ""),
    ],
)
def test_the_standard_variables_say_where_spans_go(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.endpoint() == url


def test_a_process_without_the_extra_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.delitem(sys.modules, "shared.infra.tracing.export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # type: ignore[arg-type]
    tracing.start("api", "api@here")
    assert "the extra 'otel' is not installed" in caplog.text
    assert tracing.begin("a", parent=None) is tracing.NO_SPAN


def fail_to_put() -> None:
    with tracing.child("put", Kind.CLIENT, {"longhand.nothing": None}) as put:
        put.set({"longhand.bytes": 3})
        raise StorageUnavailable("its text may be anybody's")


def test_spans_are_sent_with_their_parents_links_and_errors(traced: Collector) -> None:
    with tracing.begin("POST", Kind.SERVER, parent=CONTEXT).active() as request:
        request.rename("POST /jobs")
        with pytest.raises(StorageUnavailable):
            fail_to_put()
        request.end()
    other = tracing.begin_trace("infer", links=[CONTEXT])
    other.link(request.context)
    other.end()
    tracing.stop()
    first, second, third = sorted(traced.spans, key=lambda span: span.name)
    assert (first.name, first.parent_id, first.kind) == ("POST /jobs", CONTEXT.span_id, 2)
    assert first.trace_id == CONTEXT.trace_id
    assert (second.name, second.is_error) == ("infer", False)
    assert second.trace_id != CONTEXT.trace_id
    assert second.links == [CONTEXT.span_id, first.span_id]
    assert (third.name, third.parent_id, third.is_error) == ("put", first.span_id, True)
    assert third.attributes == {"longhand.bytes": 3, "error.type": "storage_unavailable"}
    assert first.resource["service.name"] == "longhand-test"
    assert first.resource["service.instance.id"] == "test@here"


def test_the_variables_of_the_sdk_name_the_service_and_its_resource(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "speech")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    tracing.start("api", "api@here")
    tracing.begin("a", parent=None).end()
    tracing.stop()
    (span,) = collector.spans
    assert span.resource["service.name"] == "speech"
    assert span.resource["deployment.environment.name"] == "staging"


def test_a_span_of_a_chosen_id_can_be_written_by_another_process(traced: Collector) -> None:
    span_id = tracing.derived_span_id(CONTEXT.trace_id, 7, 1)
    assert span_id == tracing.derived_span_id(CONTEXT.trace_id, 7, 1)
    assert span_id != tracing.derived_span_id(CONTEXT.trace_id, 71)
    lost = tracing.begin("transcribe", parent=CONTEXT, span_id=span_id, at_s=5.0)
    tracing.begin("other", parent=CONTEXT).end()
    lost.end("lease_expired", at_s=7.5)
    lost.end(at_s=9.0)
    tracing.stop()
    (written,) = [span for span in traced.spans if span.name == "transcribe"]
    assert written.span_id == span_id
    assert (written.start_ns, written.end_ns) == (5_000_000_000, 7_500_000_000)
    assert {span.span_id for span in traced.spans} > {span_id}


def test_what_is_not_sampled_is_not_sent_and_says_so_to_its_children(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    tracing.start("test", "test@here")
    root = tracing.begin("root", parent=None)
    assert root.context is not None
    assert not root.context.sampled
    step = tracing.begin("step", parent=root.context)
    assert step.context is not None
    assert (step.is_recording, step.context.sampled) == (False, False)
    tracing.begin_trace("infer", links=[root.context]).end()
    # A batch that a sampled job is in is seen with the job.
    tracing.begin("kept", parent=CONTEXT).end()
    tracing.begin_trace("infer", links=[root.context, CONTEXT]).end()
    tracing.stop()
    assert sorted(span.name for span in collector.spans) == ["infer", "kept"]


def test_a_collector_that_hangs_costs_a_bounded_memory_and_end(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "LAST_S", 2.0)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    collector.hang()
    tracing.start("test", "test@here")
    for _ in range(1000):
        tracing.begin("a", parent=None).end()
    assert collector.held.wait(30)
    for _ in range(1000):
        tracing.begin("b", parent=None).end()
    tracing.stop()  # comes back though nothing was answered
    assert not collector.spans
    collector.release()


def test_a_line_of_the_log_names_its_span() -> None:
    record = logging.LogRecord("api.x", logging.INFO, "x.py", 1, "done", (), None)
    with tracing.begin("a", parent=CONTEXT).active(), logs.bound(job_id="j"):
        said = json.loads(logs.JsonFormatter("api").format(record))
        text = logs.TextFormatter().format(record)
    assert said["job_id"] == "j"
    assert (said["trace_id"], said["span_id"]) == (CONTEXT.trace_id, CONTEXT.span_id)
    assert text.endswith(f"[job_id=j trace_id={CONTEXT.trace_id}]")
    assert "trace_id" not in logs.JsonFormatter("api").format(record)
