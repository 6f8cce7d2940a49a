"""The real server whose inputs of Kafka read Pulsar: ``python pulsar_input_server.py serve …``.

``servers`` of an input is the service URL and the admin URL, with a comma between.
"""

import runpy
from collections.abc import Mapping

from midstream.app.config.broker_inputs import KafkaInput
from midstream.app.inputs import consumers
from midstream.engine.inputs.broker_consumer import BrokerConsumer
from midstream.integrations.pulsar.client_options import PulsarClientOptions
from midstream.integrations.pulsar.consumer import PulsarConsumer, PulsarTopicOptions


def pulsar_of(options: KafkaInput, environ: Mapping[str, str]) -> BrokerConsumer:
    """Return the consumer of a topic of Pulsar."""
    service_url, _, admin_url = options.servers.partition(",")
    client = PulsarClientOptions(service_url, admin_url)
    return PulsarConsumer(PulsarTopicOptions(client, options.topic, "midstream", options.start_text), environ)


if __name__ == "__main__":
    consumers._kafka = pulsar_of
    runpy.run_module("midstream", run_name="__main__")
