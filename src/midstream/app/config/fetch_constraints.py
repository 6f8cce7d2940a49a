"""Constraints of fetches: names of their own, kinds that items can have, and what a placement lists."""

import re
from collections.abc import Iterator, Mapping

from midstream.app.config.bounds import distinct, known
from midstream.app.config.schema import Config, FetchTable, Placement
from midstream.app.config.sinks import server_faults
from midstream.core.errors import Fault
from midstream.core.paths import step
from midstream.engine.stores.address import address_of, http_address_of, is_environment_name
from midstream.integrations.cassandra.fetch import IDENTIFIER as CQL_NAME
from midstream.integrations.cassandra.fetch import CassandraFetchOptions
from midstream.integrations.feast.fetch import FeastFetchOptions
from midstream.integrations.hopsworks.fetch import PORT as HOPSWORKS_PORT
from midstream.integrations.hopsworks.fetch import SCHEME as HOPSWORKS
from midstream.integrations.hopsworks.fetch import HopsworksFetchOptions
from midstream.integrations.postgresql.fetch import IDENTIFIER as SQL_NAME
from midstream.integrations.postgresql.fetch import IDS, PostgresqlFetchOptions
from midstream.integrations.redis.fetch import KEY, PLACE, RedisFetchOptions

PAGE = "/docs/fetches.md"


def fetch_faults(config: Config) -> Iterator[Fault]:
    """Yield what is wrong with ``[[fetches]]``."""
    names = ((f"$.fetches[{number}].name", fetch.name) for number, fetch in enumerate(config.fetches))
    yield from distinct(names, page=PAGE)
    for number, fetch in enumerate(config.fetches):
        where = f"$.fetches[{number}]"
        for column, kind in fetch.columns.items():
            if fetch.of == "item" and kind == "category":
                right = '"number" or "boolean": what is known of items at a request are numbers.'
                yield Fault(f"{where}.columns{step(column)}", '"category" came for a column of items.', right, PAGE)

        yield from _store_faults(fetch, f"{where}.component")


