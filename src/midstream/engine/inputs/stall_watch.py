"""Stall watch of an input: partitions of which polls return nothing while the broker has messages behind them.

A client library that stands still raises no error, so the broker is asked for the end of each partition, and one that
stays behind it is taken as a failure of the client. Time counts while a poll waits, and not while the input makes none.

What is behind may be no message for consumers, such as the mark of a transaction that a client does not pass. So the
allowance of a partition doubles each time that opening it anew brought nothing.
"""

from collections.abc import Collection, Mapping

STALL_S = 30.0
"""Three requests to a broker that fail one after the other, of 10 s each, and are sent again by the client itself."""
STALL_S_MAX = 1_800.0
"""Longest allowance: a topic whose end is no message is opened anew twice an hour."""


class StallWatch:
    """Watches the partitions of one input. One thread at a time."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._waited_s: dict[str, float] = {}
        """Of polls that returned nothing, of partitions that were behind at the last look."""
        self._allowed_s: dict[str, float] = {}
        """Of partitions that were opened anew and returned nothing since."""

    @property
    def is_watching(self) -> bool:
        """Whether a partition is behind, so that another look is due soon."""
        return bool(self._waited_s)

    def polled(self, partitions: Collection[str], waited_s: float) -> None:
        """Count a poll.

        Args:
            partitions: Those that it returned something of.
            waited_s: How long it took.
        """
        for partition in partitions:
            self._waited_s.pop(partition, None)
            self._allowed_s.pop(partition, None)
        for partition in self._waited_s:
            self._waited_s[partition] += waited_s

    def looked(self, behind: Mapping[str, int]) -> tuple[str, ...]:
        """Return the partitions that stand still; each is given twice the time from then on.

        Args:
            behind: How many messages each partition has behind the last poll, as the broker says.
        """
        self._waited_s = {each: self._waited_s.get(each, 0.0) for each, count in behind.items() if count > 0}
        found = [each for each, s in self._waited_s.items() if s >= self._allowed_s.get(each, STALL_S)]
        for each in found:
            self._allowed_s[each] = min(2 * self._allowed_s.get(each, STALL_S), STALL_S_MAX)
        return tuple(found)

    def opened(self) -> None:
        """Count anew from an opening of the topic."""
        self._waited_s.clear()
