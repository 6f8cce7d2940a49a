"""Shared memory of the processes of one server: the durable log position, and the load of each process.

A few aligned 64-bit integers in memory that all of them map, so each follower reads the leader's durable position
without a message, and the process for the next connection is chosen without one. Each number has one writer; a reader
sees the old or the new one, never a part of it.
"""

import mmap
import os
from typing import NamedTuple

import numpy as np

from midstream.core.types import LogPosition

LEADER = 0
"""Number of the process that owns the log; followers count from 1."""
PROCESSES_MAX = 65
"""A leader and 64 followers, each with a state of its own: no machine has memory for more of them."""
_ROW = 8
"""Numbers of a process: 64 bytes, a cache line, so that the counters of two processes share none."""
_EPOCH, _END, _LOG_TIME, _STOPS = range(4)
_CONNECTIONS, _ACCEPTS, _APPLIED, _READY = range(4)


class BoardRow(NamedTuple):
    """Numbers of one process."""

    connections: int
    """Open ones."""
    accepts: bool
    """Whether it takes further ones."""
    applied: LogPosition
    """Log position of its state."""
    is_ready: bool
    """Whether its state was near the log's end since it began."""


class Board:
    """One server's numbers. The leader makes it, a follower opens it by the descriptor that it was given."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory behind a descriptor, which stays open with this."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, (1 + PROCESSES_MAX) * _ROW * 8)
        self._rows = np.frombuffer(self._map, dtype=np.int64).reshape(1 + PROCESSES_MAX, _ROW)

    @classmethod
    def make(cls) -> "Board":
        """Return a new one, all of it 0."""
        descriptor = os.memfd_create("midstream-board", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, (1 + PROCESSES_MAX) * _ROW * 8)
        return cls(descriptor)

    @property
    def epoch(self) -> int:
        """Number of swaps of the log's history, the configuration or the state in service."""
        return int(self._rows[0, _EPOCH])

    @property
    def end(self) -> LogPosition:
        """Log position before which all is durable: nothing beyond it was acknowledged."""
        return LogPosition(int(self._rows[0, _END]))

    @property
    def last_log_time_ms(self) -> int:
        """Log time of the last durable event, 0 while there is none."""
        return int(self._rows[0, _LOG_TIME])

    @property
    def stops(self) -> bool:
        """Whether the leader was asked to stop: it drains, or ends what is under way."""
        return bool(self._rows[0, _STOPS])

    def say_stop(self) -> None:
        """Publish that the leader was asked to stop."""
        self._rows[0, _STOPS] = 1

    def publish(self, end: int, last_log_time_ms: int) -> None:
        """Publish the durable log position."""
        self._rows[0, _LOG_TIME] = last_log_time_ms
        self._rows[0, _END] = end

    def renew(self) -> None:
        """Publish that the configuration or state loaded by followers is outdated."""
        self._rows[0, _EPOCH] += 1

    def line(self, process: int) -> BoardRow:
        """Return the numbers of a process."""
        row = self._rows[1 + process].tolist()
        return BoardRow(row[_CONNECTIONS], bool(row[_ACCEPTS]), LogPosition(row[_APPLIED]), bool(row[_READY]))

    def write(self, process: int, line: BoardRow) -> None:
        """Write the numbers of a process."""
        self._rows[1 + process, :4] = line

    def clear(self, process: int) -> None:
        """Forget a process that is gone."""
        self._rows[1 + process] = 0

    def count_connections(self, process: int, connections: int) -> None:
        """Write the number of a process's connections."""
        self._rows[1 + process, _CONNECTIONS] = connections

    def is_fuller_than_another(self, process: int) -> bool:
        """Return whether a process that takes connections has fewer of them than this one."""
        rows = self._rows[1:]
        takes = rows[:, _ACCEPTS] != 0
        own = rows[process, _CONNECTIONS]
        return bool((takes & (rows[:, _CONNECTIONS] < own)).any())
