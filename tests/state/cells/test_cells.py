"""The cells of features: a plain twin in dictionaries, cut anywhere, merged, forgotten, and after a restart."""

import math
import os
from copy import deepcopy
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build, cut
from midstream.state.cells.cells import CellOwners
from midstream.state.cells.keys import KEY_ROW, CellKeys
from midstream.state.cells.layout import BUCKETS, GROUP_ROWS, HEADS, PLACE, REST, SCOPE, USER_ITEM, layout_of
from midstream.state.cells.read import BOUNDS, PLAN_ROWS, plan_at, read_block
from midstream.state.cells.rows import _find_few, _find_rows, place_items
from midstream.state.expressions.program import Cell, ScopeName, column, compile_columns
from midstream.state.fold import Fold
from midstream.state.ids.user_slots import new_meta
from midstream.state.sessions.sessions import Sessions
from midstream.state.settings import StateLimits
from midstream.state.steps import part
from midstream.state.structures.decay import decay_weight, landmark_at, rebase_factor
from midstream.state.structures.hash_table import table_size
from tests.support.events import START_MS, cuts, event_batches, indexed, random_events, tiny_settings
from tests.support.ids import hash_of

ACTS = ("cart", "click", "view")
MINUTE = 60_000
SCOPES: tuple[tuple[ScopeName, str], ...] = (
    ("global", ""),
    ("user", ""),
    ("item", ""),
    ("session", ""),
    ("user_item", ""),
    ("attribute", "category"),
    ("attribute", "tags"),
    ("user_attribute", "category"),
    ("user_attribute", "tags"),
)
CELLS = tuple(
    sorted(
        [
            Cell(scope, actions, attribute=attribute, **how)
            for scope, attribute in SCOPES
            for actions, how in (
                (ACTS, {}),
                (("impression", "view"), {"half_life_ms": 10 * MINUTE, "take": "weight"}),
                (("impression",), {"window_ms": 30 * MINUTE}),
                (ACTS, {"window_ms": 36 * 3_600_000, "take": "value"}),
                (("view",), {"take": "value", "fold": "min"}),
                (ACTS, {"take": "quantity", "fold": "max"}),
                (ACTS, {"take": "has_value"}),
                (("view",), {"take": "value_squared"}),
                (ACTS, {"take": "value", "fold": "last"}),
                (ACTS, {"take": "time", "fold": "max"}),
                (ACTS, {"fold": "distinct", "of": "user"}),
                (("impression", "view"), {"fold": "distinct", "of": "item"}),
            )
        ],
        key=msgspec.json.encode,
    )
)  # fmt: skip


def settings_of(**limits):
    """Tiny settings with all these cells."""
    tiny = tiny_settings()
    limits = {"feature_user_items_max": 9, "feature_user_values_max": 7, **limits}
    return msgspec.structs.replace(tiny, cells=CELLS, limits=msgspec.structs.replace(tiny.limits, **limits))


SETTINGS = settings_of()


