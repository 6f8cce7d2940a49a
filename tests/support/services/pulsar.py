"""Apache Pulsar: broker, metadata and one bookie in one process (standalone), from its own binary release."""

import http.client
import signal
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.services.java import find_java, java_options
from tests.support.services.maven import MavenPackage
from tests.support.services.replies import ASK_S_MAX, Ill, NotReady
from tests.support.services.system import Package, Site

PACKAGE = MavenPackage("pulsar", ("org.apache.pulsar:pulsar-server-distribution:tar.gz:bin:4.0.8",))
_OPENED = (
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/java.util.zip",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.platform",
    "java.management/sun.management",
    "jdk.management/com.sun.management.internal",
)
"""Packages of Java that its own start script opens."""


TOPICS = 6
"""New ones, before it counts as ready: of a bookie that comes and goes each is refused about every second time."""


@dataclass(frozen=True)
class Pulsar:
    """A whole Pulsar."""

    name: str = "pulsar"
    package: Package = PACKAGE
    port_names: Sequence[str] = ("client", "http", "bookie")
    stop_signal: signal.Signals = signal.SIGTERM
    heap_mb: int = 512
    direct_mb: int = 512
    """Memory of messages, which is none of the heap."""
    is_brief: bool = False
    """Whether it starts sooner and then does less in a second."""

    def prepare(self, site: Site) -> None:
        """Write its configuration: the release's own for one machine, and where it listens."""
        text = (_home(site) / "conf" / "standalone.conf").read_text("utf-8")
        own = {
            "brokerServicePort": str(site.ports["client"]),
            "webServicePort": str(site.ports["http"]),
            "bindAddress": site.host,
            "advertisedAddress": site.host,
            "listeningInterface": "lo",  # of the bookie, which has its own port only where it may choose one
            "allowEphemeralPorts": "true",
            "webSocketServiceEnabled": "false",
            # What deduplication remembers is kept in messages until a snapshot: soon, so that they may be removed.
            "brokerDeduplicationSnapshotFrequencyInSeconds": "1",
            "brokerDeduplicationSnapshotIntervalSeconds": "1",
        }
        kept = [line for line in text.splitlines() if line.partition("=")[0] not in own]
        site.write("standalone.conf", "\n".join([*kept, *(f"{name}={value}" for name, value in own.items()), ""]))

    def command(self, site: Site) -> list[str]:
        """Return the command of the process."""
        opened = [word for each in _OPENED for word in ("--add-opens", f"{each}=ALL-UNNAMED")]
        home = _home(site)
        return [
            find_java((17, 21), "17 or 21"),
            *java_options(self.heap_mb, is_brief=self.is_brief),
            f"-XX:MaxDirectMemorySize={self.direct_mb}m",
            *opened,
            "-Dio.netty.tryReflectionSetAccessible=true",
            f"-Dlog4j.configurationFile={home}/conf/log4j2.yaml",
            "-Dpulsar.log.appender=Console",
            f"-Dpulsar.log.dir={site.folder}",
            "-cp",
            f"{home}/lib/*",
            "org.apache.pulsar.PulsarStandaloneStarter",
            f"--config={site.folder / 'standalone.conf'}",
            "--no-functions-worker",
            "--no-stream-storage",
            f"--metadata-dir={site.data / 'metadata'}",
            f"--bookkeeper-dir={site.data / 'bookkeeper'}",
            f"--bookkeeper-port={site.ports['bookie']}",
        ]

    def ask(self, site: Site) -> None:
        """Ask for its health, as it sends a message to itself and reads it, and for new topics: these need new ledgers.

        Raises:
            Ill: It refuses some of them. The lock by which a bookie that was killed says that it is there is made anew
                at the next start, and its keeper may take its own deletion of the old one for that of the new one, for
                ever: the bookie comes and goes hundreds of times a second. One that ends in order leaves no lock.
            NotReady: It has not started yet.
        """
        line = http.client.HTTPConnection(site.host, site.ports["http"], timeout=6 * ASK_S_MAX)
        try:
            if (told := _told(line, "GET", "/admin/v2/brokers/health")) != "200 ok":
                raise NotReady(told)
            for _ in range(TOPICS):
                topic = f"/admin/v2/persistent/public/default/ready-{uuid.uuid4()}"
                told = _told(line, "PUT", topic)
                if "Not enough non-faulty bookies" in told:
                    raise Ill(told)
                if not told.startswith("204"):
                    raise NotReady(told)
                _told(line, "DELETE", topic)
        except http.client.HTTPException as error:
            raise NotReady(repr(error)) from error
        finally:
            line.close()


def _told(line: http.client.HTTPConnection, method: str, path: str) -> str:
    """Return status and text of an answer."""
    line.request(method, path)
    answer = line.getresponse()
    return f"{answer.status} {answer.read().decode('utf-8', 'replace')[:400]}"


def _home(site: Site) -> Path:
    return next((site.package / "unpacked").iterdir())
