"""Log positions for read-your-writes: the newest one of each visitor, bounded, least recently used out first.

Positions are opaque, so they are ordered by the moment at which their answers came. Of two events of one visitor that
are sent at the same time, the answer that comes last counts.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

Visitor = tuple[str, str]
"""``user_id`` or ``session_id``, and the id."""
VISITOR_FIELDS = ("user_id", "session_id")


def visitors_of(fields: Mapping[str, object]) -> list[Visitor]:
    """Return the visitors whom an event or a question names.

    Example:
        >>> visitors_of({"type": "view", "user_id": "ann", "item_id": "lamp"})
        [('user_id', 'ann')]
    """
    return [(name, value) for name in VISITOR_FIELDS if isinstance(value := fields.get(name), str)]


class Positions:
    """Log positions that questions wait for; may be used by several threads."""

    def __init__(self, visitors_max: int) -> None:
        """Remember at most ``visitors_max`` visitors."""
        self._visitors_max = visitors_max
        self._lock = threading.Lock()
        self._of_visitor: OrderedDict[Visitor, tuple[int, str]] = OrderedDict()
        self._of_all: tuple[int, str] | None = None
        self._newest: str | None = None
        self._count = 0

    @property
    def newest(self) -> str | None:
        """Position of the newest change of any visitor or item; None = there was none."""
        return self._newest

    def note(self, position: str, visitors: Iterable[Visitor]) -> None:
        """Remember the position of a change; without a visitor every later question waits for it."""
        with self._lock:
            self._count += 1
            self._newest = position
            entry = (self._count, position)
            named = list(visitors)
            if not named:
                self._of_all = entry
            for visitor in named:
                self._of_visitor[visitor] = entry
                self._of_visitor.move_to_end(visitor)
            while len(self._of_visitor) > self._visitors_max:
                self._of_visitor.popitem(last=False)

    def wanted(self, visitors: Iterable[Visitor]) -> str | None:
        """Return the position that a question of these visitors waits for; None = none of them wrote."""
        with self._lock:
            entries = [entry for each in visitors if (entry := self._of_visitor.get(each)) is not None]
            if self._of_all is not None:
                entries.append(self._of_all)
            return max(entries)[1] if entries else None

    def forget(self, position: str) -> None:
        """Drop a position that the server does not know, as after a restore from a backup."""
        with self._lock:
            gone = [visitor for visitor, entry in self._of_visitor.items() if entry[1] == position]
            for visitor in gone:
                del self._of_visitor[visitor]
            if self._of_all is not None and self._of_all[1] == position:
                self._of_all = None
            if self._newest == position:
                self._newest = None
