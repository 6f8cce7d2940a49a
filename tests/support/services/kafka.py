"""Apache Kafka: one process that is broker and controller (KRaft), from its own jars.

It acknowledges what the kernel has, as brokers do by default: that survives the end of the process, not of the machine.
"""

import base64
import signal
import struct
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.services.faults import ServiceFault
from tests.support.services.java import find_java, java_options
from tests.support.services.maven import MavenPackage
from tests.support.services.replies import NotReady, connected
from tests.support.services.system import Package, Site

PACKAGE = MavenPackage("kafka", ("org.apache.kafka:kafka_2.13:jar:4.4.0", "org.slf4j:slf4j-simple:jar:1.7.36"))
FORMAT_S_MAX = 120
METADATA, METADATA_VERSION = 3, 8
"""The request that a client sends first, in the last version without tagged fields."""
_CORRELATION = 17


@dataclass(frozen=True)
class Kafka:
    """One broker."""

    name: str = "kafka"
    package: Package = PACKAGE
    port_names: Sequence[str] = ("client", "controller")
    stop_signal: signal.Signals = signal.SIGTERM
    heap_mb: int = 512
    is_brief: bool = False
    """Whether it starts sooner and then does less in a second."""
    session_ms: int = 9_000
    """Until a broker that was killed is taken for dead: one that starts again is let in only then."""

    def prepare(self, site: Site) -> None:
        """Write its properties; give a new folder the id of a cluster."""
        properties = site.write("server.properties", _properties(site, self.session_ms))
        if (site.data / "meta.properties").exists():
            return
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode("ascii")
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(properties)]
        ran = subprocess.run(
            [*_java(site, 64, is_brief=True), *tool],
            capture_output=True,
            text=True,
            timeout=FORMAT_S_MAX,
            check=False,
        )
        if ran.returncode:
            message = f"kafka could not format {site.data}:\n{ran.stdout[-2_000:]}{ran.stderr[-2_000:]}"
            raise ServiceFault(message)

    def command(self, site: Site) -> list[str]:
        """Return the command of the broker."""
        return [
            *_java(site, self.heap_mb, is_brief=self.is_brief),
            "kafka.Kafka",
            str(site.folder / "server.properties"),
        ]

    def ask(self, site: Site) -> None:
        """Ask which brokers there are, until it names itself."""
        topics = b"\0\0\0\0"
        body = struct.pack(">hhih", METADATA, METADATA_VERSION, _CORRELATION, -1) + topics + b"\0\0\0"
        with connected(site, "client") as line:
            line.send(struct.pack(">i", len(body)) + body)
            line.number(4)
            if (came := line.number(4)) != _CORRELATION:
                message = f"answered request {came}, not {_CORRELATION}"
                raise NotReady(message)
            line.number(4)  # throttled for so many ms
            if not line.number(4):
                raise NotReady("knows no broker yet")


def _java(site: Site, heap_mb: int, *, is_brief: bool) -> list[str]:
    java = find_java(range(17, 26), "17 or newer")
    return [java, *java_options(heap_mb, is_brief=is_brief), "-cp", f"{site.package}/lib/*"]


def _properties(site: Site, session_ms: int) -> str:
    listener = f"PLAINTEXT://{site.host}:{site.ports['client']}"
    controller = f"{site.host}:{site.ports['controller']}"
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners={listener},CONTROLLER://{controller}
advertised.listeners={listener}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={site.data}
broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms={session_ms // 6}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.min.isr=1
"""
