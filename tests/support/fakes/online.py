"""Online metrics before their first round, for tests of what stands in front of an engine."""

from midstream.engine.online.views import NOTHING


class FakeOnline:
    """Figures of no slate."""

    def __init__(self) -> None:
        """Begin without a round."""
        self.view = NOTHING
