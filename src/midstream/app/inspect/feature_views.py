"""Views of a folder's declared features from its log alone, beside a running server. They change nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.inspect.query_offline import unknown_of
from midstream.app.opening import Outside
from midstream.app.wiring import plans
from midstream.core.errors import NotFound
from midstream.core.nearest import nearest
from midstream.core.types import Candidates, Index, Models, Moment, Query, TimestampMs
from midstream.engine.answer.feature_reads import declared_by, view_of, views_of
from midstream.engine.types import FeatureView
from midstream.features.readers.external import ExternalTable
from midstream.ranking.frame import read_or_stop
from midstream.ranking.plan import Plan
from midstream.retrieval.popular import Popular
from midstream.state.fold import Fold, Size
from midstream.state.tables import sizes_max

EXAMPLES = 5
"""Items of which values are shown."""
LAST_SEEN = "the one seen last"
"""Placeholder for the user of the examples when none is named: the state has hashes of users alone."""


@dataclass(frozen=True, slots=True)
class ShownFeature:
    """One feature with values of now for some items, a user and a session."""

    feature: FeatureView
    user: str | None
    """None = nobody."""
    session: str | None
    """None = none was named: that of the user, if one is open."""
    unknown: tuple[str, ...]
    """What is not known of the two, in words."""
    items: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    """Of each item, in the order of the feature's columns; NaN = unknown."""


@dataclass(frozen=True, slots=True)
class Sized:
    """The memory of all features."""

    features: tuple[FeatureView, ...]
    bytes_now: int
    """Of the table ``cells`` and those from outside: what several features count or read is in it once."""
    bytes_max: int


def list_features(folder: Path, config: Config) -> Sequence[FeatureView]:
    """Return the status of each feature, in the order of the declarations.

    Raises:
        ConfigInvalid: A custom component cannot be loaded.
        LogDamaged: The log cannot be trusted.
    """
    return views_of(*_served(folder, config), Outside().clock())


def size_features(folder: Path, config: Config) -> Sized:
    """Return the memory of what each feature counts or reads, and of all together."""
    fold, made = _served(folder, config)
    tables = [outside_size(each) for each in declared_by(made).tables]
    now = fold.sizes()["cells"].bytes_now + sum(each.bytes_now for each in tables)
    full = sizes_max(fold.settings)["cells"] + sum(each.bytes_max for each in tables)
    return Sized(tuple(views_of(fold, made, Outside().clock())), now, full)


def outside_size(table: ExternalTable) -> Size:
    """Return the memory of a table from outside."""
    return Size(table.versions.byte_count, table.bytes_max)


def show_feature(
    folder: Path,
    config: Config,
    name: str,
    items: Sequence[str] = (),
    *,
    user: str | None = None,
    session: str | None = None,
) -> ShownFeature:
    """Return one feature with examples.

    Args:
        folder: Holds the log.
        config: Declares the feature.
        name: Of the feature.
        items: Of the values; none = those with the most acts.
        user: Of the values; None = without a session the user who was seen last, with one no user.
        session: Of the values; None = the user's, if one is open.

    Raises:
        NotFound: No feature has that name.
        FeatureFailed: It cannot be read.
    """
    fold, made = _served(folder, config)
    now_ms = Outside().clock()
    declared = declared_by(made)
    if name not in declared.names:
        message = f'"{name}" is not a declared feature.{nearest(name, declared.names)}'
        raise NotFound(f"{message} There are {', '.join(declared.names) or 'none'}")
    found = view_of(fold, made, name, now_ms)
    assert found is not None  # noqa: S101  it was just looked up
    moment, who = _moment(fold, user, session, now_ms)
    rows = fold.vocabulary.item_indices(items) if items else _examples(moment)
    nothing = (len(rows), 0)
    candidates = Candidates(rows, (), np.empty(nothing, np.float32), np.empty(nothing, np.int32))
    values = read_or_stop(declared.block((name,)), moment, candidates, declared)
    ids = tuple(items) or tuple(fold.vocabulary.item_ids(rows))
    return ShownFeature(found, who, session, unknown_of(moment), ids, tuple(tuple(row) for row in values.tolist()))


def _served(folder: Path, config: Config) -> tuple[Fold, dict[str, Plan]]:
    """Return the state, and the plans that read it."""
    fold = state_of(folder, config, LogView(folder)).fold
    return fold, plans(config, folder, settings=fold.settings)


def _moment(fold: Fold, user: str | None, session_id: str | None, now_ms: TimestampMs) -> tuple[Moment, str | None]:
    """Return the moment of a user and a session that are named, or of the user seen last, and who that is."""
    moment = fold.moment(Query("", "", user, session_id, EXAMPLES, now_ms, 0), Models({}))
    if user is not None or session_id is not None:
        return moment, user
    index = max(range(fold.vocabulary.user_slots_used), key=fold.users.last_seen_ms, default=-1)
    if index < 0:
        return moment, None
    user_hash = fold.vocabulary.user_hash(index)
    moment = replace(moment, user_index=index, user_hash=user_hash)
    session = next(iter(fold.sessions.sessions_of(user_hash, now_ms)), None)
    if session is not None:
        moment = replace(moment, session_number=session.number, recent_item_index=session.item_index)
    return moment, LAST_SEEN


def _examples(moment: Moment) -> Index:
    """Return the items that are acted on most."""
    return Popular(limit=EXAMPLES).retrieve(moment).item_index
