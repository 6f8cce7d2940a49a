"""Import of the client libraries, each of which an extra brings."""

from typing import Any

from midstream.core.errors import ExtraMissing


def confluent_kafka() -> Any:  # noqa: ANN401  the library has no types
    """Return ``confluent_kafka``, the binding of librdkafka.

    Raises:
        ExtraMissing: The extra ``kafka`` is not installed.
    """
    try:
        import confluent_kafka
    except ImportError as error:
        message = "Kafka needs the extra `kafka`: pip install 'midstream[kafka]'"
        raise ExtraMissing(message) from error
    return confluent_kafka


def confluent_kafka_admin() -> Any:  # noqa: ANN401  as above
    """Return ``confluent_kafka.admin``.

    Raises:
        ExtraMissing: The extra ``kafka`` is not installed.
    """
    confluent_kafka()
    from confluent_kafka import admin

    return admin


def kafka_python() -> Any:  # noqa: ANN401  as above
    """Return ``kafka``, the client in pure Python.

    Raises:
        ExtraMissing: The extra ``kafka-python`` is not installed.
    """
    try:
        import kafka  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        message = "Kafka by kafka-python needs the extra `kafka-python`: pip install 'midstream[kafka-python]'"
        raise ExtraMissing(message) from error
    return kafka


def kafka_python_connections() -> Any:  # noqa: ANN401  as above
    """Return the class of what connects clients of kafka-python, which their option ``kafka_client`` is by default.

    Raises:
        ExtraMissing: The extra ``kafka-python`` is not installed.
    """
    return kafka_python().KafkaConsumer.DEFAULT_CONFIG["kafka_client"]


def error_text(error: object) -> str:
    """Return what an error of a client says; one of a request without an answer has no text of its own."""
    return str(error) or "no answer in time"
