import pytest

from midstream.core.errors import ConfigInvalid
from midstream.serving.options import ServerOptions, require_safe_address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    """Only this machine can reach it."""
    require_safe_address(ServerOptions(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "localhost.example.org"])  # noqa: S104
def test_other_hosts_are_refused_unless_told(host):
    """Others could reach it and no key protects it, so someone has to say that this is meant."""
    with pytest.raises(ConfigInvalid, match="--insecure"):
        require_safe_address(ServerOptions(host=host))
    require_safe_address(ServerOptions(host=host, insecure=True))


def test_key_lets_a_server_listen_elsewhere():
    """Then every caller needs one."""
    require_safe_address(ServerOptions(host="192.168.1.5"), has_keys=True)
