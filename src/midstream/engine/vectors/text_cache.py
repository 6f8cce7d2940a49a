"""Vectors of texts on disk, by the hash of the encoder and the text: each text is encoded once, whatever restarts.

No text is in it. The oldest rows go when there are more than ``rows_max``.
"""

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from midstream.core.types import Score

ROWS_MAX: Final = 1_000_000
"""1.5 GB of 384 numbers."""
_AT_ONCE: Final = 500
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"


class TextCache:
    """One file of SQLite; each call opens it, so that any thread may call."""

    def __init__(self, path: Path, rows_max: int = ROWS_MAX) -> None:
        """Name the file, which is made by the first ``put``."""
        self._path = path
        self._rows_max = rows_max

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        """Return the vectors of those keys that are known. Cost: 5 µs a key.

        Raises:
            OSError: The file cannot be read.
        """
        found: dict[bytes, Score] = {}
        if not self._path.exists():
            return found
        with self._opened() as file:
            for begin in range(0, len(keys), _AT_ONCE):
                some = keys[begin : begin + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = file.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some)  # noqa: S608  # marks
                found.update((key, np.frombuffer(vector, dtype="<f4")) for key, vector in rows)
        return found

    def put(self, vectors: Mapping[bytes, Score]) -> None:
        """Keep vectors, durable on return.

        Raises:
            OSError: The file cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(key, each.astype("<f4").tobytes()) for key, each in vectors.items()]
        with self._opened() as file, file:
            file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
            beyond = file.execute("SELECT count(*) FROM vectors").fetchone()[0] - self._rows_max
            if beyond > 0:
                oldest = "SELECT rowid FROM vectors ORDER BY rowid LIMIT ?"
                file.execute(f"DELETE FROM vectors WHERE rowid IN ({oldest})", (beyond,))  # noqa: S608  # a constant

    @contextmanager
    def _opened(self) -> Generator[sqlite3.Connection]:
        """Open the file for one call; what SQLite cannot do is an error of the disk.

        A file that a kill or a full disk left without its table gets it here.
        """
        try:
            with closing(sqlite3.connect(self._path, timeout=1.0)) as file:
                file.execute(_TABLE)
                yield file
        except sqlite3.Error as error:
            message = f"{self._path}: {error}"
            raise OSError(message) from error
