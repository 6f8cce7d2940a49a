"""The promises of ``OnlineStore`` that types cannot state. Every implementation runs the same checks."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np

from midstream.core.errors import ShapeMismatch, StoreUnavailable
from midstream.engine.stores.online_store import (
    ID_BYTES_MAX,
    ROWS_MAX,
    TEXT_BYTES_MAX,
    VERSION_MAX,
    OnlineStore,
    StoredValue,
    StoreKind,
    StoreRows,
    StoreValue,
)

COLUMNS: Mapping[str, StoreKind] = {"score": "number", "amount": "integer", "title": "text", "tags": "texts"}
"""Of the table that is checked; one name is a word of SQL to be, another one of Redis."""
Row = tuple[StoreValue, ...]
_ROW: Row = (0.5, 3, "a lamp", ("red", "blue"))
_EMPTY: Row = (None, None, None, None)
HOSTILE_IDS = (
    "it's",
    'a "quoted" one',
    "'; DROP TABLE rows; --",
    "$$",
    "{tag}",
    "a:b:c",
    "*",
    "%s %(ids)s :ids ?",
    "back\\slash",
    " spaces ",
    "line\nbreak\r\n",
    "\u202eright to left",
    "e\u0301 and é",
    "日本語",
    "🛋️",
    "A",
    "a",
    "1",
    "01",
    "NULL",
    "x" * ID_BYTES_MAX,
    "🛋" * (ID_BYTES_MAX // 4),
)
_LARGE = 2**53
"""Above it a float64 does not have all whole numbers, and numbers of Lua and JavaScript are these."""
_BIG_BATCH = 2_500
"""Rows: more than a chunk of any store."""


async def check_online_store(make: Callable[[Mapping[str, StoreKind]], OnlineStore]) -> None:
    """Check that what ``make`` returns keeps every promise of an ``OnlineStore``.

    Args:
        make: Returns each time another client of the same table, which is new.

    Raises:
        AssertionError: A promise is broken; the text says which.
    """
    store, other = make(COLUMNS), make(COLUMNS)
    await store.open()
    await store.open()
    await other.open()
    try:
        for check in (_check_nothing, _check_values, _check_ids, _check_versions, _check_deleted, _check_refusals):
            await check(store)
        for check_two in (_check_positions, _check_writers, _check_large_batch):
            await check_two(store, other)
        await _check_added_column(store, make)
    finally:
        for each in (store, other):
            await each.close()
            await each.close()
    await _check_closed(store)


async def rows_in(store: OnlineStore, ids: Sequence[str]) -> list[tuple[int, tuple[StoredValue, ...]] | None]:
    """Return version and values of each row, None = there is none."""
    found = await store.read(ids, tuple(store.columns))
    columns = [found.columns[name] for name in store.columns]
    _promise(all(len(each) == len(ids) for each in (found.versions, *columns)), "a read gives one value an id")
    return [
        None if version is None else (version, tuple(column[number] for column in columns))
        for number, version in enumerate(found.versions)
    ]


async def ids_in(store: OnlineStore) -> dict[str, int]:
    """Return all ids of a table with their versions."""
    found: dict[str, int] = {}
    cursor: str | None = ""
    while cursor is not None:
        page = await store.scan(cursor)
        _promise(len(page.ids) == len(page.versions) <= ROWS_MAX, "a page has a version an id, and not too many")
        found.update(zip(page.ids, page.versions, strict=True))
        cursor = page.cursor
    return found


def batch(rows: Mapping[str, Row], names: Sequence[str] = tuple(COLUMNS)) -> StoreRows:
    """Return rows as columns."""
    return StoreRows(tuple(rows), {name: [each[number] for each in rows.values()] for number, name in enumerate(names)})


async def _check_nothing(store: OnlineStore) -> None:
    found = await store.read((), tuple(COLUMNS))
    _promise(not found.versions and set(found.columns) == set(COLUMNS), "a read of nothing gives empty columns")
    await store.write(batch({}), 5)
    await store.delete((), 5)
    _promise(await rows_in(store, ("never", "never")) == [None, None], "an id that nobody wrote has no row")
    found = await store.read(("never",), ())
    _promise(not found.columns, "a read gives the columns that were asked for and no others")
    found = await store.read(("never",), ("title",))
    _promise(found.columns == {"title": [None]}, "the values of a row that is not there are missing")


async def _check_values(store: OnlineStore) -> None:
    rows: dict[str, Row] = {
        "values": _ROW,
        "empty": _EMPTY,
        "blank": (0.0, 0, "", ()),
        "least": (5e-324, -(2**63), "'\"\\;--%s$1{}", ("", " ", ",", "[]", 'a"b', "c\nd")),
        "most": (1.7976931348623157e308, 2**63 - 1, "é 🛋 \u2028", ("日本",) * 40),
        "odd": (0.1, _LARGE + 1, "NULL", ("NULL",)),
        "infinite": (math.inf, -1, "x" * TEXT_BYTES_MAX, ("inf",)),
        "infinite below": (-math.inf, 1, "nan", ("null",)),
        "whole": (3, 4, "3", ("3",)),
    }
    await store.write(batch({**rows, "nan": (math.nan, None, None, None)}), 7)
    expected = [(7, each) for each in rows.values()]
    _promise(await rows_in(store, tuple(rows)) == expected, "values come back as they were written, to the bit")
    _promise(await rows_in(store, ("nan",)) == [(7, _EMPTY)], "NaN is missing")
    found = await store.read(("whole", "never", "values", "whole"), ("title", "score"))
    _promise(found.versions == [7, None, 7, 7], "versions stand in the order of the ids, which may repeat")
    _promise(
        found.columns == {"title": ["3", None, "a lamp", "3"], "score": [3.0, None, 0.5, 3.0]},
        "values stand in the order of the ids",
    )
    _promise(type(found.columns["score"][0]) is float, "a number is a float64")


async def _check_ids(store: OnlineStore) -> None:
    rows: dict[str, Row] = {each: (float(number), number, each, (each,)) for number, each in enumerate(HOSTILE_IDS)}
    await store.write(batch(rows), 1)
    _promise(await rows_in(store, HOSTILE_IDS) == [(1, each) for each in rows.values()], "an id is taken as it stands")
    await store.delete(HOSTILE_IDS[::2], 2)
    left = [None if number % 2 == 0 else (1, each) for number, each in enumerate(rows.values())]
    _promise(await rows_in(store, HOSTILE_IDS) == left, "a delete removes these ids and no others")
    found = await ids_in(store)
    _promise({*HOSTILE_IDS} & {*found} == {*HOSTILE_IDS[1::2]}, "a scan has ids as they stand")


async def _check_versions(store: OnlineStore) -> None:
    """Write in several orders; the row of the highest version stays."""
    for versions in (
        (0, 1),
        (9, 10, 9),
        (10, 9),
        (99, 100, 5),
        (_LARGE, _LARGE + 1, _LARGE),
        (_LARGE + 1, _LARGE),
        (_LARGE + 1, _LARGE + 2, _LARGE + 1),
        (VERSION_MAX - 1, VERSION_MAX, VERSION_MAX - 1, VERSION_MAX),
        (2**31, 2**32, 2**31),
        (3, 3, 3),
    ):
        each = f"versions {versions}"
        for number, version in enumerate(versions):
            await store.write(batch({each: _of(version)}), version)
            highest = max(versions[: number + 1])
            expected = [(highest, _of(highest))]
            _promise(await rows_in(store, (each,)) == expected, f"the highest version stays, of {versions}")
    await store.write(batch({"thin": _ROW}), 1)
    await store.write(batch({"thin": (None, 1, None, None), "thick": _ROW}), 2)
    await store.write(batch({"thin": _ROW, "thick": _EMPTY, "new": _ROW}), 1)
    expected = [(2, (None, 1, None, None)), (2, _ROW), (1, _ROW)]
    _promise(await rows_in(store, ("thin", "thick", "new")) == expected, "a row is replaced whole, and each by itself")


async def _check_deleted(store: OnlineStore) -> None:
    await store.write(batch({"gone": _ROW, "kept": _ROW}), 5)
    await store.delete(("gone", "never written"), 6)
    await store.delete(("kept",), 4)
    _promise(await rows_in(store, ("gone", "kept")) == [None, (5, _ROW)], "a delete is fenced as a write is")
    for version in (5, 3):
        await store.write(batch({"gone": _ROW, "never written": _ROW}), version)
    _promise(await rows_in(store, ("gone", "never written")) == [None, None], "an older write brings no row back")
    await store.delete(("gone",), 6)
    await store.delete(("gone",), 5)
    await store.write(batch({"gone": _EMPTY}), 7)
    _promise(await rows_in(store, ("gone",)) == [(7, _EMPTY)], "a later write makes the row anew")
    await store.delete(("gone",), _LARGE + 1)
    await store.write(batch({"gone": _ROW}), _LARGE)
    _promise(await rows_in(store, ("gone",)) == [None], "fences are compared to the last digit")


async def _check_refusals(store: OnlineStore) -> None:
    columns = batch({"refused": _ROW}).columns
    long, pair = "x" * (ID_BYTES_MAX + 1), ("refused", "refused")
    for ids in (("",), ("a\0b",), (long,), ("\ud800",)):
        await _promise_refused(f"the id {ids[0][:5]!r}", store.write(StoreRows(ids, columns), 1))
        await _promise_refused(f"the id {ids[0][:5]!r} to delete", store.delete(ids, 1))
    await _promise_refused("an id that comes twice", store.write(batch_of(pair), 1))
    await _promise_refused("too many ids", store.read(("refused",) * (ROWS_MAX + 1), ()))
    await _promise_refused("an unknown column to read", store.read(("refused",), ("id",)))
    await _promise_refused("an injected column", store.read(("refused",), ("title, amount",)))
    for version in (-1, VERSION_MAX + 1):
        await _promise_refused(f"version {version}", store.write(StoreRows(("refused",), columns), version))
        await _promise_refused(f"version {version} to delete", store.delete(("refused",), version))
    wrong: tuple[Mapping[str, Sequence[StoreValue]], ...] = (
        {**columns, "more": [1]},
        {"score": [1.0]},
        {**columns, "score": [1.0, 2.0]},
        {**columns, "score": ["1"]},
        {**columns, "amount": [0.5]},
        {**columns, "amount": [2**63]},
        {**columns, "title": [1]},
        {**columns, "title": ["a\0b"]},
        {**columns, "title": ["x" * (TEXT_BYTES_MAX + 1)]},
        {**columns, "tags": ["red"]},
        {**columns, "tags": [("\ud800",)]},
    )
    for each in wrong:
        await _promise_refused(f"columns {each}"[:200], store.write(StoreRows(("refused",), each), 1))
    _promise(await rows_in(store, ("refused",)) == [None], "nothing of a refused batch is written")


async def _check_positions(store: OnlineStore, other: OnlineStore) -> None:
    _promise(await store.position("sink") is None, "a position that nobody set is missing")
    await store.set_position("sink", "12@generation")
    await other.set_position("it's another", '{"log_position": 9007199254740993}')
    await store.set_position("sink", "9")
    _promise(await other.position("sink") == "9", "what was set last is the position, for every client")
    _promise(await store.position("it's another") == '{"log_position": 9007199254740993}', "names are kept apart")
    _promise(await rows_in(store, ("sink",)) == [None], "a position is no row")


async def _check_writers(store: OnlineStore, other: OnlineStore) -> None:
    """Write the same rows from two clients at once, in other orders, while they are read."""
    ids = tuple(f"shared {number}" for number in range(40))
    versions = [_LARGE + number for number in range(24)]
    deleted = versions[11]
    seen: list[Sequence[tuple[int, tuple[StoredValue, ...]] | None]] = []
    done = asyncio.Event()

    async def write(writer: OnlineStore, seed: int) -> None:
        random = np.random.default_rng(seed)
        order: list[int] = random.permutation(len(versions)).tolist()
        for place in order:
            places: list[int] = random.permutation(len(ids)).tolist()
            version, own = versions[place], [ids[each] for each in places]
            work = writer.delete(own, version) if version == deleted else writer.write(batch_of(own, version), version)
            await work

    async def read() -> None:
        while not done.is_set():
            seen.append(await rows_in(store, ids))
            await asyncio.sleep(0)

    reading = asyncio.ensure_future(read())
    try:
        await asyncio.gather(*(write(each, seed) for seed, each in enumerate((store, other, store, other))))
    finally:
        done.set()
        await reading
    highest = max(versions)
    seen.append(await rows_in(other, ids))
    _promise(seen[-1] == [(highest, _of(highest))] * len(ids), "of several writers the highest version stays")
    last = [-1] * len(ids)
    for rows in seen:
        for number, row in enumerate(rows):
            if row is not None:
                _promise(row[1] == _of(row[0]), "a row is read whole, of one version")
                _promise(row[0] >= last[number], "the version of a row never goes back")
                last[number] = row[0]


async def _check_large_batch(store: OnlineStore, other: OnlineStore) -> None:
    ids = tuple(f"many {number}" for number in range(_BIG_BATCH))
    rows = batch({each: (number / 8, number, each, (each,)) for number, each in enumerate(ids)})
    await asyncio.gather(store.write(rows, 3), other.write(rows, 3))
    expected = [(3, (number / 8, number, each, (each,))) for number, each in enumerate(ids)]
    _promise(await rows_in(store, ids) == expected, "a large batch is written and read whole")
    await store.delete(ids[:5], 4)
    found = await ids_in(other)
    wanted = dict.fromkeys(ids[5:], 3)
    _promise({each: found.get(each) for each in ids[5:]} == wanted, "a scan has each row, with its version")
    _promise(not {*ids[:5]} & {*found}, "a scan leaves out what was deleted")
    await store.delete(ids, 4)
    _promise(await rows_in(other, ids) == [None] * len(ids), "a large batch is deleted whole")


async def _check_added_column(store: OnlineStore, make: Callable[[Mapping[str, StoreKind]], OnlineStore]) -> None:
    await store.write(batch({"before": _ROW}), 1)
    more: Mapping[str, StoreKind] = {**COLUMNS, "added": "integer"}
    wider = make(more)
    await wider.open()
    try:
        _promise(await rows_in(wider, ("before",)) == [(1, (*_ROW, None))], "an added column is missing in older rows")
        await wider.write(batch({"after": (*_ROW, 8)}, tuple(more)), 1)
        _promise(await rows_in(wider, ("after",)) == [(1, (*_ROW, 8))], "an added column is written")
    finally:
        await wider.close()


async def _check_closed(store: OnlineStore) -> None:
    try:
        await store.read(("values",), ())
    except StoreUnavailable:
        return
    raise AssertionError("promised: a store that is closed is unavailable")


def batch_of(ids: Sequence[str], version: int = 1) -> StoreRows:
    """Return rows whose values follow from a version."""
    row = _of(version)
    return StoreRows(ids, {name: [row[number]] * len(ids) for number, name in enumerate(COLUMNS)})


def _of(version: int) -> Row:
    return (float(version % 97), version, f"of {version}", (f"{version}",) * (version % 3))


async def _promise_refused(what: str, call: Awaitable[object]) -> None:
    try:
        await call
    except ShapeMismatch:
        return
    raise AssertionError(f"promised: {what} is refused")


def _promise(is_kept: bool, what: str) -> None:  # noqa: FBT001
    if not is_kept:
        raise AssertionError(f"promised: {what}")