def _store_faults(fetch: FetchTable, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the store that a fetch asks."""
    match fetch.component:
        case RedisFetchOptions():
            yield from server_faults(fetch.component, where, PAGE)
            yield from _redis_faults(fetch.component, where)
        case PostgresqlFetchOptions():
            yield from server_faults(fetch.component, where, PAGE)
            yield from _postgresql_faults(fetch.component, where)
        case CassandraFetchOptions():
            yield from server_faults(fetch.component, where, PAGE)
            yield from _cassandra_faults(fetch.component, where)
        case FeastFetchOptions():
            yield from _feast_faults(fetch, fetch.component, where)
        case HopsworksFetchOptions():
            yield from _hopsworks_faults(fetch.component, where)
        case _:
            return
    for column in fetch.component.fields:
        yield from known(f"{where}.fields{step(column)}", column, fetch.columns, "one of columns", "One of them", PAGE)


def _redis_faults(options: RedisFetchOptions, where: str) -> Iterator[Fault]:
    if not KEY.fullmatch(options.key) or options.key.count(PLACE) != 1:
        right = 'A pattern with one {id} and without spaces, of up to 256 characters: "stock:{id}".'
        yield Fault(f"{where}.key", f'"{options.key[:80]}" came.', right, PAGE)


def _postgresql_faults(options: PostgresqlFetchOptions, where: str) -> Iterator[Fault]:
    if bool(options.table) == bool(options.query):
        came = "It has both a table and a query." if options.table else "It has neither a table nor a query."
        yield Fault(f"{where}.table", came, 'table = "shop.stock", or a query with :ids in it.', PAGE)
    elif options.query and len(IDS.findall(options.query)) != 1:
        came = f"It has {len(IDS.findall(options.query))} places for ids."
        right = 'One, as an array: "SELECT sku AS id, qty AS stock FROM stock WHERE sku = ANY(:ids)".'
        yield Fault(f"{where}.query", came, right, PAGE)
    yield from _name_faults(options.table, options.id, options.fields, SQL_NAME, where)


def _cassandra_faults(options: CassandraFetchOptions, where: str) -> Iterator[Fault]:
    if not options.table:
        yield Fault(f"{where}.table", "It has no table.", 'table = "stock", or with its keyspace "shop.stock".', PAGE)
    elif "." not in options.table and "/" not in options.url.partition("://")[2].rstrip("/"):
        right = 'The keyspace in the address, or before the table: "shop.stock".'
        yield Fault(f"{where}.table", f'"{options.table}" came, and no keyspace.', right, PAGE)
    yield from _name_faults(options.table, options.id, options.fields, CQL_NAME, where)


def _feast_faults(fetch: FetchTable, options: FeastFetchOptions, where: str) -> Iterator[Fault]:
    right = 'An address such as "http://feast:6566"; a token is in a variable of the environment: password_env.'
    try:
        address = http_address_of(options.url)
    except ValueError as error:
        yield Fault(f"{where}.url", str(error), right, PAGE)
    else:
        if address.path:
            yield Fault(f"{where}.url", f"{address.origin} came with a path.", right, PAGE)
    yield from _secret_faults(options.password_env, where)
    if options.tls_ca and not options.url.startswith("https://"):
        yield Fault(f"{where}.tls_ca", f'"{options.tls_ca}" came, and the address is none of https.', "https://", PAGE)
    for column in fetch.columns:
        field = options.fields.get(column, column)
        if not options.feature_service and not _FEATURE.fullmatch(field):
            right = f'A view and a feature: fields = {{ {column} = "view:feature" }}, or a feature_service.'
            yield Fault(f"{where}.fields{step(column)}", f'"{field[:80]}" came.', right, PAGE)


_FEATURE = re.compile(r"[^:]+:[^:]+")
"""Reference to a feature of Feast."""


def _hopsworks_faults(options: HopsworksFetchOptions, where: str) -> Iterator[Fault]:
    right = 'An address such as "hopsworks://host:443/project"; the API key is in a variable: password_env.'
    try:
        address = address_of(options.url, HOPSWORKS, HOPSWORKS_PORT)
    except ValueError as error:
        yield Fault(f"{where}.url", str(error), right, PAGE)
    else:
        if address.user:
            yield Fault(f"{where}.url", "It has a user in it.", right, PAGE)
        elif len(address.hosts) > 1 or not address.path:
            came = f"{len(address.hosts)} hosts came." if address.path else f"{address.shown} came without a project."
            yield Fault(f"{where}.url", came, right, PAGE)
    yield from _secret_faults(options.password_env, where)


def _secret_faults(name: str, where: str) -> Iterator[Fault]:
    if name and not is_environment_name(name):
        came = "It is no name of a variable of the environment."  # and may be the secret itself
        yield Fault(f"{where}.password_env", came, 'The name of one: "SHOP_FEAST_TOKEN".', PAGE)


def _name_faults(table: str, own: str, fields: Mapping[str, str], name: re.Pattern[str], where: str) -> Iterator[Fault]:
    """Yield names that are no identifiers: they stand in statements, within quotes, as the store has them."""
    parts = table.split(".") if table else []
    told = [*((f"{where}.table", each) for each in parts), (f"{where}.id", own)]
    told += [(f"{where}.fields{step(column)}", each) for column, each in fields.items()]
    if len(parts) > 2:  # noqa: PLR2004  a table and its schema
        yield Fault(f"{where}.table", f'"{table[:80]}" came.', "A table, or one with its schema.", PAGE)
    for place, each in told:
        if not name.fullmatch(each):
            right = "A letter, then letters, digits and _, as it is written in the store."
            yield Fault(place, f'"{each[:80]}" came as a name.', right, PAGE)


def listed_fetch_faults(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the fetches that a placement lists."""
    declared = {each.name: each for each in config.fetches}
    owners: dict[tuple[str, str], str] = {}
    for number, name in enumerate(placement.fetches):
        place = f"{where}.fetches[{number}]"
        if name not in declared:
            yield from known(place, name, declared, "a declared fetch", "One of [[fetches]]", PAGE)
            continue
        if name in placement.fetches[:number]:
            yield Fault(place, f'"{name}" is there already.', "Each once.", PAGE)
            continue
        fetch = declared[name]
        for column in fetch.columns:
            owner = owners.setdefault((fetch.of, column), name)
            if owner != name:
                came = f'"{name}" and "{owner}" both have a column {column} of the {fetch.of}.'
                yield Fault(place, came, "Columns with names of their own.", PAGE)
