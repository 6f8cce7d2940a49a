"""Operations bound to a driver: one definition is a blocking method of one client and a coroutine of the other.

A descriptor holds the generator function. Read from a client that blocks it is a function that returns the result,
read from one on an event loop a coroutine function; type checkers see both through the overloads.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from midstream.client.exchange import ClientSession, Exchange

P = ParamSpec("P")
T = TypeVar("T")
Row = TypeVar("Row")
Page = tuple[list[Row], str | None]
"""Rows, and the cursor of the next page; None = the list ends here."""


class BlockingDriver(ABC):
    """Runs exchanges to their end on the calling thread."""

    session: ClientSession

    @abstractmethod
    def drive(self, exchange: Exchange[T]) -> T:
        """Return the result of an exchange."""

    def drive_pages(self, page: Callable[[str | None], Exchange[Page[Row]]]) -> Iterator[Row]:
        """Yield the rows of all pages; a page is requested when the one before is used up."""
        cursor: str | None = None
        while True:
            rows, cursor = self.drive(page(cursor))
            yield from rows
            if cursor is None:
                return


class AwaitingDriver(ABC):
    """Runs exchanges on the event loop of the caller."""

    session: ClientSession

    @abstractmethod
    async def drive(self, exchange: Exchange[T]) -> T:
        """Return the result of an exchange."""

    async def drive_pages(self, page: Callable[[str | None], Exchange[Page[Row]]]) -> AsyncIterator[Row]:
        """Yield the rows of all pages; a page is requested when the one before is used up."""
        cursor: str | None = None
        while True:
            rows, cursor = await self.drive(page(cursor))
            for row in rows:
                yield row
            if cursor is None:
                return


class HasSession(Protocol):
    """A client, as operations see it."""

    session: ClientSession


class operation(Generic[P, T]):  # noqa: N801  read as a decorator
    """An operation with one result."""

    def __init__(self, build: Callable[Concatenate[Any, P], Exchange[T]]) -> None:
        """Keep the generator function, whose documentation this is."""
        self._build = build
        functools.update_wrapper(self, build)  # type: ignore[arg-type]  # name and text alone

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: BlockingDriver, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AwaitingDriver, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: BlockingDriver | AwaitingDriver | None, owner: type) -> object:
        """Return the method of a client."""
        if client is None:
            return self

        @functools.wraps(self._build)
        def bound(*args: P.args, **kwargs: P.kwargs) -> object:
            return client.drive(self._build(client, *args, **kwargs))

        return bound


class listing(Generic[P, Row]):  # noqa: N801  read as a decorator
    """An operation whose result is read page by page."""

    def __init__(self, build: Callable[Concatenate[Any, str | None, P], Exchange[Page[Row]]]) -> None:
        """Keep the generator function of one page, which takes the cursor first."""
        self._build = build
        functools.update_wrapper(self, build)  # type: ignore[arg-type]  # name and text alone

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: BlockingDriver, owner: type) -> Callable[P, Iterator[Row]]: ...
    @overload
    def __get__(self, client: AwaitingDriver, owner: type) -> Callable[P, AsyncIterator[Row]]: ...
    def __get__(self, client: BlockingDriver | AwaitingDriver | None, owner: type) -> object:
        """Return the method of a client."""
        if client is None:
            return self

        @functools.wraps(self._build)
        def bound(*args: P.args, **kwargs: P.kwargs) -> object:
            return client.drive_pages(lambda cursor: self._build(client, cursor, *args, **kwargs))

        return bound