class Plain:
    """One cell of one key, as its definition says."""

    def __init__(self, cell):
        self.cell, self.total, self.landmark, self.buckets = cell, 0.0, -1, {}
        self.value, self.time, self.registers = math.nan, 0, {}
        self.now = 0
        self.width = max(1, -(-cell.window_ms // BUCKETS))
        self.held, self.ahead, self.before = -1, 0.0, dict.fromkeys(range(-BUCKETS, 0), 0.0)

    def move(self, now):
        self.now = now
        half_life = self.cell.half_life_ms
        if half_life:
            landmark = landmark_at(now, half_life)
            if self.landmark not in (-1, landmark):
                self.total *= rebase_factor(self.landmark, landmark, half_life)
            self.landmark = landmark
        if self.cell.window_ms:
            self.move_window(now // self.width)

    def move_window(self, bucket):
        """Note the total before each bucket that began, and take off what is gone."""
        if self.held < 0:
            self.held, self.before = bucket, dict.fromkeys(range(bucket - BUCKETS + 1, bucket + 1), 0.0)
        if bucket <= self.held:
            return
        whole = self.total
        for each in range(max(self.held + 2, bucket - BUCKETS + 1), bucket + 1):
            self.before[each] = whole
        self.before[self.held + 1] = whole - self.ahead
        kept = {each: self.before[each] for each in range(bucket - BUCKETS + 1, bucket + 1)}
        gone = kept[bucket - BUCKETS + 1]
        self.before = {each: before - gone for each, before in kept.items()}
        self.total, self.ahead, self.held = whole - gone, 0.0, bucket

    def add_total(self, bucket, taken):
        if bucket > self.held:
            self.total += taken
            self.ahead += taken
        elif bucket > self.held - BUCKETS:
            self.total += taken
            for late in range(bucket + 1, self.held + 1):
                self.before[late] += taken

    def add(self, event, taken, counted):
        cell, now, time = self.cell, event["log"], event["time"]
        late = now - time > 86_400_000
        if math.isnan(taken) or (late and not cell.half_life_ms):
            return
        if cell.fold == "distinct":
            if counted:
                rest, rank = counted >> 6, 1
                while rank <= 58 and not rest & 1:
                    rest, rank = rest >> 1, rank + 1
                self.registers[counted & 63] = max(rank, self.registers.get(counted & 63, 0))
        elif cell.fold == "min":
            self.value = taken if math.isnan(self.value) else min(self.value, taken)
        elif cell.fold == "max":
            self.value = taken if math.isnan(self.value) else max(self.value, taken)
        elif cell.fold == "last":
            if time >= self.time:
                self.value, self.time = taken, time
        elif cell.half_life_ms:
            self.total += taken * decay_weight(time, self.landmark, cell.half_life_ms)
        elif cell.window_ms:
            bucket = min(time // self.width, self.held + 1)
            self.buckets[bucket] = self.buckets.get(bucket, 0.0) + taken
            self.add_total(bucket, taken)
        else:
            self.total += taken

    def pool(self, plain):
        """Add another, as if all had been folded into one."""
        other, newer = deepcopy(plain), max(self.now, plain.now)
        for each in (self, other):
            each.move(newer)
        self.total, self.ahead = self.total + other.total, self.ahead + other.ahead
        self.before = {bucket: total + other.before[bucket] for bucket, total in self.before.items()}
        for mine, theirs, add in ((self.buckets, other.buckets, sum), (self.registers, other.registers, max)):
            for place, each in theirs.items():
                mine[place] = add((mine.get(place, 0), each))
        if self.cell.fold == "last" and other.time > self.time:
            self.value, self.time = other.value, other.time
        elif self.cell.fold in {"min", "max"} and not math.isnan(other.value):
            best = min if self.cell.fold == "min" else max
            self.value = other.value if math.isnan(self.value) else best(self.value, other.value)

    def read(self, now):
        cell = self.cell
        if cell.fold == "distinct":
            inverse = sum(1.0 / (1 << self.registers.get(each, 0)) for each in range(64))
            empty = 64 - len(self.registers)
            raw = 0.709 * 64 * 64 / inverse
            return ("few", empty) if raw <= 160 and empty else ("many", raw)
        if cell.fold != "sum":
            return self.value
        if cell.half_life_ms:
            return self.total * decay_weight(self.landmark, now, cell.half_life_ms)
        if cell.window_ms:
            first = now // self.width - BUCKETS + 1
            found = 0.0
            if first <= self.held + 1:
                found = self.total - self.before.get(first, 0.0)
                found = self.ahead if first == self.held + 1 else found
            kept = [each for bucket, each in self.buckets.items() if bucket >= max(first, self.held - BUCKETS + 1)]
            assert found == pytest.approx(sum(kept), rel=1e-9, abs=1e-9)
            return found
        return self.total


class Twin:
    """All cells in dictionaries: key of a scope to the cells of a row, in the order in which keys were counted."""

    def __init__(self, settings, item_hash):
        self.settings = settings
        self.item_hash = item_hash
        self.rows = {}
        limits = settings.limits
        self.room = {
            "session": limits.sessions_max,
            "user_item": limits.feature_user_items_max,
            "user_attribute": limits.feature_user_values_max,
        }

    def apply(self, batch, numbers, codes_of):
        """Fold a whole log, event by event."""
        names = self.settings.action_names()
        for i in range(len(batch)):
            action = int(batch.action[i])
            name = names[action] if batch.kind[i] == Kind.INTERACTION and action >= 0 else None
            name = "impression" if batch.kind[i] == Kind.IMPRESSION else name
            if batch.user_is_new[i] and batch.user_index[i] >= 0:
                rows = self.rows.setdefault(("user", ""), {})
                rows[int(batch.user_index[i])] = self.fresh(("user", ""), int(batch.log_time_ms[i]))
            if batch.kind[i] == Kind.USER and batch.operation[i] == Operation.DELETE and batch.folded[i]:
                self.forget(int(batch.user_hash[i]))
            if name is None or not batch.folded[i]:
                continue
            weight = self.settings.types[name].weight if name != "impression" else 0.0
            event = {
                "log": int(batch.log_time_ms[i]), "time": int(batch.event_time_ms[i]), "one": 1.0, "weight": weight,
                "value": float(batch.value[i]), "quantity": float(batch.quantity[i]),
            }  # fmt: skip
            event["value_squared"] = event["value"] * event["value"]
            event["has_value"] = math.nan if math.isnan(event["value"]) else 1.0
            item = int(batch.item_index[i])
            counted = {"user": int(batch.user_hash[i]), "session": int(batch.session_hash[i])}
            counted["item"] = int(self.item_hash[item]) if item >= 0 else 0
            for group in sorted({(cell.scope, cell.attribute) for cell in CELLS}):
                if not any(name in cell.actions for cell in CELLS if (cell.scope, cell.attribute) == group):
                    continue
                for key in self.keys_of(group, batch, i, int(numbers[i]), codes_of):
                    self.count(group, key, name, event, counted)

    def forget(self, user_hash):
        """Be without the pairs of a user who is deleted; the user's own row is a new one by then."""
        for group, rows in self.rows.items():
            if group[0] in {"user_item", "user_attribute"}:
                for key in [key for key in rows if key[0] == user_hash]:
                    del rows[key]

    def keys_of(self, group, batch, i, number, codes_of):
        """Return the keys that an event counts for."""
        scope, attribute = group
        item, user, user_hash = int(batch.item_index[i]), int(batch.user_index[i]), int(batch.user_hash[i])
        codes = codes_of(attribute, item) if attribute and item >= 0 else []
        return {
            "global": [0],
            "user": [user] if user >= 0 else [],
            "item": [item] if item >= 0 else [],
            "session": [number] if number >= 0 else [],
            "user_item": [(user_hash, item)] if user_hash and item >= 0 else [],
            "attribute": codes,
            "user_attribute": [(user_hash, code) for code in codes] if user_hash else [],
        }[scope]

    def fresh(self, group, now):
        """Return a row into which nothing was folded."""
        row = {cell: Plain(cell) for cell in CELLS if (cell.scope, cell.attribute) == group}
        for each in row.values():
            each.move(now)
        return row

    def count(self, group, key, name, event, counted):
        """Fold one event into one row."""
        rows = self.rows.setdefault(group, {})
        row = rows.pop(key, None)
        if row is None:
            if group[0] in self.room and len(rows) == self.room[group[0]]:
                del rows[next(iter(rows))]
            row = self.fresh(group, event["log"])
        rows[key] = row
        for cell, plain in row.items():
            plain.move(event["log"])
            if name in cell.actions:
                taken = event[cell.take]
                plain.add(event, taken, counted.get(cell.of, 0))


def folded(settings, batch, edges=()):
    """Return the fold of a log that was cut at some places."""
    fold = Fold(settings)
    for start, stop in pairwise([0, *sorted({edge for edge in edges if 0 < edge < len(batch)}), len(batch)]):
        fold.apply(LogPosition(start), cut(batch, start, stop))
    return fold


def same(found, expected):
    """Whether a value is the plain one, to the bit; of distinct counts with their definition."""
    if isinstance(expected, tuple):
        kind, number = expected
        return found == pytest.approx(64 * math.log(64 / number) if kind == "few" else number, abs=1e-5)
    return found == expected or (math.isnan(found) and math.isnan(expected))


def row_of(group, key):
    """Return the row of a key."""
    if group.keys is None:
        return key
    first, second = key if isinstance(key, tuple) else (key, 0)
    return int(group.keys.find(np.array([first], dtype=np.uint64), np.array([second], dtype=np.uint64))[0])


def read_all(group, row, now):
    """Return the values of all cells in a row, as its layout alone says where they are."""
    layout = layout_of(msgspec.structs.replace(SETTINGS, cells=group.cells))
    count = len(group.cells)
    found, numbers, factors, nothing = np.empty((count, 1)), np.arange(count), np.empty(count), np.empty(count)
    plan, bounds = np.empty((PLAN_ROWS, count), dtype=np.int64), np.empty((1, BOUNDS), dtype=np.int64)
    plan_at(np.array([0, count]), numbers, numbers, layout.spec, now, plan, factors, nothing, bounds)
    words, at = group.rows[row].copy(), np.zeros(1, np.int64)
    read_block(words, at, 0, 1, 0, 0, count, bounds[0], layout.spec, numbers, plan, factors, nothing, now, found)
    return found[:, 0].tolist()


def require_twin(settings, batch, edges, now):
    """Every key that is held has the plain values, and no other key is held."""
    fold = folded(settings, batch, edges)
    twin, walked = Twin(settings, fold.vocabulary.item_hash), Fold(settings)

    def codes_of(attribute, item):
        codes = walked.items.tags(attribute) if attribute == "tags" else walked.items.category(attribute)
        return [code for code in np.atleast_1d(codes[item]).tolist() if code >= 0]

    index = indexed(batch, settings)
    numbers = Sessions(settings).number(index).number
    for i in range(len(batch)):
        walked.apply(LogPosition(i), cut(batch, i, i + 1))
        twin.apply(part(index, i, i + 1), numbers[i : i + 1], codes_of)
    assert walked.digest() == fold.digest()
    for group in fold.cells.groups:
        rows = twin.rows.get((group.scope, group.attribute), {})
        if group.keys is not None:
            assert len(group.keys) == len(rows)
        for key, plain in rows.items():
            second = (key[0], int(twin.item_hash[key[1]])) if group.scope == "user_item" else key
            values = read_all(group, row_of(group, second), now)
            for cell, value in zip(group.cells, values, strict=True):
                assert same(value, plain[cell].read(now)), (group.name, key, cell)
    require_tags(fold, twin, codes_of, now)


def require_tags(fold, twin, codes_of, now):
    """An item with several tags is read as if the rows of all of them were one; the same in columns."""
    cells = [cell for cell in CELLS if cell.attribute == "tags"]
    program = compile_columns({str(number): column(cell) for number, cell in enumerate(cells)})
    for user in {"", *(key[0] for key in twin.rows.get(("user_attribute", "tags"), {}))}:
        item = np.arange(-1, fold.vocabulary.item_count, dtype=np.int32)
        keys = CellOwners(item, fold.vocabulary.user_slot(user) if user else -1, user or 0)
        found = fold.cells.read(cells, keys, now)
        columns = fold.cells.columns(program, keys, np.empty((0, len(item))), now)
        np.testing.assert_array_equal(columns, found.astype(np.float32))
        for index, values in zip(item.tolist(), found, strict=True):
            for cell, value in zip(cells, values.tolist(), strict=True):
                codes = codes_of("tags", index) if index >= 0 else []
                is_own = cell.scope == "user_attribute"
                rows = twin.rows.get((cell.scope, "tags"), {})
                plains = [
                    rows[key][cell] for key in ([(user, code) for code in codes] if is_own else codes) if key in rows
                ]
                if not codes or (is_own and keys.user_index < 0):
                    assert math.isnan(value)
                elif not plains:
                    assert value == 0.0 if cell.fold in {"sum", "distinct"} else math.isnan(value)
                else:
                    pooled = deepcopy(plains[0])
                    for plain in plains[1:]:
                        pooled.pool(plain)
                    assert same(value, pooled.read(now)), (cell, codes)


@given(event_batches(60), cuts(60), st.sampled_from([0, 1, 7 * MINUTE, 5 * 3_600_000, 40 * 86_400_000]))
def test_cells_are_what_their_definitions_say(batch, edges, later):
    """For every key of every scope: duplicates, late events, evictions, new attributes, wherever a log is cut."""
    if len(batch):
        require_twin(SETTINGS, batch, edges, int(batch.rows["log_time_ms"][-1]) + later)


def test_a_stream_of_a_shop():
    """A thousand events, in which every maximum is met."""
    batch = random_events(1_000, 5)
    require_twin(SETTINGS, batch, [1, 500, 501], int(batch.rows["log_time_ms"][-1]) + MINUTE)
    fold = folded(SETTINGS, batch)
    assert fold.cells.evicted_count > 0


@given(event_batches(50, people=True), cuts(50))
def test_a_restart_changes_nothing(batch, edges):
    """What was restored goes on as what was not, merges and erasures among it; also where another state was before."""
    middle = len(batch) // 2
    whole = folded(SETTINGS, batch, edges)
    first = folded(SETTINGS, cut(batch, 0, middle))
    for again in (Fold(SETTINGS), folded(SETTINGS, batch, edges)):
        again.restore({name: array.copy() for name, array in first.arrays().items()})
        assert again.digest() == first.digest()
        if len(batch) > middle:
            again.apply(LogPosition(middle), cut(batch, middle, len(batch)))
        assert again.digest() == whole.digest()


def resident_bytes():
    """Return the memory of this process that is not only reserved."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def small_pages():
    """Let NumPy reserve memory in pages of 4 KiB."""
    was = import_module("numpy._core.multiarray")._set_madvise_hugepage(False)  # noqa: FBT003  NumPy takes no keyword
    yield
    import_module("numpy._core.multiarray")._set_madvise_hugepage(was)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_restart_pays_for_what_is_in_use():
    """One event with all cells: no page is touched of the rows, keys and tables that it does not need.

    NumPy asks for pages of 2 MiB where the machine has some to give; here for none, so that it does not matter.
    """
    settings = msgspec.structs.replace(SETTINGS, limits=StateLimits())
    small = folded(SETTINGS, build([act("a", "x")])).cells
    small.restore(small.arrays())  # what compiling takes is not counted
    arrays = {name: array.copy() for name, array in folded(settings, build([act("a", "x")])).cells.arrays().items()}
    for again in (Fold(settings), folded(settings, build([act("b", "y"), act("c", "x")]))):
        before = resident_bytes()
        again.cells.restore(arrays)
        assert again.cells.bytes_max > 1 << 30
        assert resident_bytes() - before < 16 << 20


STEPS = st.tuples(st.sampled_from(["take", "take", "release", "restore"]), st.integers(1, 4), st.integers(0, 5))


def new_keys(rows_max, heads=8):
    """Return keys without any in memory of their own."""
    table = np.zeros(table_size(rows_max), dtype=np.int32)
    return CellKeys(np.zeros(rows_max, dtype=KEY_ROW), table, np.zeros(heads, dtype=np.int32), new_meta())


@given(st.lists(STEPS, max_size=60), st.sampled_from([1, 2, 8]))
def test_keys_of_a_user_are_found_whatever_came_before(steps, heads):
    """Taken, evicted, given up and restored, users in one chain among them: the same as in a dictionary."""
    keys, plain = new_keys(7, heads), dict[tuple[int, int], None]()
    for name, first, second in steps:
        if name == "take":
            plain[first, second] = plain.pop((first, second), None)
            if len(plain) > 7:
                del plain[next(iter(plain))]
            keys.take(np.array([first], dtype=np.uint64), np.array([second], dtype=np.uint64))
        elif name == "release":
            for row in keys.of_first(first).tolist():
                keys.release(row)
            plain = {key: None for key in plain if key[0] != first}
        else:
            keys.restore(keys.arrays())
        arrays = keys.arrays()
        assert list(zip(arrays["first"].tolist(), arrays["second"].tolist(), strict=True)) == list(plain)
        for each in range(1, 6):
            found = [keys.second(row) for row in keys.of_first(each).tolist()]
            assert found == sorted(second for first, second in plain if first == each)


def test_a_look_at_one_users_rows_is_none_at_those_of_others():
    """Of a thousand others, whose keys say that they are this user's, next to none is met."""
    keys = new_keys(1_010, 1_024)
    first = np.arange(1, 1_001, dtype=np.uint64)
    keys.take(first, first)
    keys.take(np.full(3, 5_000, dtype=np.uint64), np.arange(3, dtype=np.uint64))
    keys._keys["first"] = 5_000
    assert 3 <= len(keys.of_first(5_000)) < 20


def act(user, item, **more):
    """A view."""
    base = Event(Kind.INTERACTION, action="view", user_id=user, item_id=item, value=2.0, log_time_ms=START_MS)
    return base._replace(event_id=f"{user}-{item}-{len(more)}-{more}", **more)


def keys_for(fold, user, item):
    """Return the keys of one question."""
    vocabulary = fold.vocabulary
    return CellOwners(vocabulary.item_indices((item,)), vocabulary.user_index(user), vocabulary.user_hash_of(user))


@pytest.mark.parametrize("huge", [1.1e18, -1e19, 3e38, 1e75, -1e100, 1e154, 1e200, -1e308])
def test_a_number_too_large_counts_as_not_sent(huge):
    """Of a value its square and that there was one too: no count of a mean has what its sum lacks."""
    quantity = huge if abs(huge) < 1e38 else math.nan
    left = folded(SETTINGS, build([act("a", "x", value=3.0), act("b", "x", value=huge, quantity=quantity)]))
    right = folded(SETTINGS, build([act("a", "x", value=3.0), act("b", "x", value=math.nan, quantity=math.nan)]))
    for name, array in left.cells.arrays().items():
        np.testing.assert_array_equal(array, right.cells.arrays()[name], err_msg=name)


def test_the_largest_number_counts():
    """With its square, which a float32 holds."""
    fold = folded(SETTINGS, build([act("a", "x", value=-1e18, quantity=9e17)]))
    expected = {"value": -1e18, "value_squared": 1e36, "has_value": 1.0, "quantity": float(np.float32(9e17))}
    cells = [cell for cell in CELLS if cell.scope == "item" and cell.take in expected]
    found = fold.cells.read(cells, keys_for(fold, "a", "x"), START_MS)[0].tolist()
    assert found == [expected[cell.take] for cell in cells]
    assert np.isfinite(np.float32(found)).all()


OWN = [cell for cell in CELLS if cell.scope in {"user", "user_item", "user_attribute"}]


def test_two_users_who_become_one_have_what_both_had():
    """Sums add up, the rest is of both: as if all had been one user's, but for the order of float sums."""
    settings = settings_of(feature_user_items_max=99, feature_user_values_max=99)
    item = Event(Kind.ITEM, Operation.PUT, item_id="x", body=b'{"category":"shoes"}', log_time_ms=START_MS)
    drafts = [act("a", "x"), act("b", "x", value=3.0), act("b", "y", value=5.0), act("a", "x", value=7.0)]
    acts = [each._replace(event_time_ms=START_MS - 9 + number) for number, each in enumerate(drafts)]
    events = [item, *acts]
    merge = Event(Kind.USER, Operation.MERGE, user_id="b", body=b'{"from":"a"}', log_time_ms=START_MS)
    apart = folded(settings, build([*events, merge]))
    one = folded(settings, build([event._replace(user_id="b") if event.user_id else event for event in events]))
    for each in "xy":
        left = apart.cells.read(OWN, keys_for(apart, "b", each), START_MS)
        right = one.cells.read(OWN, keys_for(one, "b", each), START_MS)
        for cell, found, expected in zip(OWN, left[0], right[0], strict=True):
            if not (cell.fold == "distinct" and cell.of == "user"):
                np.testing.assert_allclose(found, expected, err_msg=str(cell))


def test_pairs_of_a_user_who_becomes_another_go_in_the_order_in_which_they_came():
    """They are the newest, the one counted longest ago first: it is the next of them to make room."""
    items = [f"item-{number}" for number in range(5)]
    events = [act("a", item, log_time_ms=START_MS + number) for number, item in enumerate([*items, items[0]])]
    merge = Event(Kind.USER, Operation.MERGE, user_id="b", body=b'{"from":"a"}', log_time_ms=START_MS + 99)
    other = act("c", "x", log_time_ms=START_MS + 98)
    fold = folded(settings_of(feature_user_items_max=99), build([*events, other, merge]))
    (keys,) = [group.keys.arrays() for group in fold.cells.groups if group.scope == "user_item"]
    assert keys["first"].tolist() == [hash_of("c")] + [hash_of("b")] * 5
    assert keys["second"].tolist()[1:] == [hash_of(item) for item in (*items[1:], items[0])]


ENDS = (
    Event(Kind.ERASE, user_id="a", log_time_ms=START_MS),
    Event(Kind.USER, Operation.DELETE, user_id="a", log_time_ms=START_MS),
)
"""An erasure, and a user who is deleted."""


@pytest.mark.parametrize("end", ENDS)
def test_a_user_who_is_gone_starts_cold(end):
    """After an erasure and after a deletion, by every cell of the user: what comes later is all that is known."""
    settings = settings_of(feature_user_items_max=99, feature_user_values_max=99)
    item = Event(Kind.ITEM, Operation.PUT, item_id="x", body=b'{"category":"shoes","tags":["a","b"]}')
    events = [item._replace(log_time_ms=START_MS), act("a", "x"), act("b", "x"), end]
    later = act("a", "x", value=5.0, event_time_ms=START_MS + 1, log_time_ms=START_MS + 1)
    fold, fresh = folded(settings, build([*events, later])), folded(settings, build([*events[::2], later]))
    found = fold.cells.read(OWN, keys_for(fold, "a", "x"), START_MS + 1)
    np.testing.assert_array_equal(found, fresh.cells.read(OWN, keys_for(fresh, "a", "x"), START_MS + 1))
    stepped = folded(settings, build([*events, later]), range(5))
    assert stepped.digest() == fold.digest()


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_of_a_user_who_is_forgotten(end):
    """Rows of the user, with items and with values; what is counted of items stays."""
    settings = settings_of(feature_user_items_max=99, feature_user_values_max=99)
    item = Event(
        Kind.ITEM, Operation.PUT, item_id="x", body=b'{"category":"shoes","tags":["a","b"]}', log_time_ms=START_MS
    )
    fold = folded(settings, build([item, act("a", "x"), act("b", "x"), end]))
    without = folded(settings, build([item, act("b", "x")]))
    for group in fold.cells.groups:
        if group.keys is not None and group.scope != "session":
            assert group.keys.arrays()["first"].tolist() == [hash_of("b")] * (1 + (group.attribute == "tags"))
    counts = [cell for cell in CELLS if cell.scope == "item" and cell.actions == ACTS and cell.take == "one"]
    found = fold.cells.read([cell for cell in counts if cell.fold == "sum"], keys_for(fold, "b", "x"), START_MS)
    assert found.tolist() == [[2.0]]
    again = fold.cells.read(OWN, keys_for(fold, "b", "x"), START_MS)
    np.testing.assert_array_equal(again, without.cells.read(OWN, keys_for(without, "b", "x"), START_MS))


def test_what_is_not_known_is_nan_and_what_never_was_is_nothing():
    """An unknown user or item has no counts; a known pair that never met has none, but knows it."""
    fold = folded(SETTINGS, build([act("a", "x"), act("b", "y")]))
    counts = [cell for cell in CELLS if cell.fold == "sum" and cell.take == "one" and cell.scope == "user_item"]
    assert fold.cells.read(counts, keys_for(fold, "a", "y"), START_MS)[0].tolist() == [0.0] * len(counts)
    assert np.isnan(fold.cells.read(counts, keys_for(fold, "a", "nobody-knows"), START_MS)).all()
    assert np.isnan(fold.cells.read(counts, keys_for(fold, "stranger", "x"), START_MS)).all()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 39)), max_size=80), st.integers(1, 5))
