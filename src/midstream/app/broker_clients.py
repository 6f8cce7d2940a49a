"""Clients of brokers: the options of a connection, from whichever table of the configuration has them."""

from midstream.app.config.broker_login import KafkaLogin, PulsarLogin
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.pulsar.client_options import PulsarClientOptions


def kafka_client(login: KafkaLogin) -> KafkaClientOptions:
    """Return the options of a connection to Kafka, of an input, an output or a shared log."""
    return KafkaClientOptions(
        servers=login.servers,
        tls=login.tls,
        ca_file=login.ca_file,
        certificate_file=login.certificate_file,
        key_file=login.key_file,
        key_password_env=login.key_password_env,
        sasl=login.sasl,
        username=login.username,
        password_env=login.password_env,
        settings=login.settings,
    )


def pulsar_client(login: PulsarLogin) -> PulsarClientOptions:
    """Return the options of a connection to Pulsar, of an input or an output."""
    return PulsarClientOptions(
        service_url=login.service_url,
        admin_url=login.admin_url,
        token_env=login.token_env,
        ca_file=login.ca_file,
        certificate_file=login.certificate_file,
        key_file=login.key_file,
    )
