"""Traces of a process: samples its requests and exports what it sampled, where the configuration has an endpoint."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version

from midstream.app.config.schema import Config
from midstream.core.errors import MidstreamError
from midstream.engine.engine import Engine
from midstream.engine.instance import Instance
from midstream.engine.listeners import Concern, Listener
from midstream.integrations.opentelemetry import OtlpExport, otlp_exporter
from midstream.monitoring.tracing import TraceHost, Tracing

CONCERN = "traces"


@dataclass(frozen=True, slots=True, eq=False)
class ProcessTracing:
    """Sampler and exporter of one process."""

    tracing: Tracing
    export: OtlpExport


def tracing_of(engine: Engine, config: Config, environ: Mapping[str, str] = os.environ) -> ProcessTracing | None:
    """Return the traces of a process, not started; None = there is no endpoint.

    Raises:
        ExtraMissing: The library is not installed.
        StoreRefused: The token is not in the environment.
    """
    options, counts = config.tracing, engine.metrics.trace_spans
    if not options.endpoint:
        return None
    for outcome in ("exported", "dropped", "failed"):
        counts.labels(outcome)
    export = OtlpExport(
        otlp_exporter(options, environ),
        options,
        lambda outcome, spans: counts.labels(outcome).inc(spans),
        version("midstream"),
    )
    engine.listeners.add(Listener(name=CONCERN, concern=lambda: Concern(CONCERN, export.concern())))
    return ProcessTracing(Tracing(options, export, TraceHost(time.monotonic, time.time_ns, os.urandom)), export)


def with_tracing(running: Instance, config: Config) -> Instance:
    """Return an instance with traces as its last service; without an endpoint, as it was.

    Raises:
        ExtraMissing: The library is not installed; the folder is let go of.
        StoreRefused: The token is not in the environment; as before.
    """
    try:
        found = tracing_of(running.engine, config)
    except MidstreamError:
        running.abandon()
        raise
    if found is None:
        return running
    return replace(running, services=(*running.services, found.export), tracing=found.tracing)