def test_pairs_are_found_whether_a_user_has_few_or_many(acts, repeated):
    """By their chain or one by one: each has its own count, and one candidate alone what it has among others."""
    item = Event(Kind.ITEM, Operation.PUT, body=b'{"category":"shoes"}', log_time_ms=START_MS)
    catalogue = [item._replace(item_id=f"i{each}", body=b'{"category":"c%d"}' % (each % 7)) for each in range(40)]
    views = [act(user, f"i{each}")._replace(event_id=str(number)) for number, (user, each) in enumerate(acts)]
    limits = {"feature_user_items_max": 99, "feature_user_values_max": 99, "document_bytes_max": 1 << 16}
    fold = folded(settings_of(items_max=99, **limits), build([*catalogue, *views]))
    cells = [
        cell
        for cell in CELLS
        if cell.scope in {"user_item", "user_attribute"} and (cell.actions, cell.take) == (ACTS, "one")
        if cell.fold == "sum" and cell.attribute in {"", "category"}
    ]
    for user in {user for user, _ in acts}:
        own = [each for name, each in acts if name == user]
        every = fold.vocabulary.item_indices(tuple(f"i{each}" for each in range(40)))
        found = fold.cells.read(
            cells, keys_for(fold, user, "i0")._replace(item_index=np.tile(every, repeated)), START_MS
        )
        for place, cell in enumerate(cells):
            of = [each % 7 if cell.attribute else each for each in own]
            expected = [of.count(each % 7 if cell.attribute else each) for each in range(40)]
            assert found[:, place].tolist() == expected * repeated
        for each in own[:3]:
            alone = fold.cells.read(cells, keys_for(fold, user, f"i{each}"), START_MS)
            np.testing.assert_array_equal(alone[0], found[each])


