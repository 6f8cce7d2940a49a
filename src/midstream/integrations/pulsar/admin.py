"""Admin interface of Pulsar (REST): what is known of a topic that its clients are not told.

A client that asks for a topic which does not exist has it made, and one that asks for a message which retention has cut
is given the next one. So partitions, ledgers and the identity of a topic are asked here.

Reference: https://pulsar.apache.org/docs/4.0.x/admin-api-topics/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from midstream.engine.inputs.broker_consumer import BrokerUnavailable
from midstream.integrations.pulsar.client_options import PulsarClientOptions
from midstream.integrations.pulsar.positions import PulsarPlace

REQUEST_S_MAX = 10.0
IDENTITY = "midstream-topic-id"
"""Property of a topic that tells it from one that is made again under its name."""
CONFLICT = 409
ENABLED = "Enabled"


@dataclass(frozen=True, slots=True)
class Ledgers:
    """What a partition keeps."""

    entries: Mapping[int, int]
    """Of each ledger that is kept, in their order."""
    last: PulsarPlace
    """The newest entry; its entry is −1 where its ledger is empty."""
    created: str
    """When the newest ledger was begun."""

    @property
    def newest(self) -> PulsarPlace:
        """The newest entry that there is, also where the ledger behind it is empty; ``last`` where there is none."""
        filled = [ledger for ledger, count in self.entries.items() if count]
        return PulsarPlace(filled[-1], self.entries[filled[-1]] - 1) if filled else self.last

    @property
    def first(self) -> PulsarPlace:
        """The beginning of the oldest ledger."""
        return PulsarPlace(next(iter(self.entries), self.last.ledger), -1)

    def entries_after(self, place: PulsarPlace) -> int:
        """Return how many entries lie behind a place."""
        own = self.entries.get(place.ledger, 0) - place.entry - 1
        return max(0, own) + sum(count for ledger, count in self.entries.items() if ledger > place.ledger)


class PulsarAdmin:
    """One topic, as the admin interface knows it."""

    def __init__(self, options: PulsarClientOptions, topic: str, token: str) -> None:
        """Prepare a connection.

        Args:
            options: Of the admin interface, and the client's certificates.
            topic: Full name, ``persistent://tenant/namespace/name``.
            token: Of the requests; empty = none.
        """
        import httpx  # which takes 0.1 s to load, and every server loads this

        self._url = url = options.admin_url
        self._path = "/".join(quote(part, safe="") for part in topic.replace("://", "/", 1).split("/"))
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/admin/v2/",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=options.ca_file or True,
            cert=(options.certificate_file, options.key_file) if options.certificate_file else None,
            timeout=REQUEST_S_MAX,
            follow_redirects=True,
        )

    def partitions(self) -> int:
        """Return the number of partitions, 0 of a topic that is not partitioned.

        Raises:
            BrokerUnavailable: There is no such topic, or no answer.
        """
        return int(self._ask("GET", f"{self._path}/partitions")["partitions"])

    def identity(self, proposed: str) -> str:
        """Return the identity of the topic; where it has none yet it is given the proposed one.

        Raises:
            BrokerUnavailable: No answer, or the client may not change properties of the topic.
        """
        path = f"{self._path}/properties"
        found: Mapping[str, str] = self._ask("GET", path) or {}
        if IDENTITY not in found:
            self._ask("PUT", path, {IDENTITY: proposed})
            found = self._ask("GET", path) or {}
        return str(found.get(IDENTITY, ""))

    def ledgers(self, suffix: str) -> Ledgers:
        """Return what a partition keeps.

        Args:
            suffix: Of its name behind the topic's; empty = the topic has no partitions.

        Raises:
            BrokerUnavailable: No answer.
        """
        found = self._ask("GET", f"{self._path}{suffix}/internalStats")
        ledger, _, entry = str(found["lastConfirmedEntry"]).partition(":")
        last = PulsarPlace(int(ledger), int(entry))
        entries = {int(each["ledgerId"]): int(each["entries"]) for each in found["ledgers"]}
        # Of the ledger that is written the list says 0.
        entries[last.ledger] = last.entry + 1
        return Ledgers(dict(sorted(entries.items())), last, str(found["lastLedgerCreatedTimestamp"]))

    def deduplication(self, suffix: str) -> str:
        """Return how a partition that is in use drops what a producer sends again: ``ENABLED``, or why it does not.

        It is what is in force, whether the broker, the namespace or the topic says so.

        Raises:
            BrokerUnavailable: No answer.
        """
        return str(self._ask("GET", f"{self._path}{suffix}/stats")["deduplicationStatus"])

    def producers(self, suffix: str) -> Sequence[str]:
        """Return the names of the producers that a partition has now.

        Raises:
            BrokerUnavailable: No answer.
        """
        found = self._ask("GET", f"{self._path}{suffix}/stats")
        return [str(each["producerName"]) for each in found["publishers"]]

    def pending(self, suffix: str) -> int:
        """Return how many entries of a partition the broker has taken and not stored yet.

        Raises:
            BrokerUnavailable: No answer.
        """
        return int(self._ask("GET", f"{self._path}{suffix}/internalStats")["pendingAddEntriesCount"])

    def make(self) -> None:
        """Make the topic, without partitions, unless it is there.

        Raises:
            BrokerUnavailable: No answer, or the client may not.
        """
        self._ask("PUT", self._path, accepted=CONFLICT)

    def at_time(self, suffix: str, time_ms: int) -> PulsarPlace:
        """Return the first entry of a partition that was published at a time or later, as the place before it.

        Raises:
            BrokerUnavailable: No answer.
        """
        found = self._ask("GET", f"{self._path}{suffix}/messageid/{time_ms}")
        return PulsarPlace(int(found["ledgerId"]), int(found["entryId"]) - 1)

    def close(self) -> None:
        """Release the connection."""
        self._client.close()

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None, accepted: int = 0) -> Any:  # noqa: ANN401  JSON
        import httpx

        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            message = f"Pulsar's admin interface at {self._url}: {error!r}"
            raise BrokerUnavailable(message) from error
        if answer.is_error and answer.status_code != accepted:
            message = (
                f"Pulsar's admin interface at {self._url}: {method} {path}: {answer.status_code} {answer.text[:200]}"
            )
            raise BrokerUnavailable(message)
        return answer.json() if answer.content and answer.is_success else None


def suffixes(partitions: int) -> Sequence[str]:
    """Return what the names of partitions have behind the topic's."""
    return [f"-partition-{number}" for number in range(partitions)] or [""]
