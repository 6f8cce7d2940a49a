"""Units of requests, read from one state: the user that an id stands for after merges, else the session."""

from midstream.events.siphash import hash_content
from midstream.experiments.assignment import UNIT_BYTES, session_unit
from midstream.state.ids.vocabulary import Vocabulary


class UnitReader:
    """Reads the units of requests. It is made anew with the state, whose arrays stay the same for as long as it is."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Read the aliases of a state."""
        self._key = vocabulary.id_key
        self._aliases = vocabulary.aliases
        self._aliases_count = vocabulary.aliases.rows.meta["users"]

    def unit(self, user_id: str | None, session_id: str | None) -> bytes | None:
        """Return the unit of a request; None = it has neither a user nor a session.

        Cost: the keyed hash of a user's id, 0.4 µs, and its alias while there are any; nothing of a session.
        """
        if user_id:
            user_hash = hash_content(user_id.encode(), self._key)  # as ``id_hash``
            if self._aliases_count.item(0):
                user_hash = self._aliases.resolve(user_hash)
            return user_hash.to_bytes(UNIT_BYTES, "little")
        return session_unit(session_id) if session_id else None
