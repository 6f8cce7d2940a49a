"""View of all nodes of a shared log, from the board on which they report."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from midstream.app.broker_clients import kafka_client
from midstream.app.config.schema import Config
from midstream.core.durations import format_duration
from midstream.core.errors import Fault, Invalid
from midstream.engine.folder import DataFolder
from midstream.engine.log_readers import open_reader
from midstream.engine.replication.node_board import (
    Heartbeat,
    NodeBoard,
    compared,
    disagreements,
    heartbeats_of,
    is_gone,
)

PAGE = "/docs/replicas.md"


class NodesView(msgspec.Struct, frozen=True):
    """All nodes, and what their marks say of each other."""

    nodes: tuple[Heartbeat, ...]
    gone: tuple[str, ...]
    """Nodes that were not heard of for half a minute."""
    compared: int
    """Pairs of nodes with a mark in common."""
    differences: tuple[str, ...]
    """In words; empty as it should be."""
    now_ms: int


def board_of(config: Config, environ: Mapping[str, str]) -> NodeBoard:
    """Return the board of a shared log.

    Raises:
        Invalid: The log of this configuration is not shared.
        ExtraMissing: The extra ``kafka`` is not installed.
    """
    if config.log.kind != "kafka":
        right = '[log] kind = "kafka": nodes of one shop share a log.'
        raise Invalid((Fault("$.log.kind", "The log of this folder is its own.", right, PAGE),))
    from midstream.integrations.kafka.node_board import KafkaNodeBoard

    return KafkaNodeBoard(kafka_client(config.log), config.log.topic, environ, config.log.replicas or -1)


def nodes_of(folder: Path, config: Config, board: NodeBoard | None = None) -> NodesView:
    """Return what the nodes of a folder's log say now.

    Args:
        folder: Of one of the nodes.
        config: Of that folder.
        board: Instead of the one that the configuration names.

    Raises:
        Invalid: The log is not shared.
        LogDamaged: The node has no log yet.
        TopicUnavailable: The broker does not answer.
    """
    board = board or board_of(config, os.environ)
    log = open_reader(DataFolder(folder / "data")).identity.public_name
    try:
        messages = board.read()
    finally:
        board.close()
    nodes = heartbeats_of(messages, log)
    now_ms = time.time_ns() // 1_000_000
    return NodesView(
        tuple(nodes),
        tuple(each.node for each in nodes if is_gone(each, now_ms)),
        compared(nodes),
        tuple(str(each) for each in disagreements(nodes)),
        now_ms,
    )


def rows_of(view: NodesView) -> Sequence[tuple[object, ...]]:
    """Return a line for each node, for people."""
    return [_row(each, view) for each in view.nodes]


def _row(said: Heartbeat, view: NodesView) -> tuple[object, ...]:
    mark = said.marks[0] if said.marks else None
    digest = "" if mark is None else f"{mark.digest[:12]} at {mark.log_position}"
    up = format_duration(max(0, view.now_ms - said.since_ms) // 1_000 * 1_000)
    return said.node, said.url, said.log_position, said.lag_ms, said.fold_version, digest, up, _standing(said, view)


def _standing(said: Heartbeat, view: NodesView) -> str:
    if said.node in view.gone:
        return f"gone for {(view.now_ms - said.said_ms) // 1_000} s"
    if said.unreachable_since_ms is not None:
        return f"cut off from the topic for {(view.now_ms - said.unreachable_since_ms) // 1_000} s"
    return f"counts from {said.counts_from}" if said.counts_from else "up"