@pytest.mark.parametrize("user", ["a", "stranger"])
def test_of_no_items_nothing_is_read(monkeypatch, user):
    """No row is looked for: there is none whose place anybody wrote."""
    fold = folded(SETTINGS, build([act("a", "x")]))

    def fails(*_asked):
        raise AssertionError

    for name in ("read_matrix", "read_columns"):
        monkeypatch.setattr(f"midstream.state.cells.cells.{name}", fails)
    keys = keys_for(fold, user, "x")._replace(item_index=np.empty(0, dtype=np.int32))
    assert fold.cells.read(CELLS, keys, START_MS).shape == (0, len(CELLS))
    program = compile_columns({"views": column(CELLS[0])})
    assert fold.cells.columns(program, keys, np.empty((0, 0)), START_MS).shape == (0, 1)


def test_places_are_found_of_the_items_alone():
    """Both ways to find pairs look at as many items as there are, not at as many places as there is room for."""
    group = np.zeros(GROUP_ROWS, dtype=np.int64)
    group[[SCOPE, HEADS]] = USER_ITEM, 1
    none, hashes = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.uint64)
    codes, tables, row_of = np.empty((0, 0), np.int32), np.zeros(1, np.int32), np.full((1, 1), 7)
    keys = np.zeros(1, dtype=KEY_ROW)
    few, rows, place = (cast("Any", each).py_func for each in (_find_few, _find_rows, place_items))
    assert few(group, np.uint64(5), none, hashes, codes, keys, tables, row_of)
    rows(group, np.uint64(5), none, hashes, codes, keys["hash"], tables, row_of)
    place(group, 0, np.uint64(5), -1, none, hashes, codes, keys, tables, row_of)
    assert row_of.tolist() == [[7]]


@given(event_batches(60), cuts(60))
def test_a_distinct_count_says_what_its_registers_add_up_to(batch, edges):
    """Of every key of every scope: how many are in use, and how much less than 64 the sum of 2^-rank is."""
    fold = folded(SETTINGS, batch, edges)
    for group in fold.cells.groups:
        layout = layout_of(msgspec.structs.replace(SETTINGS, cells=group.cells))
        for number in [number for number, cell in enumerate(group.cells) if cell.fold == "distinct"]:
            word, first = layout.spec[[PLACE, REST], number]
            registers = group.rows[:, first : first + 8].copy().view(np.uint8).astype(np.int64)
            below = ((1 << 50) - (1 << 50 - registers)).sum(axis=1)
            found = group.rows[:, word].copy().view(np.int64)
            np.testing.assert_array_equal(found, ((registers > 0).sum(axis=1) << 56) + below)
            assert np.isfinite(group.rows[:, word]).all()
