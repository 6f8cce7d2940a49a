"""Import of the client libraries, each of which an extra brings, and clients of librdkafka whose log goes to ours.

librdkafka writes to the standard error unless it is given a logger: every client is made here, with that of this
package. What its queue of lines holds comes out when a client is polled.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from midstream.core.errors import ExtraMissing

LOGGER = logging.getLogger("midstream.integrations.kafka")
REPEAT_S = 30.0
"""A line that differs from an earlier one in numbers alone is left out for so long: a client that cannot connect
writes ten a second."""
LINES_MAX = 256
"""Lines that are remembered for that."""


class RepeatFilter(logging.Filter):
    """Leaves out lines that came a moment ago. From any thread: two that come at once may both pass."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Remember nothing yet."""
        super().__init__()
        self._monotonic = monotonic
        self._passed_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is another one than those of the last ``REPEAT_S``."""
        text, now_s = re.sub(r"\d+", "", record.getMessage()), self._monotonic()
        if now_s - self._passed_s.get(text, -REPEAT_S) < REPEAT_S:
            return False
        if len(self._passed_s) >= LINES_MAX:
            self._passed_s.clear()
        self._passed_s[text] = now_s
        return True


LOGGER.addFilter(RepeatFilter())


def kafka_producer(settings: Mapping[str, Any]) -> Any:  # noqa: ANN401  the library has no types
    """Return a producer of librdkafka.

    Raises:
        ExtraMissing: The extra ``kafka`` is not installed.
        KafkaException: The library refuses a setting.
    """
    return confluent_kafka().Producer(dict(settings), logger=LOGGER)


def kafka_consumer(settings: Mapping[str, Any]) -> Any:  # noqa: ANN401  as above
    """Return a consumer of librdkafka; raises as ``kafka_producer``."""
    return confluent_kafka().Consumer(dict(settings), logger=LOGGER)


def kafka_admin(settings: Mapping[str, Any]) -> Any:  # noqa: ANN401  as above
    """Return an admin client of librdkafka; raises as ``kafka_producer``."""
    return confluent_kafka_admin().AdminClient(dict(settings), logger=LOGGER)


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
