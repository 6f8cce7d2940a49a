"""Entity views of declared features: columns grouped by the ids that they are read for, as feature stores keep them.

A column that reads the request, such as its context or the other candidates, has no value beside a request and is in no
view. Columns whose values are set from outside have views of their own, since a push replaces a whole row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from midstream.core.errors import Fault, Invalid
from midstream.features.column_reads import Owners, owners_of
from midstream.features.declarations import Declarations
from midstream.features.feature_values import Noun, settings_of
from midstream.features.kinds.kinds import AnyFeature, Boolean, Number, columns_of

PAGE = "/docs/feature-stores.md"
KEYS: Final = {"user": "user_id", "session": "session_id", "item": "item_id"}
"""Column of the ids of each owner, in the order in which views have them."""
TIMESTAMP = "event_timestamp"
"""Column of the time of a row."""
EVERYBODY = "shop"
"""Name of the view of columns that are the same for everybody."""
_SET: Mapping[Noun, str] = {"item": "item_attributes", "user": "user_profile"}
"""Names of the views whose values are set from outside."""


@dataclass(frozen=True, slots=True)
class EntityView:
    """Columns that are read for the same ids."""

    name: str
    owners: tuple[str, ...]
    """Of ``KEYS``, in their order; none = the same for everybody."""
    columns: Mapping[str, str]
    """Name of the feature of each column, by the name of the column."""
    is_settable: bool = False
    """Whether its values may be pushed: they are attributes of items or fields of profiles."""
    truths: frozenset[str] = frozenset()
    """Columns that are 1 or 0."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of ids."""
        return tuple(KEYS[each] for each in self.owners)


@dataclass(frozen=True, slots=True)
class ViewsFound:
    """The views of a configuration."""

    views: tuple[EntityView, ...]
    left_out: tuple[str, ...]
    """Columns that read the request."""


def views_of(declared: Declarations, features: Sequence[str] | None = None) -> ViewsFound:
    """Return the views of some features, or of all, in the order of the declarations.

    Raises:
        Invalid: No feature is declared, all of them read the request, or a column has the name of the times.
        NotFound: There is no feature of a name.
    """
    chosen = declared.features if features is None else tuple(declared.feature(each) for each in features)
    settings = settings_of(chosen, dict(declared.attributes))
    expressions = declared.columns()
    names = columns_of(chosen)
    found: dict[tuple[Owners, bool], dict[str, str]] = {}
    left_out: list[str] = []
    for feature in chosen:
        is_settable = feature.name in settings and is_kept_as_sent(feature)
        for column in names[feature.name]:
            owners = owners_of(expressions[column])
            if "request" in owners:
                left_out.append(column)
            elif column == TIMESTAMP:
                right = "Another name: a history has its times there."
                raise Invalid((Fault("$.features", f'A feature has the column "{column}".', right, PAGE),))
            else:
                found.setdefault((owners, is_settable), {})[column] = feature.name
    if not found:
        came = f"All read the request: {', '.join(left_out)}." if left_out else "No feature is declared."
        raise Invalid((Fault("$.features", came, "A feature of users, sessions or items.", PAGE),))
    truths = frozenset(each.name for each in chosen if isinstance(each, Boolean))
    views = (
        _view(owners, columns, truths, is_settable=is_settable) for (owners, is_settable), columns in found.items()
    )
    return ViewsFound(tuple(views), tuple(left_out))


def is_kept_as_sent(feature: AnyFeature) -> bool:
    """Return whether the one column of a feature is the number or truth that was set."""
    return isinstance(feature, Boolean) or (isinstance(feature, Number) and feature.reduce is None)


def features_of(views: Iterable[EntityView]) -> tuple[str, ...]:
    """Return the names of the features of some views, each once."""
    return tuple(dict.fromkeys(feature for view in views for feature in view.columns.values()))


def _view(owners: Owners, columns: Mapping[str, str], truths: frozenset[str], *, is_settable: bool) -> EntityView:
    told, own = tuple(each for each in KEYS if each in owners), truths & columns.keys()
    if is_settable:
        return EntityView(_SET["item" if told == ("item",) else "user"], told, columns, is_settable=True, truths=own)
    return EntityView("_".join(told) or EVERYBODY, told, columns, truths=own)
