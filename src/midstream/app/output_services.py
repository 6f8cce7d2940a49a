"""Outputs of a configuration: a relay of the log for each, with the producer of its broker."""

import os
from collections.abc import Callable, Mapping
from functools import partial

from midstream.app.config.outputs import Output
from midstream.app.config.schema import Config
from midstream.core.protocols import LogReader
from midstream.engine.engine import Engine
from midstream.engine.listeners import Listener
from midstream.engine.outbox.log_relay import LogRelay, RelayOptions
from midstream.engine.outbox.output_destination import OutputDestination, RecordProducer
from midstream.engine.outbox.output_records import RecordOptions
from midstream.feedback.rewards import rewards_of
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.producer import KafkaOutputProducer


def outputs_of(
    config: Config, engine: Engine, log: str, open_log: Callable[[], LogReader], environ: Mapping[str, str] = os.environ
) -> Mapping[str, LogRelay]:
    """Return a relay for each output by its name, none of them started.

    Args:
        config: Of the folder.
        engine: Its applied events are delivered.
        log: Public name of the log.
        open_log: Opens a reader of the log as it is then.
        environ: Variables with passwords.

    Raises:
        ExtraMissing: The library of a broker is not installed.
        DestinationUnavailable: A variable with a password is not set.
    """
    found: dict[str, LogRelay] = {}
    for told in config.outputs:
        options = RecordOptions(
            records=told.records,
            log=log,
            types=frozenset(told.types),
            placements=frozenset(told.placements),
            rewards=rewards_of(config.feedback.reward, config.events.types),
        )
        producer = _producer(told, log, environ)
        destination = OutputDestination(told.name, options, producer, lambda: engine.fold, open_log)
        found[told.name] = LogRelay(RelayOptions(f"output_{told.name}", log, told.begin), engine, open_log, destination)
    if found:
        engine.listeners.add(Listener(name="outputs", gauges=partial(_set_gauges, engine, found)))
    return found


def _producer(told: Output, log: str, environ: Mapping[str, str]) -> RecordProducer:
    client = KafkaClientOptions(
        servers=told.servers,
        tls=told.tls,
        ca_file=told.ca_file,
        certificate_file=told.certificate_file,
        key_file=told.key_file,
        key_password_env=told.key_password_env,
        sasl=told.sasl,
        username=told.username,
        password_env=told.password_env,
        settings=told.settings,
    )
    return KafkaOutputProducer(client, told.topic, f"{log}-{told.name}", environ)


def _set_gauges(engine: Engine, outputs: Mapping[str, LogRelay]) -> None:
    for name, relay in outputs.items():
        view = relay.view()
        is_stopped = view.state == "stopped"
        engine.metrics.set_output(name, view.lag_events, view.lag_ms, view.delivered, is_stopped=is_stopped)
