"""Live fragments of pages: models with their trainings, an experiment with its report, the newest dead letters.

A fragment is made of what its page reads, once for all viewers at an address, and sent to each of them when it changed.
Some of that takes long: a report is statistics of up to 400,000 units, and a list of dead letters is read from files of
up to 32 MiB, both on threads that take the interpreter from answers. So all fragments together are made for at most one
hundredth of the time: what took 300 ms is made anew 30 s later. Slates of that share alone can be slower, and their p99
is what it is without a viewer. Nothing is made while nobody looks.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from midstream.core.errors import Fault
from midstream.engine.requests.schema import PAGE
from midstream.serving.console.api_reader import ApiReader
from midstream.serving.console.page_address import PageAddress
from midstream.serving.console.page_templates import Templates
from midstream.serving.console.pages import PAGES
from midstream.serving.http.problems import RouteUnknown

LOOK_MS: Final = 2_000
"""Between two looks of a stream at its fragment."""
PAUSE_MS_MIN: Final = 2_000
"""Between two makings of a fragment."""
FEEDS_MAX: Final = 64
"""Fragments that are kept, with those of viewers who left: three times the streams, some 50 kB each."""
SHARE: Final = 100
"""All fragments together are made for one part of so many of the time."""
FRAGMENTS: Final[Mapping[str, str]] = {
    "/models": "models_live.html",
    "/experiments/{name}": "experiment_live.html",
    "/dead-letters": "dead_letters_live.html",
}
"""Pages that are live, as ``PAGES`` has them → template of the fragment that is sent anew."""
UNCHANGED: Final = b": unchanged\n\n"
"""A comment, which tells a server that a viewer is gone and a browser nothing."""
_EXPERIMENT: Final = re.compile(r"/experiments/([\w.~%-]{1,200})", re.ASCII)


@dataclass(slots=True, eq=False)
class _Feed:
    """One fragment at one address."""

    viewers: int = 0
    event: bytes = b""
    made: int = 0
    """How often it was made."""
    due_ms: int = 0
    """Not made anew before; also where all viewers left and one comes again."""
    making: asyncio.Lock = field(default_factory=asyncio.Lock)


def event_of(text: str) -> bytes:
    """Return a fragment as a server-sent event."""
    return "".join(f"data: {line}\n" for line in text.splitlines()).encode() + b"\n"


def live_page(path: str) -> tuple[str, PageAddress]:
    """Return the page at a path below ``/console`` as ``PAGES`` has it, and the address that it is made for.

    Raises:
        RouteUnknown: No page that is live has this path.
    """
    if path in FRAGMENTS and "{" not in path:
        return path, PageAddress({}, {})
    found = _EXPERIMENT.fullmatch(path)
    if found is None:
        fault = Fault("page", f'"{path[:60]}" is no page that is live.', ", ".join(FRAGMENTS), PAGE)
        raise RouteUnknown((fault,))
    return "/experiments/{name}", PageAddress({"name": found[1]}, {})


class LivePages:
    """Fragments that viewers share, and the streams that are open."""

    def __init__(self, api: ApiReader, templates: Templates, now_ms: Callable[[], int]) -> None:
        """Make nothing yet; ``now_ms`` is a clock that never goes back."""
        self._api = api
        self._templates = templates
        self._now_ms = now_ms
        self._feeds: dict[tuple[str, str], _Feed] = {}
        """By path and by what stands before it."""
        self.open = 0
        """Streams that are sent now."""

    async def stream(self, path: str, base: str, looks: int) -> AsyncGenerator[bytes]:
        """Yield the fragment of a page as events, at each look where it was made anew and changed.

        What was made before the stream began is not sent: the viewer has a newer page.

        Args:
            path: Of the page, below ``/console``; one that ``live_page`` knows.
            base: What stands before ``/console``.
            looks: After so many the stream ends, or when the viewer goes.
        """
        feed = self._feed(path, base)
        feed.viewers += 1
        self.open += 1
        made, sent = feed.made, b""
        try:
            for _ in range(looks):
                await self._make_due(feed, path, base)
                is_news = feed.made > made and feed.event != sent
                sent = feed.event if is_news else sent
                yield sent if is_news else UNCHANGED
                await asyncio.sleep(LOOK_MS / 1_000)
        finally:
            self.open -= 1
            feed.viewers -= 1

    def _feed(self, path: str, base: str) -> _Feed:
        """Return the feed of an address; those that nobody looks at go once they could be made anew."""
        found = self._feeds.pop((path, base), _Feed())
        if len(self._feeds) >= FEEDS_MAX:
            self._feeds = {at: each for at, each in self._feeds.items() if each.viewers}
        now_ms = self._now_ms()
        self._feeds = {at: each for at, each in self._feeds.items() if each.viewers or now_ms < each.due_ms}
        self._feeds[path, base] = found
        return found

    async def _make_due(self, feed: _Feed, path: str, base: str) -> None:
        """Make the event of a feed anew where it is due. The first viewer makes it, the others wait."""
        async with feed.making:
            began_ms = self._now_ms()
            if began_ms < feed.due_ms:
                return
            page, at = live_page(path)
            try:
                shown = await PAGES[page](self._api, at)
                text = await asyncio.to_thread(self._templates.render, FRAGMENTS[page], base, shown.values)
                feed.event, feed.made = event_of(text), feed.made + 1
            finally:
                ended_ms = self._now_ms()
                # The pause grows with the number of fragments that others look at.
                viewed = sum(each.viewers > 0 for each in self._feeds.values())
                feed.due_ms = ended_ms + max(PAUSE_MS_MIN, SHARE * (ended_ms - began_ms) * max(viewed, 1))
