"""Import of the client libraries, each of which an extra brings."""

from typing import Any

from midstream.core.errors import ExtraMissing


def confluent_kafka() -> Any:  # noqa: ANN401  the library has no types
    """Return ``confluent_kafka``, librdkafka's binding, with its module ``admin`` loaded.

    Raises:
        ExtraMissing: The extra ``kafka`` is not installed.
    """
    try:
        import confluent_kafka.admin
    except ImportError as error:
        message = "Kafka needs the extra `kafka`: pip install 'midstream[kafka]'"
        raise ExtraMissing(message) from error
    return confluent_kafka
