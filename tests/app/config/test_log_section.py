"""Section ``[log]`` of a shared log: its login has both halves, and no secret stands in the file."""

from typing import Any

import pytest

from midstream.app.config.log_section import LogSection, log_faults

SHARED: dict[str, Any] = {"kind": "kafka", "servers": "broker:9092", "topic": "shop"}


@pytest.mark.parametrize(
    "more, where",
    [
        ({"sasl": "PLAIN"}, "$.log.sasl"),
        ({"username": "shop"}, "$.log.username"),
        ({"key_file": "key.pem"}, "$.log.key_file"),
        ({"ca_file": "ca.pem"}, "$.log.ca_file"),
        ({"servers": "shop:hunter2@broker:9092"}, "$.log.servers"),
        ({"settings": {"SASL.password": "hunter2"}}, "$.log.settings"),
        ({"sasl": "PLAIN", "username": "shop", "password_env": "hunter 2!"}, "$.log.password_env"),
    ],
)
def test_a_login_that_cannot_work_or_shows_a_secret_is_refused(more: dict[str, Any], where: str) -> None:
    """Named by its place, and what may be a secret is not repeated."""
    faults = [*log_faults(LogSection(**{**SHARED, **more}))]
    assert any(each.where.startswith(where) for each in faults), faults
    assert "hunter" not in " ".join(f"{each.where} {each.came} {each.right}" for each in faults)


def test_a_whole_login_is_taken() -> None:
    """With the password in the environment."""
    login: dict[str, Any] = {
        "tls": True,
        "sasl": "SCRAM-SHA-512",
        "username": "shop",
        "password_env": "SHOP_KAFKA_PASSWORD",
    }
    assert [*log_faults(LogSection(**SHARED, **login))] == []
