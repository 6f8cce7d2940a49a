"""Placements in a dict, for tests of what stands in front of an engine."""

import msgspec

from midstream.core.answers.placements import AsideView, PlacementDetail, PlacementVersionView, PlacementView
from midstream.core.errors import MidstreamError, NotFound
from midstream.engine.placements.control_changes import Said
from midstream.engine.placements.views import Preview, document_of, origin_of
from midstream.engine.types import Answer, Ask
from midstream.state.control.placements import PlacementVersion, hash_of

OWN = frozenset({"default"})
"""Names that the file has."""


class FakePlacing:
    """A file with one placement, and what is said of others; fails as ``failure`` says."""

    failure: MidstreamError | None = None

    def __init__(self) -> None:
        """Begin with what the file has."""
        self._versions: dict[str, list[PlacementVersion]] = {}

    def views(self) -> list[PlacementView]:
        """Return what answers each."""
        names = {*OWN, *(name for name, each in self._versions.items() if each[-1].content)}
        return [self._view(name) for name in sorted(names)]

    def aside(self) -> list[AsideView]:
        """Return none."""
        return []

    def view(self, name: str) -> PlacementDetail:
        """Return what is known of one, or raise ``NotFound``."""
        rows = self._versions.get(name, [])
        if name not in OWN and not rows:
            message = f"placement {name!r} is not configured"
            raise NotFound(message)
        last = rows[-1] if rows else None
        content = document_of(last.content) if last is not None else None
        return PlacementDetail(name, origin_of(name, last, OWN, frozenset()), content, None, [], self._told(rows))

    async def put(self, name: str, told: object, said: Said) -> PlacementDetail:
        """Say the next version of one."""
        return self._say(name, msgspec.json.encode(told).decode(), said)

    async def remove(self, name: str, said: Said) -> PlacementDetail:
        """Give one back, or raise ``NotFound``."""
        if not self._versions.get(name, [])[-1:] or not self._versions[name][-1].content:
            message = f"no placement {name!r} is set"
            raise NotFound(message)
        return self._say(name, "", said)

    async def preview(self, name: str, _told: object, ask: Ask) -> Preview:
        """Answer with nothing."""
        if self.failure is not None:
            raise self.failure
        answer = Answer("", ask.placement, (), "full", "", None, 0, "fake", ())
        return Preview(answer, answer if name in OWN else None)

    def _say(self, name: str, content: str, said: Said) -> PlacementDetail:
        if self.failure is not None:
            raise self.failure
        rows = self._versions.setdefault(name, [])
        row = PlacementVersion(name, len(rows) + 1, content, hash_of(content), said.author, said.note, len(rows), 1_000)
        rows.append(row)
        return self.view(name)

    def _view(self, name: str) -> PlacementView:
        rows = self._versions.get(name, [])
        last = rows[-1] if rows else None
        origin = origin_of(name, last, OWN, frozenset())
        said = (None, None, None) if last is None else (last.version, last.author, last.log_time_ms)
        return PlacementView(name, "fake", [], [], [], 20, 50, origin, origin == "api" and name in OWN, *said)

    def _told(self, rows: list[PlacementVersion]) -> list[PlacementVersionView]:
        return [
            PlacementVersionView(
                each.version, each.author, each.note, 1_000, "", each.sha256, document_of(each.content)
            )
            for each in rows
        ]
