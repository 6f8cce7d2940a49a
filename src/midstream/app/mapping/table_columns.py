"""Mapping of the rows of a table of a database: its key is the id of an item or user, and a row says all there is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from midstream.app.mapping.columns import ColumnOptions, place_names
from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import Kind

PAGE = "/docs/data.md"
IDS = {"item": "item_id", "user": "user_id"}
"""Field of the key of a row, by the type of the event that it becomes."""


def row_columns(columns: ColumnOptions, key: str, where: str = "--") -> ColumnOptions:
    """Return the mapping of the rows of a table: its key is the id, items unless users are asked for.

    Args:
        columns: As asked.
        key: Column of the ids.
        where: Begins the names of options, for what is refused.

    Raises:
        Invalid: The key is missing or mapped as well, or rows shall be something else.
    """
    kind = columns.constants.get("type", Kind.ITEM.name.lower())
    faults: list[Fault] = []
    if kind not in IDS or "type" in columns.columns:
        came = f'"{columns.columns.get("type", kind)}" came as the type of rows.'
        faults.append(Fault(f"{where}type", came, "item or user: a table holds what is, and no acts.", PAGE))
    own = IDS.get(kind, "item_id")
    if not key:
        faults.append(Fault(f"{where}key", "No column of ids came.", f"The column that is the {own} of its row.", PAGE))
    if own in columns.columns or own in columns.constants:
        faults.append(Fault(f"{where}map {own}", "It came beside key.", f"key alone says what the {own} is.", PAGE))
    if faults:
        raise Invalid(tuple(faults))
    fields = {own: key, **columns.columns}
    constants = {"type": kind, **columns.constants}
    return replace(columns, columns=fields, constants=constants, named_only=True, rows_are_whole=True)


def source_fields(columns: ColumnOptions) -> Mapping[str, Sequence[str]]:
    """Return the columns, or paths into them, that each field is made of."""
    return {name: place_names(column) for name, column in columns.columns.items()}
