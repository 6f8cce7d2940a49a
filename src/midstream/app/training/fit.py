"""Fit and publication of a model: the work of a training process, from the acts of a log to a version.

First a fit on all but the newest acts is evaluated on these, with the most popular items as baseline, for the metrics
of the version; then the model is fitted on all of them. Equal log, configuration and seed give equal arrays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import msgspec
import numpy as np

from midstream.app.config.model_constraints import moment_of, options_of
from midstream.app.config.schema import Config, Model
from midstream.app.config_history import settings_of
from midstream.app.inspect.folder_view import LogView, beginning_of
from midstream.app.opening import DATA_NAME
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.served_requests import ServedRange
from midstream.app.training.champion_comparison import (
    NO_ROOM,
    Champion,
    ChampionComparison,
    champion_of,
    compare_items,
    compare_rows,
)
from midstream.app.training.judged_fit import judged_items_fit, judged_rows_fit, published_figure
from midstream.app.training.ranker_data import MODEL_SOURCES, ROW_BYTES, RankerQuestion, RankerRows, ranker_rows
from midstream.app.training.warm_start import has_learned, item_parent, known_end, loaded_parent, row_parent
from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault, Invalid, MidstreamError, NotFound
from midstream.core.nearest import nearest
from midstream.core.types import Calibration, LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.features.kinds.kinds import columns_of
from midstream.models.artifact.artifact import ArtifactContent, Draft, Window, next_number
from midstream.models.artifact.golden import item_content, made_histories, made_rows, row_content
from midstream.models.histories import Interactions
from midstream.models.kinds import ROW_KINDS, ItemKind, RowKind, is_told_items, item_kind
from midstream.models.loading import READ
from midstream.models.model import ItemModel, RowModel, Watch
from midstream.models.rows.examples import Examples
from midstream.state.tables import sizes_max
from midstream.training.calibrating import calibrated
from midstream.training.datasets import ACT_BYTES, ActOptions, ActReader, Acts
from midstream.training.gates.evidence import JudgedActs
from midstream.training.registry import LoadedVersion, Registry
from midstream.training.validation import row_validation_of, validation_of

PAGE = "/docs/models.md"
READ_SHARE, JUDGED_SHARE = 0.2, 0.6
"""Of a training, about: reading, then the fit that is judged; the rest is the fit on all."""
NOT_JUDGED = "nothing was kept apart to judge by"
SINCE_REQUESTS_MIN = 1_000
"""Requests that are learned and not judged by, from which a fit learns those since an alarm alone."""
Limit: TypeAlias = Callable[[int], None]
Compare: TypeAlias = Callable[[Champion], ChampionComparison]
Fitted: TypeAlias = tuple[Draft, ArtifactContent, dict[str, int], ChampionComparison, JudgedActs]
"""Draft and content of a model, left-out data, the comparison with the champion, and what gates judge by."""


class Trained(msgspec.Struct, frozen=True):
    """Result of a training."""

    name: str
    version: str
    """Of the model that was published."""
    counts: dict[str, int]
    """Size of the training data: ``events``, ``users`` (histories) and ``items``, or ``rows`` and ``requests``."""
    left_out: dict[str, int]
    """Acts that weigh something and were not used, of a ranker slates, positions and sources too, by why."""
    metrics: dict[str, float | None]
    """Of the fit on all but the newest, on these; with those of the most popular items, or of the served order."""
    beside: ChampionComparison | None = None
    """That fit and the version in service, on the same questions."""
    judged: JudgedActs | None = None
    """What gates judge it by."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """Order of a training."""

    folder: Path
    """Holds the data."""
    config: Config
    name: str
    made_ms: int
    """Time of the manifest."""
    start: str = ""
    """Parent version of a warm start; empty = none."""
    champion: str = ""
    """The version in service, with which the new one is compared; empty = none."""
    since_ms: int = 0
    """Log time of an alarm, before which a whole fit of a ranker learns nothing once enough came since; 0 = none."""


def model_named(config: Config, name: str) -> Model:
    """Return the model of a configuration that has a name.

    Raises:
        NotFound: There is none.
        Invalid: It comes from elsewhere.
    """
    by_name = {each.name: each for each in config.models}
    if name not in by_name:
        known = ", ".join(sorted(by_name)) or "none; [[models]] in midstream.toml makes one"
        message = f"no model {name!r} is configured.{nearest(name, by_name)} Models: {known}"
        raise NotFound(message)
    if by_name[name].kind in READ:
        came = f'"{name}" is of kind {by_name[name].kind}, which is not fitted here.'
        right = "midstream models import, or midstream.register_model from a notebook."
        raise Invalid((Fault("model", came, right, "/docs/models.md"),))
    return by_name[name]


def fit_and_publish(fitting: Fitting, watch: Watch, limit: Limit = lambda _bytes: None) -> Trained:
    """Fit a model on the log as it is now, and publish it.

    Args:
        fitting: The order.
        watch: Receives the progress; may stop it.
        limit: Called once the state's tables are reserved, with the bytes that may be allocated from then on.

    Raises:
        NotFound: No such model is configured.
        Invalid: There are no acts to learn from, or the parent version does not fit the model.
        FitStopped: The watch stopped it; nothing was published.
        LogDamaged: The log cannot be trusted.
        ArtifactInvalid: The fitted model fails its golden questions when it is read again, or no number is left for a
            version; nothing was published.
    """
    model = model_named(fitting.config, fitting.name)
    registry = Registry(DataFolder(fitting.folder / DATA_NAME).models, fitting.config.registry.version_bytes_max)
    next_number(registry.folder / model.name)  # an hour is not spent on what can have no name
    work = _fit_rows if model.kind in ROW_KINDS else _fit_items
    log = LogView(fitting.folder)
    parent = loaded_parent(fitting.folder, model, fitting.start, log.identity) if fitting.start else None
    draft, content, left_out, beside, judged = work(fitting, model, log, watch, limit, parent)
    watch.step("publishing", 1.0)
    published = registry.publish(draft, content)
    return Trained(model.name, published, draft.window.counts, left_out, draft.metrics, beside, judged)


def _beside(fitting: Fitting, log: LogView, compare: Compare) -> ChampionComparison:
    """Return what a comparison with the version in service says; that is held no longer than it takes.

    The last fit needs the memory, and is worth as much where the version in service cannot be asked.
    """
    registry = Registry(DataFolder(fitting.folder / DATA_NAME).models, fitting.config.registry.version_bytes_max)
    champion = champion_of(registry, fitting.name, fitting.champion, log.identity)
    try:
        return compare(champion)
    except MemoryError:
        return champion.cannot(f"the version in service cannot be asked: {NO_ROOM}")
    except (MidstreamError, OSError) as error:
        return champion.cannot(f"the version in service cannot be asked: {error}")


def _fit_items(
    fitting: Fitting, model: Model, log: LogView, watch: Watch, limit: Limit, parent: LoadedVersion | None
) -> Fitted:
    """Return what is published of an item model."""
    kind = item_kind(model.kind)
    options = options_of(model, kind)
    acts = acts_of(fitting, model, log, watch.part(0.0, READ_SHARE), limit)
    if not len(acts):
        came = f"The log has no acts that {model.name} learns from. Left out: {dict(acts.left_out) or 'none'}"
        raise Invalid((Fault(f"models.{model.name}", came, "Acts of users or sessions with a weight above 0.", PAGE),))
    metrics: Mapping[str, float | None] = {}
    beside = ChampionComparison(fitting.champion, why_not=NOT_JUDGED)
    first, by_session = acts.cut(model.validation), model.histories == "session"
    if model.validation > 0:
        data = acts.interactions(model.acts_max, first)
        # What a version knows already cannot judge what goes on from it: then a fit that begins anew is judged.
        knows = parent is not None and has_learned(parent.manifest.window, log.identity, first)
        before = None if knows else item_parent(parent)
        judged = _fit_item(kind, data, options, watch.part(READ_SHARE, JUDGED_SHARE), before)
        watch.step("judging", JUDGED_SHARE)
        metrics = validation_of(judged, acts, first, model.acts_max, by_session=by_session)

        def compared(champion: Champion) -> ChampionComparison:
            return compare_items(champion, judged, acts, first, model.acts_max, by_session=by_session)

        beside = _beside(fitting, log, compared)
    data = acts.interactions(model.acts_max)
    fitted = _fit_item(kind, data, options, watch.part(JUDGED_SHARE, 1.0), item_parent(parent))
    counts = {"events": len(acts), "users": acts.owners(), "items": len(acts.vocabulary)}
    window = _window(log, (int(acts.position[0]), int(acts.position[-1]) + 1), acts.log_time_ms, counts, parent)
    draft = _draft(fitting, model, options, window, {**metrics, **kind.figures(fitted)})
    draft = msgspec.structs.replace(draft, vocabulary_hash=acts.vocabulary.content_hash)
    asked = made_histories(len(acts.vocabulary), model.seed)
    published = published_figure(fitted, acts, first, model.acts_max, by_session=by_session) if metrics else None
    gated = judged_items_fit(metrics, beside, published)
    return draft, item_content(fitted, asked, kind.files(fitted)), dict(acts.left_out), beside, gated


def _fit_item(
    kind: ItemKind[Any], data: Interactions, options: msgspec.Struct, watch: Watch, parent: ItemModel | None
) -> ItemModel:
    """Return what is fitted, beginning with a parent where there is one."""
    if parent is None or kind.go_on is None:
        return kind.fit(data, options, watch)
    return kind.go_on(parent, data, options, watch)


def _fit_rows(
    fitting: Fitting, model: Model, log: LogView, watch: Watch, limit: Limit, parent: LoadedVersion | None
) -> Fitted:
    """Return what is published of a ranker."""
    kind = ROW_KINDS[model.kind]
    options = options_of(model, kind)
    # The state is folded once for features and once for outcomes, each with tables that are reserved and hardly used.
    limit(model.memory_bytes_max + 2 * sum(sizes_max(fitting.config.fold_settings()).values()))
    asked = question_of(fitting, model, log)
    if parent is not None:
        asked = _after(asked, parent.manifest.window.end_ms)
    found = _rows_of(fitting, model, asked, watch.part(0.0, READ_SHARE))
    # What a slate is worth is known when its outcome window is over; what was acted on in a replay, at once.
    gap_ms = 0 if asked.is_replay else fitting.config.feedback.window.ms
    rows = (
        found.examples
        if parent is not None
        else _rows_since(found.examples, fitting.since_ms, model.validation, gap_ms)
    )
    metrics: Mapping[str, float | None] = {}
    line: Calibration | None = None
    beside = ChampionComparison(fitting.champion, why_not=NOT_JUDGED)
    later: Examples | None = None
    if model.validation > 0:
        parts = rows.split(model.validation, gap_ms)
        part = watch.part(READ_SHARE, JUDGED_SHARE)
        metrics, line, beside = _judged(
            model, options, parts, part, (row_parent(parent), fitting.champion, partial(_beside, fitting, log))
        )
        later = parts[1] if metrics else None
        between = len(rows.time_ms) - sum(len(each.time_ms) for each in parts)
        metrics = {**metrics, "gap_requests": float(between)} if gap_ms else metrics
        if MODEL_SOURCES in found.left_out:  # these figures are of a placement that has not their candidates
            metrics = {**metrics, MODEL_SOURCES: float(found.left_out[MODEL_SOURCES])}
    if found.first_attributes:
        metrics = {**metrics, "rows_with_later_attributes": float(found.first_attributes)}
    fitted = _fit_row(kind, rows, options, watch.part(JUDGED_SHARE, 1.0), row_parent(parent))
    times = (int(rows.time_ms.min()), int(rows.time_ms.max()))
    counts = {"rows": len(rows), "requests": len(rows.time_ms)}
    window = _window(log, (asked.bounds.first, asked.bounds.stop or log.end), times, counts, parent)
    draft = _draft(fitting, model, options, window, {**metrics, **kind.figures(fitted)})
    draft = msgspec.structs.replace(draft, inputs=tuple(fitted.inputs), calibration=line)
    gated = JudgedActs(why_not=NOT_JUDGED) if later is None else judged_rows_fit(metrics, beside, later, fitted)
    return draft, row_content(fitted, made_rows(fitted, model.seed)), dict(found.left_out), beside, gated


def _fit_row(
    kind: RowKind[Any], rows: Examples, options: msgspec.Struct, watch: Watch, parent: RowModel | None
) -> RowModel:
    """Return what is fitted, after all that a parent has learned where there is one."""
    if parent is None or kind.go_on is None:
        return kind.fit(rows, options, watch)
    return kind.go_on(parent, rows, options, watch)


def _after(asked: RankerQuestion, end_ms: int) -> RankerQuestion:
    """Return the question about what came later than a time. A record is appended after its request, or with it."""
    bounds = asked.bounds
    since_ms = max(bounds.since_ms or 0, end_ms + 1)
    return replace(asked, after_ms=end_ms, bounds=replace(bounds, since_ms=since_ms))


def _rows_since(rows: Examples, since_ms: int, later_share: float, gap_ms: int) -> Examples:
    """Return the requests since a time, where there are enough to learn before those that judge; else all.

    An alarm is younger than what it is to teach: for as long as outcomes are awaited a fit learns as without it.

    Args:
        rows: All that may be learned.
        since_ms: Log time; 0 = none.
        later_share: Share of the requests that judge.
        gap_ms: How long the worth of a request may take to be known.
    """
    if not since_ms:
        return rows
    newer = rows.take(np.flatnonzero(rows.time_ms >= since_ms))
    learned, _ = newer.split(later_share, gap_ms)
    return newer if len(learned.time_ms) >= SINCE_REQUESTS_MIN else rows


def _rows_of(fitting: Fitting, model: Model, asked: RankerQuestion, watch: Watch) -> RankerRows:
    """Return what a ranker is fitted on.

    Raises:
        Invalid: There is nothing.
    """

    def told(_stage: str, done: int, total: int) -> None:
        watch.step("reading", min(1.0, done / max(1, total)))

    with TemporaryDirectory(prefix="midstream-train-") as place:
        found = ranker_rows(Past(fitting.folder, fitting.config), replace(asked, place=Path(place)), told)
    if not len(found.examples) and asked.after_ms is not None:
        raise Invalid((_nothing_newer(fitting, model, found.left_out),))
    if not len(found.examples):
        came = f"The log has no {model.examples} examples of the placement {model.placement}."
        came += f" Left out: {dict(found.left_out)}" if found.left_out else ""
        raise Invalid((Fault(f"models.{model.name}", came, _right_examples(model), PAGE),))
    return found


def _right_examples(model: Model) -> str:
    """Return what would give a ranker rows that has none."""
    if model.examples == "served":
        return 'Slates of it that are older than feedback.window, or examples = "replay".'
    first = "" if model.first_attributes else " first_attributes = true reads attributes that came later than the acts;"
    return (
        f"Acts on items that sources and filters of {model.placement} would have let through before each act:{first} a "
        "catalogue that is imported before the acts is known at all of them."
    )


def _nothing_newer(fitting: Fitting, model: Model, left_out: Mapping[str, int]) -> Fault:
    """Return what is wrong where a version knows all that there is."""
    came = f"{model.name} has no {model.examples} examples that are newer than what {fitting.start} has learned."
    came += f" Left out: {dict(left_out)}" if left_out else ""
    newer = "Newer acts" if model.examples == "replay" else "Newer slates that are older than feedback.window"
    return Fault("--from", came, f"{newer}, or a training without --from.", PAGE)


def _judged(
    model: Model,
    options: msgspec.Struct,
    parts: tuple[Examples, Examples],
    watch: Watch,
    before: tuple[RowModel | None, str, Callable[[Compare], ChampionComparison]],
) -> tuple[Mapping[str, float | None], Calibration | None, ChampionComparison]:
    """Return what a fit on the earlier rows is worth for the later ones, and what makes probabilities of its scores.

    And what it is worth beside the champion. Nothing where there are no earlier rows.
    """
    kind, (earlier, later), (parent, champion, beside) = ROW_KINDS[model.kind], parts, before
    if not len(earlier):
        return {}, None, ChampionComparison(champion, why_not=NOT_JUDGED)
    judged = _fit_row(kind, earlier, options, watch, parent)
    watch.step("judging", 1.0)
    is_probability = kind.is_probability(options)
    is_sampled = model.examples == "replay"
    found = row_validation_of(judged, later, is_probability=is_probability, is_sampled=is_sampled)
    line = calibrated(judged, later, is_probability=is_probability)
    compared = beside(lambda champion: compare_rows(champion, judged, later, is_sampled=is_sampled))
    return {**found, **line.metrics}, line.calibration, compared


def question_of(fitting: Fitting, model: Model, log: LogView) -> RankerQuestion:
    """Return which rows a ranker learns from."""
    part = act_options(fitting.config, model, log)
    (placement,) = (each for each in fitting.config.placements if each.name == model.placement)
    newest_ms = _newest_ms(log)
    read = columns_of([each for each in fitting.config.features if each.name in placement.features])
    # Of a replay two columns a source more, popular and editorial among them.
    said = 2 * (len(placement.sources) + 2) if model.examples == "replay" else 0
    return RankerQuestion(
        folder=fitting.folder,
        placement=model.placement,
        features=placement.features,
        bounds=ServedRange(part.first, part.stop, part.since_ms, part.until_ms),
        rows_max=rows_max_of(model, sum(map(len, read.values())) + said),
        place=fitting.folder,
        is_replay=model.examples == "replay",
        seed=model.seed,
        first_attributes=model.first_attributes,
        actions=model.actions,
        mature_ms=None if newest_ms is None else newest_ms - fitting.config.feedback.window.ms,
    )


def rows_max_of(model: Model, features: int) -> int:
    """Return how many rows with so many features a ranker learns from: a quarter of its memory holds the rows.

    What their fit takes beside them is half of it; the last quarter is a copy without what judges, and the library.
    """
    held = model.memory_bytes_max // 4 // (ROW_BYTES + 4 * features)
    return max(1, min(held, ROW_KINDS[model.kind].rows_max(features, model.memory_bytes_max // 2)))


def acts_of(fitting: Fitting, model: Model, log: LogView, watch: Watch, limit: Limit = lambda _bytes: None) -> Acts:
    """Return the acts that a model learns from.

    Cost: that of ``ActReader.add``, and that of ``Hidden``, to find who was erased.

    Raises:
        FitStopped: The watch said so.
        LogDamaged: The log cannot be trusted.
    """
    config = fitting.config
    data = DataFolder(fitting.folder / DATA_NAME)
    hidden = log.hidden(config)
    fold = log.pass_by(beginning_of(data, settings_of(data, config), log))
    limit(model.memory_bytes_max)
    reader = ActReader(fold, act_options(config, model, log), hidden.of)
    total = max(1, log.end - log.begin)
    for first, batch in batches(log.read, log.begin, log.end):
        watch.step("reading", (first - log.begin) / total)
        reader.add(first, batch)
    return reader.acts()


def act_options(config: Config, model: Model, log: LogView) -> ActOptions:
    """Return which acts of a log a model learns from. ``last`` counts back from the last event, not from now."""
    types = {name: each.weight for name, each in config.events.types.items() if each.weight > 0.0}
    since, until = (moment_of(each) if each != "" else None for each in (model.since, model.until))
    since_ms, until_ms = _ms(since), _ms(until)
    newest_ms = _newest_ms(log)
    if model.last and newest_ms is not None:
        since_ms = newest_ms - parse_duration_ms(model.last)
    return ActOptions(
        weights=model.actions or types,
        by_session=model.histories == "session",
        history_acts_max=model.acts_max,
        acts_max=max(1, model.memory_bytes_max // 2 // ACT_BYTES),
        first=since if isinstance(since, int) else 0,
        stop=until if isinstance(until, int) else None,
        since_ms=since_ms,
        until_ms=until_ms,
        is_described=is_told_items(model.kind, model.options),
    )


def _newest_ms(log: LogView) -> int | None:
    """Return the log time of the last event; None = there is none."""
    if log.end <= log.begin:
        return None
    ((_, newest), *_) = log.read(LogPosition(log.end - 1), 1)
    return int(newest.rows["log_time_ms"][-1])


def _ms(moment: int | datetime | None) -> int | None:
    """Return the log time of a moment; UTC unless it says."""
    if not isinstance(moment, datetime):
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def _window(
    log: LogView,
    positions: tuple[int, int],
    times_ms: tuple[int, int],
    counts: dict[str, int],
    parent: LoadedVersion | None,
) -> Window:
    """Return what the manifest says of the part of the log."""
    return Window(
        log_name=log.identity.public_name,
        generation=log.identity.generation,
        first=positions[0],
        end=positions[1],
        known_end=known_end(positions[1], None if parent is None else parent.manifest.window, log.identity, log.end),
        begin_ms=times_ms[0],
        end_ms=times_ms[1],
        counts=counts,
    )


def _draft(
    fitting: Fitting, model: Model, options: msgspec.Struct, window: Window, metrics: Mapping[str, float | None]
) -> Draft:
    """Return what the manifest says of a version."""
    told: dict[str, object] = msgspec.to_builtins(options, enc_hook=str)
    return Draft(
        name=model.name,
        kind=model.kind,
        options=told,
        window=window,
        parent=fitting.start,
        config_hash=fitting.config.config_hash,
        code_version=version("midstream"),
        made_ms=fitting.made_ms,
        metrics=dict(metrics),
    )
