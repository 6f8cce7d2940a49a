"""Run of a plan: its components, the moment that they read, and the account of failures and times."""

from dataclasses import dataclass, replace

from midstream.core.types import Moment
from midstream.ranking.boundary import Account
from midstream.ranking.plan import Plan


@dataclass(frozen=True, slots=True, eq=False)
class PlanRun:
    """Argument of each step that reads state: the plan, the moment and the account."""

    plan: Plan
    moment: Moment
    account: Account

    def known(self) -> "PlanRun":
        """Return the run without the components that failed so far."""
        return replace(self, plan=self.plan.less(self.account.failures))
