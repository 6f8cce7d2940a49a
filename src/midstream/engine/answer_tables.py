"""Arrow tables of answers: slates of many users and features of many items, a row an item, with dtypes that are fixed.

Missing is visible and changes no dtype: −1 as a position, NaN as a score or a feature, null in a text.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from midstream.core.errors import Fault, MidstreamError, RequestInvalid
from midstream.engine.requests.schema import ID_CHARS_MAX
from midstream.engine.types import Answer, FeatureRead
from midstream.events.faults import shown

if TYPE_CHECKING:
    import pyarrow  # noqa: ICN001  pa is the loose one

ROWS_MAX = 1_000_000
"""Users or items of one call: a slate of 20 items takes 2 kB here, so 2 GB for a million users."""
PAGE = "/docs/tasks/notebook.md"
_VECTOR = "vector"


def ids_of(ids: object, where: str) -> list[str]:
    """Return ids of a list, an Arrow column, or a column of pandas or Polars.

    Raises:
        RequestInvalid: It is no sequence of them, or has more than ``ROWS_MAX``.
    """
    listed: Any = None if _is_table(ids) else getattr(ids, "to_pylist", None) or getattr(ids, "to_list", None)
    if listed is None and not _is_listed(ids):
        came = f"{type(ids).__name__} came."
        right = 'A list of ids, or one column of a table or a frame: frame["user_id"].'
        raise RequestInvalid((Fault(where, came, right, PAGE),))
    found: list[str] = list(cast("Iterable[str]", ids)) if listed is None else listed()
    if len(found) > ROWS_MAX:
        right = f"At most {ROWS_MAX:,} a call; more in several calls."
        raise RequestInvalid((Fault(where, f"{len(found):,} came.", right, PAGE),))
    for number, each in enumerate(cast("list[object]", found)):
        if not isinstance(each, str) or not 0 < len(each) <= ID_CHARS_MAX:
            right = f"A text of 1 to {ID_CHARS_MAX} characters."
            raise RequestInvalid((Fault(f"{where}[{number}]", f"{shown(each)} came.", right, PAGE),))
    return found


def _is_table(ids: object) -> bool:
    """Return whether it has columns, as tables and frames have: a walk over those of pandas gives their names."""
    return hasattr(ids, "columns") or hasattr(ids, "column_names")


def _is_listed(ids: object) -> bool:
    """Return whether a walk over it gives ids in an order that the caller has chosen."""
    if isinstance(ids, str | bytes | Mapping | set | frozenset) or _is_table(ids) or getattr(ids, "ndim", 1) != 1:
        return False
    return isinstance(ids, Iterable)


def parts_of(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    """Yield ids in parts of at most ``size``."""
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])


def joined(tables: Sequence["pyarrow.Table"]) -> "pyarrow.Table":
    """Return tables of the same columns as one."""
    from midstream.events.loose_arrow import pa

    table: pyarrow.Table = pa.concat_tables(tables)
    return table


def slate_schema(fields: Sequence[str], kinds: Mapping[str, str]) -> "pyarrow.Schema":
    """Return the columns of ``slate_rows``: a requested field has the type of its attribute.

    Raises:
        RequestInvalid: One text came in place of a list of names.
    """
    if isinstance(fields, str):
        right = f'A list of names of attributes: ["{fields[:60]}"].'
        raise RequestInvalid((Fault("/fields", f"The text {shown(fields)} came.", right, PAGE),))
    from midstream.events.loose_arrow import pa  # Arrow takes 0.2 s and 40 MB where it is used

    text, columns = pa.string(), dict[str, Any]()
    columns |= {"user_id": text, "position": pa.int32(), "item_id": text, "score": pa.float32()}
    columns |= {"request_id": text, "placement": text, "tier": text, "log_position": text, "error": text}
    columns |= {f"field.{name}": _type_of(kinds.get(name, "")) for name in fields}
    schema: pyarrow.Schema = pa.schema(columns)
    return schema


def slate_rows(
    users: Sequence[str], answers: Sequence[Answer | MidstreamError], fields: Sequence[str], kinds: Mapping[str, str]
) -> "pyarrow.Table":
    """Return a row for each item of each slate, users in their order; one without an item for each user who has none.

    Args:
        users: In the order of the answers.
        answers: Slates; an error in the place of one that could not be made.
        fields: Requested attributes.
        kinds: Kind of each declared attribute; the values of others are JSON.
    """
    from midstream.events.loose_arrow import pa

    schema: Any = slate_schema(fields, kinds)
    columns: dict[str, list[object]] = {name: [] for name in schema.names}

    def add(**row: object) -> None:
        for name, cells in columns.items():
            cells.append(row.get(name))

    for user_id, answer in zip(users, answers, strict=True):
        if isinstance(answer, MidstreamError):
            add(user_id=user_id, position=-1, score=np.nan, error=str(answer))
            continue
        about = {"user_id": user_id, "request_id": answer.request_id, "placement": answer.placement}
        about |= {"tier": answer.tier, "log_position": answer.applied_log_position}
        if not answer.items:
            add(**about, position=-1, score=np.nan)
        for item in answer.items:
            own = item.fields or {}
            shown = {f"field.{name}": _cell(own.get(name), kinds.get(name, "")) for name in fields}
            add(**about, position=item.position, item_id=item.id, score=item.score, **shown)
    made = [pa.array(columns[each.name], each.type) for each in schema]
    table: pyarrow.Table = pa.Table.from_arrays(made, schema=schema)
    return table


def feature_rows(read: FeatureRead) -> "pyarrow.Table":
    """Return a row for each item, in their order: ``item_id``, and a float32 column for each column of the features."""
    from midstream.events.loose_arrow import pa

    columns: dict[str, Any] = {"item_id": pa.array(read.items, pa.string())}
    columns |= {name: pa.array(read.values[:, at], pa.float32()) for at, name in enumerate(read.names)}
    table: pyarrow.Table = pa.table(columns)
    return table


def _type_of(kind: str) -> Any:  # noqa: ANN401  the stubs know no type of all
    from midstream.events.loose_arrow import pa

    if kind.startswith(_VECTOR):
        return pa.list_(pa.float32())
    types: Mapping[str, Any] = {"number": pa.float64(), "boolean": pa.bool_(), "tags": pa.list_(pa.string())}
    return types.get(kind, pa.string())


def _cell(value: object, kind: str) -> object:
    """Return a value for its column: JSON where no kind is declared and it is no text."""
    if value is None or kind or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
