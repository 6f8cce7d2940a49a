"""Consumers of inputs: the one place that names the client libraries' adapters."""

import os
from collections.abc import Callable, Mapping, Sequence

import msgspec

from midstream.app.broker_clients import kafka_client, pulsar_client
from midstream.app.config.broker_inputs import AnyInput, KafkaInput, PostgresqlInput, PulsarInput
from midstream.app.mapping.table_columns import source_fields
from midstream.engine.inputs.broker_consumer import BrokerConsumer
from midstream.engine.inputs.topic_reader import Connect


def connector_of(
    options: AnyInput, environ: Mapping[str, str] | None = None, known: Callable[[], Sequence[str]] | None = None
) -> Connect:
    """Return what makes consumers of an input; an error of it is one of the call.

    Args:
        options: As configured.
        environ: Has the secrets that the options name; None = that of the process.
        known: Returns the ids of all items, for a table whose keys are compared with them.
    """
    variables = os.environ if environ is None else environ

    def connect(start: str | None) -> BrokerConsumer:
        chosen = options if start is None else msgspec.structs.replace(options, start=start)
        if isinstance(chosen, PostgresqlInput):
            return _postgresql(chosen, known)
        return _kafka(chosen, variables) if isinstance(chosen, KafkaInput) else _pulsar(chosen, variables)

    return connect


def _kafka(options: KafkaInput, environ: Mapping[str, str]) -> BrokerConsumer:
    from midstream.integrations.kafka.consumer import KafkaConsumer, KafkaTopicOptions
    from midstream.integrations.kafka.python_consumer import PythonKafkaConsumer

    topic = KafkaTopicOptions(kafka_client(options), options.topic, options.group_name, options.start_text)
    return PythonKafkaConsumer(topic, environ) if options.client == "kafka-python" else KafkaConsumer(topic, environ)


def _pulsar(options: PulsarInput, environ: Mapping[str, str]) -> BrokerConsumer:
    from midstream.integrations.pulsar.consumer import PulsarConsumer, PulsarTopicOptions

    topic = PulsarTopicOptions(pulsar_client(options), options.topic, options.subscription_name, options.start_text)
    return PulsarConsumer(topic, environ)


def _postgresql(options: PostgresqlInput, known: Callable[[], Sequence[str]] | None) -> BrokerConsumer:
    from midstream.integrations.postgresql.connection import PostgresqlServer
    from midstream.integrations.postgresql.consumer import PostgresqlConsumer
    from midstream.integrations.postgresql.followed_table import FollowedTableOptions

    # Nothing is kept in a session, so it is always as if a pooler stood between.
    server = PostgresqlServer(
        options.url, options.password_env, options.tls, options.tls_ca, pooler=True, give_up=options.give_up
    )
    fields = {name: names for name, names in source_fields(options.columns).items() if name != "operation"}
    table = FollowedTableOptions(
        server=server,
        table=options.table,
        key=options.key,
        updated_at=options.updated_at,
        fields=fields,
        deleted_at=options.deleted_at,
        start=options.start_text,
        every_s=options.every.ms / 1_000,
        skew_s=options.skew.ms / 1_000,
        reconcile_s=None if options.reconcile is None else options.reconcile.ms / 1_000,
    )
    return PostgresqlConsumer(table, known)
