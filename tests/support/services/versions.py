"""Versions of servers, as they name themselves at their start, and of the clients that a run of tests imported."""

import re
import sys
from collections.abc import Mapping
from importlib import metadata

from tests.support.services.faults import ServiceFault
from tests.support.services.server import Server

SAID: Mapping[str, str] = {
    "kafka": r"Kafka version: (\S+)",
    "pulsar": r"Starting Pulsar Broker service; version: '([^']+)'",
    "cassandra": r"Cassandra version: (\S+)",
    "redis": r"Redis version=([^,\s]+)",
    "valkey": r"Valkey version=([^,\s]+)",
    "postgresql": r"starting PostgreSQL (\S+)",
    "pgbouncer": r"process up: PgBouncer (\S+)",
    "triton": r"server_version\s*\|\s*(\S+)",
    "kserve": r"KServe version (\S+)",
    "mlserver": r"MLServer version (\S+)",
    "torchserve": r"Torchserve version: (\S+)",
}
"""Of each system: the line of its log that has its version."""
CLIENTS: Mapping[str, Mapping[str, str]] = {
    "kafka": {"confluent_kafka": "confluent-kafka", "kafka": "kafka-python"},
    "pulsar": {"pulsar": "pulsar-client"},
    "cassandra": {"cassandra": "cassandra-driver"},
    "redis": {"redis": "redis", "hiredis": "hiredis"},
    "valkey": {"redis": "redis", "hiredis": "hiredis"},
    "postgresql": {"psycopg": "psycopg"},
    "pgbouncer": {"psycopg": "psycopg"},
    "triton": {"grpc": "grpcio"},
    "kserve": {"grpc": "grpcio"},
    "mlserver": {"grpc": "grpcio"},
    "torchserve": {},
}
"""Of each system: modules of clients, and their packages; none where midstream is the client itself."""

LIBRARIES: Mapping[str, str] = {
    "onnxruntime": "onnxruntime",
    "sklearn": "scikit-learn",
    "skl2onnx": "skl2onnx",
    "lightgbm": "lightgbm",
    "xgboost": "xgboost-cpu",
    "torch": "torch",
    "tensorflow": "tensorflow-cpu",
    "keras": "keras",
    "surprise": "scikit-surprise",
    "mlflow": "mlflow-skinny",
    "pandas": "pandas",
    "polars": "polars",
    "fastapi": "fastapi",
    "flask": "flask",
}
"""Libraries and frameworks that models, frames and applications come from: modules, and their packages."""


def server_version(server: Server) -> str:
    """Return what a server that runs said when it started.

    Raises:
        ServiceFault: It said nothing of the kind.
    """
    name = server.system.name
    found = re.search(SAID[name], server.log.read_text("utf-8", "replace"))
    if found is None:
        message = f"{name} did not say its version in {server.log}: no {SAID[name]!r}"
        raise ServiceFault(message)
    return found[1].rstrip(".,")


def client_versions(name: str) -> dict[str, str]:
    """Return the versions of a system's clients that this process has imported, by package; a library has none."""
    clients = CLIENTS.get(name, {})
    return {package: metadata.version(package) for module, package in clients.items() if module in sys.modules}


def library_version(module: str) -> str:
    """Return the version of one of ``LIBRARIES`` that is installed; none of another, or of another build of it."""
    try:
        return metadata.version(LIBRARIES.get(module, ""))
    except (metadata.PackageNotFoundError, ValueError):
        return ""
