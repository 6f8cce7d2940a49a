"""Spans of an answer: one for each part of its plan, made of the clock readings that its account or the kernels have.

Nothing is measured for them alone where an answer is not traced. A slate of one kernel has one span for all that the
kernel does, with the counts of what each source found and each filter removed.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from midstream.core.types import Served
from midstream.monitoring.tracing import Attribute, RequestTrace
from midstream.ranking.boundary import Account, PartTime
from midstream.ranking.compiled import room
from midstream.ranking.compiled.compiled_plan import CompiledPlan
from midstream.ranking.plan import Plan, block_name

KERNEL: Final = "kernel"
_NO_PARTS: Final[tuple[PartTime, ...]] = ()


def add_answer_spans(trace: RequestTrace, plan: Plan, account: Account, until_s: float, served: Served) -> None:
    """Add the spans of an answer of the pipeline, and what it is to the request's.

    Args:
        trace: Of the request.
        plan: That answered.
        account: Of the answer, with the times of its parts.
        until_s: Deadline by the monotonic clock, which the times of the account count down to.
        served: The answer.
    """
    add_part_spans(trace, plan, account, until_s)
    _add_counts(trace.attributes, served.retrieved, served.removed)
    trace.attributes |= {
        "midstream.placement": served.query.placement,
        "midstream.request_id": served.query.request_id,
        "midstream.tier": served.tier,
        "midstream.scorer": served.scorer,
        "midstream.items": len(served.selection.chosen),
        "midstream.failures": len(served.failures),
    }


def note_kernel_answer(trace: RequestTrace, compiled: CompiledPlan, request_id: str, scorer: str) -> None:
    """Add what an answer of kernels is to the request's span, as ``add_answer_spans`` does."""
    counts = compiled.counts.tolist()
    _add_counts(trace.attributes, *compiled.told(counts))
    trace.attributes |= {
        "midstream.placement": compiled.plan.name,
        "midstream.request_id": request_id,
        "midstream.tier": "full",
        "midstream.scorer": scorer,
        "midstream.items": counts[room.CHOSEN],
        "midstream.failures": 0,
    }


def add_part_spans(trace: RequestTrace, plan: Plan, account: Account, until_s: float) -> None:
    """Add a span for each part of a plan that an account has the times of."""
    kinds = _kinds(plan)
    for name, began_left_s, ended_left_s, error in account.timeline or _NO_PARTS:
        kind = kinds.get(name, "")
        trace.add(f"{kind} {name}".lstrip(), until_s - began_left_s, until_s - ended_left_s, error=error)


def _add_counts(attributes: dict[str, Attribute], retrieved: Mapping[str, int], removed: Mapping[str, int]) -> None:
    attributes |= {f"midstream.retrieved.{name}": count for name, count in retrieved.items()}
    attributes |= {f"midstream.removed.{name}": count for name, count in removed.items() if count}


def _kinds(plan: Plan) -> dict[str, str]:
    """Return the kind of each part of a plan by its name; a scorer of a source's name is known by the source's."""
    found: dict[str, str] = {}
    sources = (*plan.sources, *plan.floor, plan.fill)
    named: tuple[tuple[str, Iterable[str]], ...] = (
        ("scorer", (each.name for each in plan.scorers)),
        ("fetch", (each.name for each in plan.fetches)),
        ("filter", (each.name for each in plan.filters)),
        ("feature block", (block_name(number) for number in range(len(plan.features)))),
        ("source", (each.name for each in sources)),
    )
    for kind, names in named:
        found |= dict.fromkeys(names, kind)
    return found
