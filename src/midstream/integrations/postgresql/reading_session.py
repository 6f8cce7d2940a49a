"""Session of PostgreSQL for reading: each question a transaction that only reads, given up when it takes too long.

Nothing is kept in the session, so a pooler in transaction mode may stand between. It is opened by the first question,
and closed by an error that is not one of values: the next question opens another one.
"""

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from os import dup
from typing import Any

from midstream.core.errors import Invalid
from midstream.engine.inputs.broker_consumer import BrokerUnavailable
from midstream.engine.stores.address import address_of
from midstream.integrations.postgresql.connection import PORT, SCHEME, PostgresqlServer, library, session_settings
from midstream.integrations.postgresql.tables import SETTINGS, said


class ReadingSession:
    """One session, of a follower of one table. One thread at a time."""

    def __init__(self, server: PostgresqlServer, table: str, opened: Callable[[], None]) -> None:
        """Prepare; nobody is asked.

        Args:
            server: Where the table is.
            table: For errors.
            opened: Called with each session that is opened: what was known by the one before is not known any more.
        """
        self.library = library()
        """Of the client."""
        self.name = f"PostgreSQL at {address_of(server.url, SCHEME, PORT).shown}"
        """Of the server, for messages to people."""
        self._settings = session_settings(server, is_read_only=True)
        self._give_up_s = server.give_up.ms / 1_000
        self._table = table
        self._opened = opened
        self._session: Any = None
        self._renew: Callable[[], None] = _nothing

    def renew(self) -> None:
        """Begin the time of an answer anew, as for the next part of it."""
        self._renew()

    def close(self) -> None:
        """End the session; the next question opens another one."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    @contextmanager
    def asking(self, *, is_raw: bool = False) -> Generator[Any]:
        """Give a session in a transaction that only reads, and close it where that fails.

        Args:
            is_raw: Errors of values are those of the library.

        Raises:
            BrokerUnavailable: The server does not answer, refuses the login, or cannot read the table.
        """
        is_good = False
        try:
            if self._session is None:
                self._session = self.library.connect(**self._settings, client_encoding="utf8")
                self._opened()
            session = self._session
            with _given_up_after(session, self._give_up_s) as self._renew, session.transaction():
                session.execute("SET TRANSACTION READ ONLY")
                session.execute(SETTINGS)
                yield session
            is_good = True
        except self.library.DataError as error:
            is_good = True
            if is_raw:
                raise
            raise BrokerUnavailable(f"{self.name}: {said(error)}") from error
        except Invalid as error:
            is_good = True
            told = "; ".join(f"{each.where}: {each.came} Right: {each.right}" for each in error.faults)
            raise BrokerUnavailable(f"{self.name}, table {self._table}: {told}") from error
        except (self.library.Error, OSError) as error:
            raise BrokerUnavailable(f"{self.name}: {said(error)}") from error
        finally:
            if not is_good:
                self.close()


def _nothing() -> None:
    """Do nothing."""


@contextmanager
def _given_up_after(session: Any, wait_s: float) -> Generator[Callable[[], None]]:  # noqa: ANN401  a session of the library
    """End a session whose server has not answered in time, as one that stands still would be waited for for ever.

    Gives what begins the time anew, as for the next part of an answer.
    """
    line = socket.socket(fileno=dup(session.fileno()))
    timer: threading.Timer | None = None

    def give_up() -> None:
        with suppress(OSError):  # the server has ended it
            line.shutdown(socket.SHUT_RDWR)

    def renew() -> None:
        nonlocal timer
        if timer is not None:
            timer.cancel()
        timer = threading.Timer(wait_s, give_up)
        timer.daemon = True
        timer.start()

    renew()
    try:
        yield renew
    finally:
        if timer is not None:
            timer.cancel()
        line.close()
