"""Status of each model that placements name: the version in service, or why there is none and the next command.

A missing version is a warning, since placements answer without it: a shop is configured before anything is trained. A
promoted version that cannot be loaded is a problem.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from midstream.app.inspect.folder_view import AnsweringView
from midstream.engine.models.standing_models import REFUSALS, refusal_text
from midstream.ranking.plan import Plan


@dataclass(frozen=True, slots=True)
class ModelStanding:
    """One model of one placement."""

    placement: str
    name: str
    version: str
    """That answers; empty = none does."""
    warning: str
    """Reason of a missing version, and the next command; empty = there is a version, or a problem."""
    problem: str
    """Fault of the version that is or would be promoted; empty = none."""

    @property
    def concern(self) -> str:
        """The model and why no version of it answers, or not the wanted one; empty = all is well."""
        told = self.problem or self.warning
        return f"model {self.name}: {told}" if told else ""


def model_standings(view: AnsweringView) -> Sequence[ModelStanding]:
    """Return every model that a placement names, in the order of placements and names."""
    return tuple(_standings(view))


def _standings(view: AnsweringView) -> Iterator[ModelStanding]:
    refused = view.standing.why_refused
    for plan in view.plans.values():
        for name in plan.model_names:
            if name in plan.pinned:
                yield _pinned(view, plan, name)
                continue
            loaded = view.standing.loaded.get(name)
            version = "" if loaded is None else loaded.version
            problem, warning = "", ""
            if name in refused:
                instead = f"{version} answers in its place" if version else "it is answered without"
                problem = f"the version in service is refused, {instead}: {refused[name]}"
            elif not version:
                problem, warning = _lacking(view, name)
            yield ModelStanding(plan.name, name, version, warning, problem)


def _pinned(view: AnsweringView, plan: Plan, name: str) -> ModelStanding:
    """Return the status of a version that a placement pins: a refused one is answered without, and not replaced."""
    wanted, version = plan.pinned[name], plan.models.versions.get(name, "")
    refused = {(each.name, each.version): each.why for each in view.standing.unpinned}
    problem = f"the pinned version is refused, it is answered without: {refused[name, wanted]}" if not version else ""
    return ModelStanding(plan.name, name, version, "", problem)


def _lacking(view: AnsweringView, name: str) -> tuple[str, str]:
    """Return what is wrong with the newest version of a model that was never promoted, or what to do: one is empty."""
    versions = view.registry.versions(name)
    if not versions:
        remedy = f"midstream train {name}, then midstream models promote {name}"
        return "", f"no version is there yet, answered without it: {remedy}"
    try:
        view.registry.load(name, versions[-1])
    except REFUSALS as error:
        return f"its newest version cannot be loaded: {refusal_text(versions[-1], error)}", ""
    return "", f"no version is in service, answered without it: midstream models promote {name}"
