"""Apache Cassandra: one node, from its own jars.

It acknowledges what is synced (``batch``). By default (``periodic``) it acknowledges before: of what was written in
the last 100 ms before a kill it then found nothing again.

Its start script and the options of ``jvm17-server.options`` are no part of the jars, so what it needs of them stands
here.
"""

import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.services.java import find_java, java_options
from tests.support.services.maven import MavenPackage
from tests.support.services.replies import Line, NotReady, connected
from tests.support.services.system import Package, Site

PACKAGE = MavenPackage("cassandra", ("org.apache.cassandra:cassandra-all:jar:5.0.8",))
_EXPORTED = (
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.unsupported/sun.misc",
)
_OPENED = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.math",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "java.management/com.sun.jmx.mbeanserver",
    "jdk.management/com.sun.management.internal",
)
_SETTINGS = {
    "cassandra.skip_wait_for_gossip_to_settle": "0",  # there is nobody to gossip with
    "cassandra.ring_delay_ms": "0",
    "cassandra.superuser_setup_delay_ms": "0",
    "cassandra-foreground": "yes",
}
_LOGGING = """\
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %-5level %logger{20} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"""
STARTUP, READY, QUERY, RESULT = 0x01, 0x02, 0x07, 0x08
_VERSION, _ANSWER = 4, 0x84
_ONE = 1


@dataclass(frozen=True)
class Cassandra:
    """One node."""

    name: str = "cassandra"
    package: Package = PACKAGE
    port_names: Sequence[str] = ("client", "storage")
    stop_signal: signal.Signals = signal.SIGTERM
    heap_mb: int = 1_024
    is_brief: bool = False
    """Whether it starts sooner and then does less in a second."""

    def prepare(self, site: Site) -> None:
        """Write its configuration."""
        site.write("cassandra.yaml", _configuration(site))
        site.write("logback.xml", _LOGGING)

    def command(self, site: Site) -> list[str]:
        """Return the command of the node."""
        (agent,) = site.package.glob("lib/*jamm*.jar")
        settings = _SETTINGS | {
            "cassandra.config": (site.folder / "cassandra.yaml").as_uri(),
            "cassandra.storagedir": str(site.data),
            "logback.configurationFile": str(site.folder / "logback.xml"),
            "jdk.attach.allowAttachSelf": "true",
        }
        return [
            find_java((11, 17), "11 or 17"),
            *java_options(self.heap_mb, is_brief=self.is_brief),
            *(word for each in _EXPORTED for word in ("--add-exports", f"{each}=ALL-UNNAMED")),
            *(word for each in _OPENED for word in ("--add-opens", f"{each}=ALL-UNNAMED")),
            f"-javaagent:{agent}",
            *(f"-D{name}={value}" for name, value in settings.items()),
            "-cp",
            f"{site.package}/lib/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ]

    def ask(self, site: Site) -> None:
        """Read a row in its own protocol."""
        query = b"SELECT release_version FROM system.local"
        with connected(site, "client") as line:
            _exchange(line, STARTUP, b"\0\1" + _text(b"CQL_VERSION") + _text(b"3.0.0"), READY)
            _exchange(line, QUERY, struct.pack(">i", len(query)) + query + struct.pack(">hb", _ONE, 0), RESULT)


def _exchange(line: Line, code: int, body: bytes, expected: int) -> None:
    line.send(struct.pack(">bbhbi", _VERSION, 0, 0, code, len(body)) + body)
    version, _, _, came, size = struct.unpack(">BBhBi", line.read(9))
    text = line.read(size)
    if (version, came) != (_ANSWER, expected):
        message = f"answered {came:#x}, not {expected:#x}: {text[:200]!r}"
        raise NotReady(message)


def _text(text: bytes) -> bytes:
    return struct.pack(">h", len(text)) + text


def _configuration(site: Site) -> str:
    return f"""\
cluster_name: midstream
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{ seeds: "{site.host}:{site.ports["storage"]}" }}]
listen_address: {site.host}
storage_port: {site.ports["storage"]}
rpc_address: {site.host}
native_transport_port: {site.ports["client"]}
commitlog_sync: batch
data_file_directories: ["{site.data}/data"]
commitlog_directory: "{site.data}/commitlog"
saved_caches_directory: "{site.data}/saved_caches"
hints_directory: "{site.data}/hints"
cdc_raw_directory: "{site.data}/cdc_raw"
auto_snapshot: false
"""
