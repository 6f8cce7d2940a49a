"""Hashes of ids under the key of a state without a log, as tests have it: ``FoldSettings()`` says no other."""

from midstream.state.structures.hashing import NO_KEY, IdKey, id_hash, id_key_of

KEY: IdKey = id_key_of(NO_KEY)


def hash_of(text: str) -> int:
    """Return the 64-bit hash that such a state gives an id."""
    return id_hash(text, KEY)
