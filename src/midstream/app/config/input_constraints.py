"""Constraints of inputs: names of their own, a start that can be read, a mapping that makes sense, no secrets."""

from collections.abc import Iterator
from dataclasses import replace

from midstream.app.config.bounds import distinct, known
from midstream.app.config.broker_inputs import RESERVED_COLUMN, AnyInput, KafkaInput, PostgresqlInput, start_text
from midstream.app.config.broker_login import kafka_login_faults, pulsar_login_faults
from midstream.app.config.schema import Config
from midstream.app.config.sinks import server_faults
from midstream.app.mapping.columns import converter
from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import RESERVED_TYPES
from midstream.core.paths import step
from midstream.events.wire import OPEN_TYPES
from midstream.integrations.postgresql.connection import PostgresqlServer
from midstream.integrations.postgresql.followed_table import START_MS_MAX
from midstream.integrations.postgresql.tables import TABLE, TABLE_RIGHT

PAGE = "/docs/inputs.md"
_OPTIONS = {"--map": "map", "--set": "set", "--time-format": "time_format", "--type": "type", "--key": "key"}
"""Settings whose faults a command tells under the name of an option."""


def input_faults(config: Config) -> Iterator[Fault]:
    """Yield what is wrong with ``[[inputs]]``."""
    names = ((f"$.inputs[{number}].name", each.name) for number, each in enumerate(config.inputs))
    yield from distinct(names, page=PAGE)
    for number, each in enumerate(config.inputs):
        where = f"$.inputs[{number}]"
        if not start_text(each.start):
            right = 'earliest, latest, or a time such as "2026-11-30T08:00:00Z".'
            yield Fault(f"{where}.start", f'"{each.start}" came.', right, PAGE)
        yield from _mapping(config, each, where)
        if isinstance(each, KafkaInput):
            yield from kafka_login_faults(each, where, PAGE)
        elif isinstance(each, PostgresqlInput):
            yield from _table(each, where)
        else:
            yield from pulsar_login_faults(each, where, PAGE)
    yield from _whole_catalogue(config)


def _whole_catalogue(config: Config) -> Iterator[Fault]:
    """Yield comparisons of keys that would delete the items of another input."""
    items = [number for number, each in enumerate(config.inputs) if _brings_items(each)]
    for number, each in enumerate(config.inputs):
        others = [f'"{config.inputs[other].name}"' for other in items if other != number]
        if isinstance(each, PostgresqlInput) and each.reconcile is not None and others:
            came = f"It would delete the items of the input {', '.join(others)}, which the table does not have."
            right = "One table with all items (a view of several is one), or reconcile at none."
            yield Fault(f"$.inputs[{number}].reconcile", came, right, PAGE)


def _brings_items(each: AnyInput) -> bool:
    """Return whether an input is known to bring items; what a topic has without a word of it is not known."""
    named = {each.set.get("type", "").lower(), *(name.lower() for name in each.types.values())}
    return "item" in named or (isinstance(each, PostgresqlInput) and each.type == "item")


def _mapping(config: Config, each: AnyInput, where: str) -> Iterator[Fault]:
    """Yield fields that no event has, values that no field takes, and types that are not configured."""
    try:
        converter(each.columns, None, config.items.attributes, has_types=True)
    except Invalid as error:
        yield from (_within(fault, where) for fault in error.faults)
    named = [(f"{where}.types{step(value)}", name) for value, name in each.types.items()]
    if "type" in each.set:
        named.append((f"{where}.set.type", each.set["type"]))
    for place, name in named:
        if name.lower() not in RESERVED_TYPES:
            yield from known(place, name, config.events.types, "a configured interaction", "Types", PAGE)
        elif name.lower() not in OPEN_TYPES:
            came = f'"{name}" is a kind of event that only the engine writes.'
            yield Fault(place, came, f"One of: {', '.join(sorted({*config.events.types, *OPEN_TYPES}))}", PAGE)


def _within(fault: Fault, where: str) -> Fault:
    """Return a fault of an option of a command as one of the setting of an input."""
    option, _, rest = fault.where.partition(" ")
    name = rest.partition("=")[0]
    return replace(fault, where=f"{where}.{_OPTIONS.get(option, 'map')}{step(name) if name else ''}", page=PAGE)


def _table(each: PostgresqlInput, where: str) -> Iterator[Fault]:
    """Yield what is wrong with an address, a table or a comparison of keys."""
    server = PostgresqlServer(each.url, each.password_env, each.tls, each.tls_ca)
    yield from server_faults(server, where, PAGE)
    if not TABLE.fullmatch(each.table):
        yield Fault(f"{where}.table", f'"{each.table}" came.', TABLE_RIGHT, PAGE)
    if "type" in each.set:
        yield Fault(f"{where}.set.type", "It came beside the type of the table.", 'type = "user", not in set.', PAGE)
    if "operation" in each.map:
        came = "A table says by deleted_at that a row is deleted."
        yield Fault(f"{where}.map.operation", came, "deleted_at, or a view without such rows.", PAGE)
    if each.key.startswith(RESERVED_COLUMN):
        right = "A column, or one of a view, of another name."
        yield Fault(f"{where}.key", f'"{each.key}" came, a name for what the input itself says.', right, PAGE)
    start = start_text(each.start)
    if start.isdecimal() and int(start) > START_MS_MAX:
        yield Fault(f"{where}.start", f'"{each.start}" came, which is after the year 9999.', "A time before it.", PAGE)
    if each.reconcile is not None and each.type != "item":
        came = "It came for a table of users, of whom the state keeps those seen last."
        yield Fault(f"{where}.reconcile", came, 'Nothing, or type = "item".', PAGE)
