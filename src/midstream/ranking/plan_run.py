"""One run of a plan: its parts, the moment that they read, and the account of what they fail at and take."""

from dataclasses import dataclass, replace

from midstream.core.types import Moment
from midstream.ranking.boundary import Account
from midstream.ranking.plan import Plan


@dataclass(frozen=True, slots=True, eq=False)
class PlanRun:
    """What each step that reads state is given: it asks parts of the plan at the moment, within the account."""

    plan: Plan
    moment: Moment
    account: Account

    def known(self) -> "PlanRun":
        """Return the run that goes on without the parts that failed so far."""
        return replace(self, plan=self.plan.less(self.account.failures))
