"""Outputs of a configuration: a relay of the log for each, with the producer of its broker."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from midstream.app.broker_clients import kafka_client, pulsar_client
from midstream.app.config.outputs import Output
from midstream.app.config.schema import Config
from midstream.core.kinds import Kind
from midstream.core.protocols import LogReader
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.log_readers import open_reader
from midstream.engine.outbox.log_relay import LogRelay, RelayOptions
from midstream.engine.outbox.output_destination import OutputDestination, RecordProducer
from midstream.engine.outbox.output_group import OutputGroup, RelayedOutput
from midstream.engine.outbox.output_records import RecordOptions
from midstream.feedback.rewards import rewards_of
from midstream.integrations.kafka.producer import KafkaOutputProducer
from midstream.integrations.pulsar.producer import PulsarOutputProducer

_ERASE = Kind.ERASE.name.lower()


def with_outputs(running: Instance, data: DataFolder) -> tuple[Instance, OutputGroup]:
    """Return an instance with the outputs of its configuration as its last service, and these.

    Raises:
        ExtraMissing: The library of a broker is not installed; the folder is let go of.
        DestinationUnavailable: A variable with a password is not set; as before.
    """
    with ExitStack() as undo:
        undo.callback(running.engine.log.close)
        shared = running.shared_log
        topic_id = "" if shared is None else shared.position.topic_id
        group = outputs_of(running.config, running.engine, partial(open_reader, data), log_topic_id=topic_id)
        undo.pop_all()
    if not running.config.outputs:
        return running, group
    running.engine.listeners.add(group.listener)
    if running.leases is not None:
        group.share(running.leases.lease)
    if running.eraser is not None:
        running.eraser.forgets.update(group.forgets)
        running.eraser.outside = tuple(f"{each.kind} {each.topic}" for each in running.config.outputs)
    return replace(running, services=(*running.services, group)), group


def outputs_of(
    config: Config,
    engine: Engine,
    open_log: Callable[[], LogReader],
    environ: Mapping[str, str] = os.environ,
    *,
    log_topic_id: str = "",
) -> OutputGroup:
    """Return a relay for each output, none of them started.

    Args:
        config: Of the folder.
        engine: Its applied events are delivered.
        open_log: Opens a reader of the log as it is then.
        environ: Variables with passwords.
        log_topic_id: Cluster and id of the topic of the shared log; empty = there is none.

    Raises:
        ExtraMissing: The library of a broker is not installed.
        DestinationUnavailable: A variable with a password is not set.
    """
    log, found = engine.liveness.log, dict[str, RelayedOutput]()
    for told in config.outputs:
        options = RecordOptions(
            records=told.records,
            log=log,
            types=frozenset(told.types),
            placements=frozenset(told.placements),
            rewards=rewards_of(config.feedback.reward, config.events.types),
        )
        destination = OutputDestination(
            told.name,
            options,
            _producer(told, f"{log}-{told.name}", environ, log_topic_id),
            lambda: engine.fold,
            open_log,
        )
        relay_options = RelayOptions(f"output_{told.name}", log, told.begin, config.log.kind == "kafka")
        relay = LogRelay(relay_options, engine, open_log, destination)
        has_erasures = told.records == "events" and (not told.types or _ERASE in told.types)
        found[told.name] = RelayedOutput(told.topic, told.records, relay, has_erasures)
    return OutputGroup(found, engine.metrics)


def _producer(told: Output, key: str, environ: Mapping[str, str], log_topic_id: str) -> RecordProducer:
    if told.kind == "kafka":
        return KafkaOutputProducer(kafka_client(told), told.topic, key, environ, log_topic_id=log_topic_id)
    return PulsarOutputProducer(pulsar_client(told), told.topic, key, environ)
