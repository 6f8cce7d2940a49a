"""Consumers of inputs: the one place that names the client libraries' adapters."""

import os
from collections.abc import Mapping

import msgspec

from midstream.app.broker_clients import kafka_client, pulsar_client
from midstream.app.config.broker_inputs import AnyInput, KafkaInput, PulsarInput
from midstream.engine.inputs.broker_consumer import BrokerConsumer
from midstream.engine.inputs.broker_input import Connect


def connector_of(options: AnyInput, environ: Mapping[str, str] | None = None) -> Connect:
    """Return what makes consumers of an input; an error of it is one of the call.

    Args:
        options: As configured.
        environ: Has the secrets that the options name; None = that of the process.
    """
    variables = os.environ if environ is None else environ

    def connect(start: str | None) -> BrokerConsumer:
        chosen = options if start is None else msgspec.structs.replace(options, start=start)
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
