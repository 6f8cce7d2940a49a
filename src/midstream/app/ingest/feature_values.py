"""Import of feature values: maps the columns of a file to changes of the fields that the feature reads."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import config_of
from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.features.feature_values import PAGE, refusal, settings_of


@dataclass(frozen=True, slots=True)
class ValueColumns:
    """Names of the file's columns."""

    id: str = "id"
    value: str = "value"
    time: str = "time"
    """Empty = the values are of the time at which they are recorded."""
    time_format: str = "auto"


@contextmanager
def own_options(columns: ColumnOptions) -> Generator[None]:
    """Say of what is wrong with a column which option of this command names it, as there is no ``--map``."""
    try:
        yield
    except Invalid as error:
        names = {f"--map {field}={column}": f"{_option(field)} {column}" for field, column in columns.columns.items()}
        faults = (replace(each, where=names.get(each.where, each.where)) for each in error.faults)
        raise type(error)(tuple(faults)) from error


def _option(field: str) -> str:
    if field == "time":
        return "--time"
    return "--id" if field.endswith("_id") and "." not in field else "--value"


def load_columns(folder: Path, name: str, loaded: ValueColumns) -> ColumnOptions:
    """Return the import that sets values of a feature of a folder's configuration.

    Raises:
        ConfigInvalid: The configuration cannot be used.
        Invalid: The feature is not declared, or computed: the fault says what to do.
    """
    config = config_of(folder)
    settable = settings_of(config.features, config.items.attributes)
    feature = next((each for each in config.features if each.name == name), None)
    if feature is None:
        names = [each.name for each in config.features]
        came = f'"{name[:64]}" is not a declared feature.{nearest(name, names)}'
        raise Invalid((Fault("NAME", came, f"One of: {', '.join(settable) or 'none can be set'}.", PAGE),))
    if name not in settable:
        raise Invalid((refusal(feature, tuple(settable)),))
    setting = settable[name]
    columns = {f"{setting.noun}_id": loaded.id, f"attributes.{setting.attribute}": loaded.value}
    if loaded.time:
        columns["time"] = loaded.time
    return ColumnOptions(
        columns, {"type": setting.noun, "operation": "patch"}, time_format=loaded.time_format, named_only=True
    )
