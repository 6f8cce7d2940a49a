"""Configuration of a tenant that came over HTTP: held to the folder of the tenant, and to its share of the process.

Whoever may create tenants has a key of the root, and no account on the machine. So a configuration from there names no
code, no file outside of the folder and nothing of the process's environment: it would be imported, read or sent under
the rights of the process, which has the folders of all tenants. What needs them is written into the file on the
machine. So is a training or a probe that takes more of what all tenants share than one from there may.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Final, cast

import msgspec

from midstream.app.config.reader import FILE_NAME
from midstream.app.config.schema import Config, Custom
from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.paths import path_text
from midstream.core.type_faults import Steps
from midstream.serving.tenants.types import PAGE

IN_FOLDER: Final = frozenset(("path", "keys", "baseline", "golden"))
"""Settings that name a file, from the folder of ``midstream.toml`` on; ``keys`` may be an https address."""
OF_MACHINE: Final = frozenset(
    ("ca_file", "certificate_file", "key_file", "tls_ca", "publish", "join", "settings", "components", "endpoint")
)
"""Settings that name code, files or places of the machine; ``settings`` of a broker's client may name libraries, and
``endpoint`` of traces an address that only the machine reaches."""
VARIABLE_END: Final = "_env"
"""Of settings that name a variable of the environment."""
TIME_MAX: Final = Duration("1h")
"""Of a training: the models of all tenants are trained one at a time."""
PROBE_LEAST: Final = Duration("30s")
"""Between two probes, which have no quota and wait for no turn."""
_ON_MACHINE: Final = "Without it here; it may stand in tenants/NAME/midstream.toml, written on the machine."
_OTHERS: Final = "Another one may stand in tenants/NAME/midstream.toml, written on the machine."


def require_of_folder(config: Config) -> Config:
    """Return a configuration that reaches for nothing outside of its folder, and takes no more than its share.

    Raises:
        ConfigInvalid: Every setting is named that does.
    """
    if faults := (*_faults(config, ()), *_beyond_share(config)):
        raise ConfigInvalid(faults)
    return config


def _faults(value: object, path: Steps) -> Iterator[Fault]:
    if isinstance(value, Custom):
        yield _fault(path, "It is a component of your own.")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _of_field(name, getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for number, each in enumerate(cast("tuple[object, ...]", value)):
            yield from _faults(each, (*path, number))
    elif isinstance(value, Mapping):
        for key, each in cast("Mapping[object, object]", value).items():
            yield from _faults(each, (*path, str(key)))


def _of_field(name: str, value: object, path: Steps) -> Iterator[Fault]:
    if (name in OF_MACHINE or name.endswith(VARIABLE_END)) and value:
        yield _fault(path, "It names code, a place, a file or a variable of the machine.")
    elif name in IN_FOLDER and isinstance(value, str):
        if not value.startswith("https://") and _leads_out(value):
            yield _fault(path, f"{value[:64]!r} leads out of the folder of the tenant.")
    else:
        yield from _faults(value, path)


def _beyond_share(config: Config) -> Iterator[Fault]:
    """Yield what would hold up other tenants."""
    for number, model in enumerate(config.models):
        if model.time_max.ms > TIME_MAX.ms:
            right = f"{TIME_MAX} at most, as the models of all tenants are trained one at a time."
            yield _fault(("models", number, "time_max"), f"{model.time_max} came.", f"{right} {_OTHERS}")
    if 0 < config.probe.every.ms < PROBE_LEAST.ms:
        right = f"{PROBE_LEAST} or more, or 0ms for no probe, as a probe has no quota."
        yield _fault(("probe", "every"), f"{config.probe.every} came.", f"{right} {_OTHERS}")


def _leads_out(path: str) -> bool:
    told = PurePath(path)
    return told.is_absolute() or ".." in told.parts


def _fault(path: Steps, came: str, right: str = _ON_MACHINE) -> Fault:
    where = f"{FILE_NAME}: {path_text(path)}"
    return Fault(where, f"{came} The configuration came over HTTP.", right, PAGE)
