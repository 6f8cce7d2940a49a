"""Inputs of a server without a broker: one that is called clicks, with two partitions of a hundred messages."""

from collections.abc import Mapping
from dataclasses import replace

from midstream.core.errors import Fault, Invalid, NotFound
from midstream.engine.types import InputView, PartitionView

END = 100


class FakeInputs:
    """The routes' side of an ``InputGroup``."""

    def __init__(self) -> None:
        self._view = InputView(
            "clicks", "shop.clicks", "reading", tuple(PartitionView(each, "40", 60) for each in ("0", "1")), 120, 80, 0
        )

    def views(self) -> tuple[InputView, ...]:
        """Return the one that there is."""
        return (self._view,)

    def view(self, name: str) -> InputView:
        """Return it by its name."""
        if name != self._view.name:
            raise NotFound(name)
        return self._view

    async def move(self, name: str, positions: Mapping[str, str] | str) -> InputView:
        """Have it read on from elsewhere."""
        view = self.view(name)
        if isinstance(positions, str):
            positions = dict.fromkeys(("0", "1"), {"earliest": "0", "latest": str(END)}.get(positions, "50"))
        known = {each.partition: each.position for each in view.partitions}
        faults = [
            Fault(f"/positions/{each}", f"{at} came.", f"From 0 to {END}.", "/docs/inputs.md")
            for each, at in positions.items()
            if each not in known or int(at) > END
        ]
        if faults:
            raise Invalid(tuple(faults))
        parts = tuple(PartitionView(each, at, END - int(at)) for each, at in {**known, **positions}.items())
        self._view = replace(view, partitions=parts)
        return self._view
