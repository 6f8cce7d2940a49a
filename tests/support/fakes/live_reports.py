"""Live reports of experiments in which nobody was yet, for tests of what stands in front of an engine."""

from midstream.engine.experiments.live_report import LiveReport


class FakeReports:
    """A report of no unit."""

    async def report(self, name: str) -> LiveReport:
        """Return what an experiment shows before its first slate."""
        return LiveReport(name=name, state="running", why_not="No unit was in it yet.")
