"""Reruns of logged requests: state, plan and models of their log position, and the comparison of the slates.

The state is folded from the nearest snapshot before the logged position, by the settings of the record's fold version.
A missing input (the configuration, a version of a model, a state of that version) is reported instead of an answer;
differences of the answer are reported field by field. Only the log, snapshots and models are read, so this runs beside
a server.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.config.component_constraints import unnamed_faults
from midstream.app.config.schema import Config, Placement
from midstream.app.config_history import config_named, keyed
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, config_to_read, loaded_state
from midstream.app.wiring import declarations, placements, plan
from midstream.core.answers.explanations import FieldDifference
from midstream.core.coroutines import result_of
from midstream.core.errors import ConfigInvalid, MidstreamError, NotFound, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition, Models, Moment, Query, Served
from midstream.engine.answer.lookups import ERASED, require_asker
from midstream.engine.answer.query_mapping import ids_of
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import open_reader
from midstream.engine.models.standing_models import models_of
from midstream.events.schema import event_at
from midstream.events.served_body import ServedBody, decode_body
from midstream.features.declarations import Declarations
from midstream.ranking.explain.differences import differences
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.plan import Plan
from midstream.ranking.record.outside_scores import outside_scores
from midstream.ranking.record.served import ServedRecord, decode_served, encode_served
from midstream.ranking.rules.traces import pack_traces
from midstream.ranking.team_answers import teams_of
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings
from midstream.state.structures.hashing import id_hash
from midstream.training.registry import LoadedVersion, Registry

PLANS_MAX = 64
"""Plans kept while many requests are run again: of as many placements and configurations."""


class Gone(Exception):
    """Something that the rerun of a request needs is not there any more; within this module."""

    def __init__(self, field: str, then: str, now: str) -> None:
        """Keep what it is, as a difference."""
        super().__init__(f"{field}: {then}: {now}")
        self.difference = FieldDifference(field, then, now)


@dataclass(frozen=True, slots=True, eq=False)
class Rerun:
    """A logged request, run again."""

    logged: ServedBody
    differences: tuple[FieldDifference, ...]
    """None = the answers are identical to the bit."""
    served: Served | None = None
    """With its full trace; None = it could not be rerun; a difference has the reason."""
    plan: Plan | None = None
    """That answered."""
    moment: Moment | None = None
    """The state that was answered from; valid until the next request is run again."""

    @property
    def is_identical(self) -> bool:
        """Whether it was run again and nothing differs."""
        return self.served is not None and not self.differences


@dataclass(frozen=True, slots=True, eq=False)
class Then:
    """What a served record was answered by and from; valid until the next one is prepared."""

    record: ServedRecord
    plan: Plan
    fold: Fold
    observe: Callable[[Query], Moment]
    teams: tuple[Plan, ...] = ()
    """Plans that drafted the slate; none = it was not drafted."""


class Reruns:
    """Runs logged requests of one folder again, best in the order of the log positions that they saw."""

    def __init__(self, folder: Path, notify: Notify = nobody) -> None:
        """Look at a folder.

        Args:
            folder: Of the configuration file and the data.
            notify: Told how far a fold is.

        Raises:
            LogDamaged: There is no log, or it cannot be trusted.
        """
        self._folder, self._notify = folder, notify
        self._data = DataFolder(folder / DATA_NAME)
        self.log = open_reader(self._data)
        self._registry = Registry(self._data.models)
        self._configs: dict[str, tuple[Config, Declarations]] = {}
        self._found_settings: dict[tuple[str, str], FoldSettings] = {}
        self._models: dict[tuple[str, str], LoadedVersion] = {}
        self._plans: dict[tuple[str, str, str], Plan] = {}
        self._fold: Fold | None = None

    def again(self, body: bytes) -> Rerun:
        """Return the rerun of a served record.

        Args:
            body: Of the served event. Cost: the fold from the nearest snapshot, or from the request before, on.

        Raises:
            NotFound: It is no record, or a redacted one of an erased user.
            LogDamaged: The log cannot be trusted.
        """
        try:
            then = self.prepared(body)
            continued = self._continued(then.record, then.fold)
            answering = rerun(then.plan, then.observe, then.record, continued, then.teams)
            served = result_of(asyncio.run, answering)
        except Gone as gone:
            return Rerun(decode_body(body), (gone.difference,))
        except RequestInvalid as error:
            return Rerun(decode_body(body), (FieldDifference("query", "answered", str(error)),))
        made, fold, observe, logged = then.plan, then.fold, then.observe, decode_body(body)
        scores = outside_scores(served, made.remote, fold.vocabulary)
        traces = pack_traces(served, fold.vocabulary)
        found = differences(logged, decode_body(encode_served(served, ids_of(served, fold), traces, scores)))
        return Rerun(logged, found, served, made, observe(served.query))

    def prepared(self, body: bytes) -> Then:
        """Return what a served record was answered by and from, as ``again`` runs it.

        Raises:
            NotFound: It is no record, or a redacted one of an erased user.
            Gone: Something of it is not there any more.
            LogDamaged: The log cannot be trusted.
        """
        require_asker(body)
        record = decode_served(body)
        _require_whole(record)
        self._require_events(record.log_position)
        config, declared = self._config(record.config_hash)
        settings = self._settings(config, record.fold_version)
        told = decode_body(body)
        made = self._plan(config, declared, settings, told)
        names = () if record.query.continues else teams_of(record.source_names, record.scorer)
        teams = tuple(self._plan(config, declared, settings, told, name) for name in names)
        fold = self._state(settings, record.log_position)
        return Then(record, made, fold, partial(fold.moment, models=made.models), teams)

    def _continued(self, record: ServedRecord, fold: Fold) -> ServedRecord | None:
        """Return the record of the slate that one continues, None = it continues none."""
        if not record.query.continues:
            return None
        position = fold.requests.find(id_hash(record.query.continues, fold.vocabulary.id_key))
        if position is None or position < self.log.begin:
            raise Gone("continues", record.query.continues, "the slate that it continues is not kept any more")
        ((_, batch), *_) = self.log.read(position, 1, LogPosition(position + 1))
        return decode_served(event_at(batch, 0).body)

    def _require_events(self, position: LogPosition) -> None:
        if position < self.log.begin:
            raise Gone("log_position", str(position), f"events before {self.log.begin} are gone")

    def _config(self, config_hash: str) -> tuple[Config, Declarations]:
        """Return the effective configuration of a hash, and what it declares."""
        if config_hash not in self._configs:
            config = self._read_config(config_hash)
            try:
                self._require_named(config)
                settings = keyed(self._data, config.fold_settings())
                self._configs[config_hash] = config, declarations(config, settings, self._folder)
            except ConfigInvalid as error:
                raise Gone("config_hash", config_hash, str(error)) from error
        return self._configs[config_hash]

    def _require_named(self, config: Config) -> None:
        """Refuse code that is not named now: a configuration of then is data, wherever it comes from.

        Raises:
            ConfigInvalid: There is such a path, or the file of now cannot be read to tell.
        """
        if any(unnamed_faults(Config(), config)) and (
            faults := tuple(unnamed_faults(config_to_read(self._folder), config))
        ):
            raise ConfigInvalid(faults)

    def _read_config(self, config_hash: str) -> Config:
        try:
            return config_named(self._data, config_hash)
        except NotFound as error:
            config = config_to_read(self._folder)  # of a folder whose log was written without a server
            if config.config_hash != config_hash:
                raise Gone("config_hash", config_hash, str(error)) from error
            return config

    def _settings(self, config: Config, fold_version: str) -> FoldSettings:
        """Return the settings that give a fold version: those of the configuration, under a compaction or none."""
        key = (config.config_hash, fold_version)
        if key in self._found_settings:
            return self._found_settings[key]
        plain = keyed(self._data, config.fold_settings())
        names = ("", *(path.stem for path in sorted(self._data.compactions.glob("*.npy"))))
        for name in names:
            settings = msgspec.structs.replace(plain, compaction=name)
            if settings.version() == fold_version:
                self._found_settings[key] = settings
                return settings
        raise Gone("fold_version", fold_version, f"the same configuration gives {plain.version()} in this release")

    def _plan(
        self, config: Config, declared: Declarations, settings: FoldSettings, logged: ServedBody, name: str = ""
    ) -> Plan:
        """Return the plan of the answer, or of a placement of a name, with the answer's models."""
        name = name or logged.placement
        key = (config.config_hash, settings.version(), name)
        if key not in self._plans:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            placement = _placement(config, name)
            try:
                self._plans[key] = plan(config, placement, settings, Models({}), self._folder, declared)
            except ConfigInvalid as error:
                raise Gone("config_hash", config.config_hash, str(error)) from error
        loaded = {name: self._model(name, version) for name, version in logged.models.items()}
        return replace(self._plans[key], models=models_of(loaded))

    def _model(self, name: str, version: str) -> LoadedVersion:
        key = (name, version)
        if key not in self._models:
            try:
                self._models[key] = self._registry.load(name, version)
            except (MidstreamError, OSError) as error:
                raise Gone(f"models.{name}", version, str(error)) from error
        return self._models[key]

    def _state(self, settings: FoldSettings, position: LogPosition) -> Fold:
        """Return the state at a log position."""
        fold = self._fold
        if fold is None or fold.settings.version() != settings.version() or fold.log_position > position:
            self._fold = None  # so that there is one state in memory, not two
            fold = loaded_state(self._data, settings, self.log, position).fold
        for first, batch in batches(partial(self._read, position), fold.log_position, position):
            fold.apply(first, batch)
            self._notify("folding", fold.log_position, position)
        self._fold = fold
        return fold

    def _read(self, durable: LogPosition, after: LogPosition, limit: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        return self.log.read(after, limit, durable)


def _require_whole(record: ServedRecord) -> None:
    if not record.rerunnable:
        raise Gone("rerunnable", "false", "what was asked from outside took more bytes than a record has for it")


def _placement(config: Config, name: str) -> Placement:
    found = next((each for each in placements(config) if each.name == name), None)
    if found is None:
        raise Gone("placement", name, "the configuration of then has no such placement")
    return found


def rerun_last(folder: Path, newest: int, notify: Notify = nobody) -> Iterator[Rerun]:
    """Yield the reruns of the newest requests of a folder's log. A server may have the folder open.

    Raises:
        ConfigInvalid: The configuration of the folder cannot be used.
        LogDamaged: The log cannot be trusted.
    """
    reruns = Reruns(folder, notify)
    yield from map(reruns.again, logged_requests(LogView(folder), config_to_read(folder), newest))


def logged_requests(log: LogView, config: Config, newest: int) -> list[bytes]:
    """Return the newest served records of a log, in the order of the log positions of their states.

    Args:
        log: It is read as a whole. Cost: 1 s for 5 million events.
        config: Defines copies of events.
        newest: Maximum number. Those of erased users, and of other versions of the program, are left out.
    """
    hidden = log.hidden(config)
    found: deque[tuple[int, bytes]] = deque(maxlen=newest)
    for first, batch in batches(log.read, log.begin, log.end):
        for row in np.flatnonzero(batch.rows["kind"] == Kind.SERVED).tolist():
            event = event_at(batch, row)
            told = None if hidden(event, first + row) else _told(event.body)
            if told is not None:
                found.append((told.log_position, event.body))
    return [body for _, body in sorted(found, key=lambda each: each[0])]


def find_request(log: LogView, config: Config, request_id: str) -> bytes:
    """Return the served record of a request.

    Raises:
        NotFound: There is none, or its user was erased since; the text has the cause.
    """
    wanted = request_id.encode()
    for first, batch in batches(log.read, log.begin, log.end):
        if wanted not in batch.text:
            continue
        for row in np.flatnonzero(batch.rows["kind"] == Kind.SERVED).tolist():
            event = event_at(batch, row)
            if event.request_id == request_id:
                if log.hidden(config)(event, first + row):
                    raise NotFound(ERASED)
                return event.body
    message = f'No request "{request_id[:64]}" is in this log, or it is older than what is kept, or of an erased user.'
    raise NotFound(message)


def _told(body: bytes) -> ServedBody | None:
    try:
        told = decode_body(body)
    except ValueError:
        return None
    return told if told.request_id else None
