"""Bugs that the suite must catch: each is put into a copy of the project, and the tests named beside it must fail.

A test that nobody has seen fail says little. ``tests/test_seeded_bugs.py`` checks that every edit still fits.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FAILED_TESTS = 1
"""Exit status of pytest when tests ran and some failed; a copy that does not even import ends with another one."""

TEST_S_MAX = 900
"""Seconds of one test: kernels that a bug changes are compiled anew for it, and all of them for the first one."""

RUN_S_MAX = 3 * TEST_S_MAX
"""Seconds of all tests of one bug. A loop without end in a kernel never returns to where pytest looks at the time; of
the others only the first ones compile."""

SUMMARY = " short test summary info "
"""In the line behind which pytest says which tests failed."""


@dataclass(frozen=True)
class Edit:
    """One text for another, in a file of the package."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """What is done wrong, and the tests that must notice."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


FUZZ = ("tests/simulation/test_fuzz.py",)
EXPERIMENTS = ("tests/engine/experiments/test_experimenting.py",)
POWER_LOSS = ("tests/events/test_power_loss.py",)
LOG = ("tests/events/segments/test_segments.py", "tests/events/test_bit_flips.py", "tests/events/test_power_loss.py")
SNAPSHOTS = ("tests/engine/snapshots/test_snapshots.py",)
ARRAY_FILES = ("tests/engine/snapshots/test_array_files.py",)
HISTORY = ("tests/events/history/test_history.py",)
SEALING = ("tests/events/test_sealing_power_loss.py",)
CELLS = ("tests/state/cells/test_cells.py",)
WINDOWS = ("tests/state/cells/test_windows.py",)
KINDS_PAGE = ("tests/features/test_features_page.py",)
INPUTS = ("tests/features/readers/test_inputs.py",)
LANGUAGE = ("tests/features/test_language.py", "tests/features/test_conditions.py", "tests/features/test_numbers.py")
VECTORS = ("tests/state/attributes/test_vectors.py",)
RING = ("tests/state/users/test_ring_query.py",)
AGENTS = ("tests/features/readers/test_agents.py",)
FEATURE_PARITY = ("tests/parity/test_features.py",)
TABLES = ("tests/features/test_versions.py", "tests/app/test_feature_tables.py")
OUTCOMES = ("tests/state/outcomes/test_outcomes.py",)
DRIFT = ("tests/evaluation/metrics/test_drift.py",)
RETENTION = ("tests/engine/history/test_retention.py",)
BACKUP = ("tests/app/operate/test_backup.py",)
PARITY = ("tests/app/point_in_time/test_parity.py", "tests/engine/snapshots/test_parity_watch.py")
AS_OF = ("tests/features/test_as_of.py",)
FOLD = ("tests/state/test_fold.py",)
ENGINE = ("tests/engine/test_engine.py",)
PLAIN = ("tests/events/json/test_plain.py",)
ARROW = ("tests/events/arrow/test_arrow.py", "tests/events/arrow/test_messages.py")
BULK = ("tests/serving/events/test_bulk.py",)
GATE = "serving/request_origin.py"
GATED = ("tests/serving/test_request_origin.py",)
SYNC = "            self._disk.sync(file)  # only now may the commit be acknowledged"

KINDS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("unknown_truths_are_numbers", "features/readers/inputs.py", "        found[found < 0] = np.nan\n", "", INPUTS),
    (
        "lists_are_not_reduced",
        "features/readers/request_inputs.py",
        "if self.reduction is None else",
        "if True else",
        KINDS_PAGE,
    ),
    (
        "a_value_is_where_it_was_sorted",
        "features/readers/coding.py",
        "== codes, order[at], len",
        "== codes, at, len",
        INPUTS,
    ),
    ("one_hot_of_the_first_tag", "features/readers/coding.py", "(wide == code).any(axis=0)", "wide[0] == code", INPUTS),
    (
        "buckets_of_codes",
        "features/readers/coding.py",
        "self.of_hashes(items.value_hashes(attribute)[first])",
        "(first % self.buckets).astype(np.float64)",
        INPUTS,
    ),
    (
        "vectors_of_any_length",
        "features/readers/request_inputs.py",
        "len(numbers) == self.length",
        "len(numbers) > 1",
        INPUTS,
    ),
    (
        "ages_in_milliseconds",
        "features/kinds/attributes.py",
        "(NOW - columns_from(reader)[0]) / SECOND_MS",
        "NOW - columns_from(reader)[0]",
        KINDS_PAGE,
    ),
    (
        "arrivals_are_lost_at_a_restart",
        "state/items/items.py",
        'self._arrived_ms[:count] = arrays["arrived_ms"]',
        "self._arrived_ms[:count] = 0",
        FEATURE_PARITY,
    ),
    (
        "spaces_are_words",
        "features/readers/texts.py",
        "[:CHARACTERS_MAX].split())",
        '[:CHARACTERS_MAX].split(" "))',
        INPUTS,
    ),
    (
        "overlap_of_one_side",
        "features/readers/texts.py",
        "/ (len(left) + len(right) - common)",
        "/ len(left)",
        KINDS_PAGE,
    ),
    (
        "an_item_is_like_itself",
        "state/attributes/value_overlap.py",
        "own = 1 if is_among else 0",
        "own = 0",
        KINDS_PAGE,
    ),
    (
        "windows_that_fade",
        "features/kinds/counts.py",
        "window_ms=each.ms) for",
        "half_life_ms=each.ms) for",
        KINDS_PAGE,
    ),
    (
        "weights_count_as_one",
        "features/kinds/counts.py",
        '"weight" if self.weighted else "one"\n        found',
        '"one"\n        found',
        KINDS_PAGE,
    ),
    (
        "what_is_old_lives",
        "features/kinds/counts.py",
        "(NOW - column(newest), column(float(self.ttl.ms)))",
        "(column(0.0), NOW - column(newest))",
        KINDS_PAGE,
    ),
    (
        "rates_are_not_smoothed",
        "features/kinds/counts.py",
        "everybody[0] / everybody[1] * self.smoothing",
        "everybody[0] / everybody[1] * 0.0",
        KINDS_PAGE,
    ),
    ("distinct_users_are_items", "features/kinds/counts.py", "of=self.of", 'of="item"', KINDS_PAGE),
    ("deviation_of_the_mean", "features/kinds/counts.py", "squares - mean * mean", "squares - mean", KINDS_PAGE),
    (
        "since_the_first_act",
        "features/kinds/counts.py",
        'self.cell("time"), fold="max"',
        'self.cell("time"), fold="min"',
        KINDS_PAGE,
    ),
    (
        "affinity_without_everybody",
        "features/kinds/counts.py",
        "value / everybody * self.smoothing",
        "value / everybody * 0.0",
        KINDS_PAGE,
    ),
    (
        "match_with_what_has_no_value",
        "state/attributes/value_overlap.py",
        "known += has_any",
        "known += 1",
        ("tests/state/attributes/test_value_overlap.py",),
    ),
    (
        "the_oldest_items_are_the_last",
        "state/users/recent_items.py",
        "moment.recent_item_index[::-1].tolist()",
        "moment.recent_item_index.tolist()",
        INPUTS,
    ),
    (
        "what_is_disliked_counts_too",
        "state/users/users.py",
        "if actions else self.is_positive",
        "if actions else np.ones(len(self._names), dtype=np.bool_)",
        INPUTS,
    ),
    ("the_ring_is_read_forwards", "state/users/ring_query.py", "signed(added - back)", "signed(added + back)", RING),
    ("scores_of_other_items", "features/readers/inputs.py", "place = order[at]", "place = at", INPUTS),
    ("other_options_of_knn", "features/kinds/history.py", "KnnScores(query,", "KnnScores(SessionQuery(),", INPUTS),
    ("weeks_begin_on_thursday", "features/readers/request_inputs.py", " + _THURSDAY) % 7", ") % 7", KINDS_PAGE),
    (
        "agents_as_they_are_written",
        "features/readers/agents.py",
        "text[:_TEXT_MAX].lower()",
        "text[:_TEXT_MAX]",
        AGENTS,
    ),
    ("hosts_that_end_alike", "features/readers/agents.py", 'host.endswith(f".{own}")', "host.endswith(own)", AGENTS),
    (
        "fields_of_items_that_are_gone",
        "features/readers/request_inputs.py",
        "looked_up(item_index[known], known.astype(np.float64),",
        "looked_up(item_index[known], np.arange(len(known), dtype=np.float64),",
        INPUTS,
    ),
    (
        "fields_of_another_candidate",
        "features/readers/request_inputs.py",
        "row = place[named].astype(np.intp)",
        "row = np.sort(place[named]).astype(np.intp)",
        INPUTS,
    ),
    (
        "an_item_without_a_vector_has_one_of_zeros",
        "state/attributes/vectors.py",
        "found[(item_index < 0) | ~self._known[item_index]]",
        "found[item_index < 0]",
        VECTORS,
    ),
    (
        "a_vector_that_a_snapshot_has_not_stays",
        "state/attributes/vectors.py",
        "        self._known[before] = False\n        self._scale",
        "        self._scale",
        VECTORS,
    ),
    (
        "a_short_vector_is_taken",
        "events/values.py",
        "if len(numbers) != length:",
        "if len(numbers) > length:",
        ("tests/events/json/test_decode.py",),
    ),
    (
        "relevancy_by_its_name",
        "features/kinds/request.py",
        'ItemFieldReader("relevancy")',
        "ItemFieldReader(self.name)",
        KINDS_PAGE,
    ),
    ("the_first_place_for_all", "features/readers/request_inputs.py", "] = self.otherwise", "] = 0.0", KINDS_PAGE),
    ("chance_without_the_seed", "features/readers/request_inputs.py", "moment.query.seed & _BITS", "1 & _BITS", INPUTS),
    ("readers_over_one_another", "features/declared.py", "            start += reader.rows\n", "", KINDS_PAGE),
)
"""One for each kind of feature: name, file, what stands there, what is put in its place, tests."""

TEXTS = (
    (
        "at_least_is_at_most",
        "features/expressions/reading.py",
        '">=": lambda left, right: opposite(Expression(Op.LESS, (left, right)))',
        '">=": lambda left, right: opposite(Expression(Op.LESS, (right, left)))',
        LANGUAGE,
    ),
    (
        "less_is_more",
        "features/expressions/reading.py",
        '"<": lambda left, right: Expression(Op.LESS, (left, right))',
        '"<": lambda left, right: Expression(Op.LESS, (right, left))',
        LANGUAGE,
    ),
    (
        "more_is_at_least",
        "features/expressions/reading.py",
        '">": lambda left, right: Expression(Op.LESS, (right, left))',
        '">": lambda left, right: opposite(Expression(Op.LESS, (left, right)))',
        LANGUAGE,
    ),
    (
        "at_most_is_less",
        "features/expressions/reading.py",
        '"<=": lambda left, right: opposite(Expression(Op.LESS, (right, left)))',
        '"<=": lambda left, right: Expression(Op.LESS, (left, right))',
        LANGUAGE,
    ),
    (
        "equal_and_not_equal",
        "features/expressions/reading.py",
        'operator in ("in", "==") else opposite',
        'operator in ("in", "!=") else opposite',
        LANGUAGE,
    ),
    (
        "in_and_not_in",
        "features/expressions/reading.py",
        'operator in ("in", "==") else opposite',
        'operator in ("not in", "==") else opposite',
        LANGUAGE,
    ),
    (
        "and_is_or",
        "features/expressions/reading.py",
        "Op.MIN if isinstance(op, ast.And) else Op.MAX",
        "Op.MAX if isinstance(op, ast.And) else Op.MIN",
        LANGUAGE,
    ),
    (
        "a_chain_of_any",
        "features/expressions/reading.py",
        "for op, pair in pairs], Op.MIN)",
        "for op, pair in pairs], Op.MAX)",
        LANGUAGE,
    ),
    (
        "not_is_nothing",
        "features/expressions/values.py",
        "return Expression(Op.SUBTRACT, (column(1.0), truth))",
        "return truth",
        LANGUAGE,
    ),
    ("unknown_is_true", "features/expressions/values.py", "_HALF = column(0.5)", "_HALF = column(1.0)", LANGUAGE),
    (
        "unknown_of_and_is_unknown",
        "features/expressions/values.py",
        "return Expression(Op.IF_NAN, (truth, _HALF))",
        "return truth",
        LANGUAGE,
    ),
    (
        "a_condition_is_half_a_number",
        "features/expressions/reading.py",
        "truth if is_alone else whole(halved(truth))",
        "truth if is_alone else halved(truth)",
        LANGUAGE,
    ),
    ("plus_is_minus", "features/expressions/reading.py", "ast.Add: Op.ADD,", "ast.Add: Op.SUBTRACT,", LANGUAGE),
    ("minus_is_plus", "features/expressions/reading.py", "ast.Sub: Op.SUBTRACT,", "ast.Sub: Op.ADD,", LANGUAGE),
    ("times_is_by", "features/expressions/reading.py", "ast.Mult: Op.MULTIPLY,", "ast.Mult: Op.DIVIDE,", LANGUAGE),
    ("by_is_times", "features/expressions/reading.py", "ast.Div: Op.DIVIDE,", "ast.Div: Op.MULTIPLY,", LANGUAGE),
    ("least_is_most", "features/expressions/reading.py", '"min": (Op.MIN', '"min": (Op.MAX', LANGUAGE),
    ("most_is_least", "features/expressions/reading.py", '"max": (Op.MAX', '"max": (Op.MIN', LANGUAGE),
    ("root_is_logarithm", "features/expressions/reading.py", '"sqrt": (Op.SQRT', '"sqrt": (Op.LOG', LANGUAGE),
    ("logarithm_is_root", "features/expressions/reading.py", '"log": (Op.LOG', '"log": (Op.SQRT', LANGUAGE),
    ("if_nan_is_least", "features/expressions/reading.py", '"if_nan": (Op.IF_NAN', '"if_nan": (Op.MIN', LANGUAGE),
)
"""One for each operation of the language, as ``KINDS``."""

BUGS = (
    *(Bug(name, (Edit(file, old, new),), tests) for name, file, old, new, tests in TEXTS),
    *(Bug(name, (Edit(file, old, new),), tests) for name, file, old, new, tests in KINDS),
    Bug("no_sync", (Edit("events/segments/segments.py", SYNC, "            _ = file"),), POWER_LOSS),
    Bug(
        "every_second_sync_late",
        (
            Edit(
                "events/segments/segments.py", SYNC, "            _ = self._tail.position % 2 and self._disk.sync(file)"
            ),
        ),
        POWER_LOSS,
    ),
    Bug(
        "acknowledge_into_a_file_without_a_name",
        (Edit("events/segments/segments.py", "        self.require_in_place()  #", "        _ = file  #"),),
        ("tests/events/test_in_place.py",),
    ),
    Bug(
        "lock_of_a_file_that_can_be_removed",
        (
            Edit(
                "events/disk.py", "            held = _locked(file, folder)", "            fcntl.flock(held := file, 6)"
            ),
        ),
        ("tests/events/test_in_place.py",),
    ),
    Bug(
        "control_event_of_a_variant_without_its_plan",
        (
            Edit(
                "engine/placements/control_changes.py",
                "        self._rebuilder.swap_plans(made)\n",
                "        self._rebuilder.service = made\n",
            ),
        ),
        EXPERIMENTS,
    ),
    Bug(
        "document_of_an_experiment_left_out",
        (
            Edit(
                "engine/placements/control_changes.py",
                "body=encode_placement(body)) for body in bodies)",
                "body=encode_placement(body)) for body in bodies[:2])",
            ),
        ),
        EXPERIMENTS,
    ),
    Bug(
        "held_out_user_gets_a_variant",
        (
            Edit(
                "experiments/routes.py",
                "        if is_user and _hash(unit, self._salt)",
                "        if not unit and _hash(unit, self._salt)",
            ),
        ),
        EXPERIMENTS,
    ),
    Bug(
        "variant_by_the_bucket_of_its_layer",
        (Edit("experiments/routes.py", "names[variants[_hash(unit, salt) % BUCKETS]]", "names[variants[own]]"),),
        ("tests/experiments",),
    ),
    Bug(
        "pinned_version_falls_back_to_the_champion",
        (
            Edit(
                "models/pins.py",
                "keys = {name: pin_key(name, pinned[name]) if name in pinned else name for name in names}",
                "keys = {name: name for name in names}",
            ),
        ),
        ("tests/engine/models/test_pinned_versions.py",),
    ),
    Bug(
        "watch_stops_where_the_sample_ratio_is_wrong",
        (Edit("engine/experiments/watch.py", "    if ratio.is_failed:\n", "    if ratio.is_failed and count < 0:\n"),),
        ("tests/engine/experiments/test_watch.py",),
    ),
    Bug(
        "watch_forgets_the_log_before_its_start",
        (
            Edit(
                "engine/experiments/watch.py",
                "            self._position = LogPosition(min(each.began_position for each in running.values()))\n",
                "            self._position = fold.log_position\n",
            ),
        ),
        ("tests/engine/experiments/test_watch.py",),
    ),
    Bug(
        "log_shorter_than_its_snapshot",
        (
            Edit(
                "events/segments/segments.py",
                "        self._known_end.require(self._folder, found.tail.position)\n",
                "",
            ),
        ),
        ("tests/engine/test_log_completeness.py",),
    ),
    Bug(
        "served_records_gone_with_a_full_queue",
        (
            Edit(
                "engine/ingest/served_buffer.py",
                "            self._keep(AGAIN_S)\n",
                "            self._lots.clear()\n",
            ),
        ),
        ("tests/engine/ingest/test_served_buffer.py",),
    ),
    Bug(
        "reset_behind_the_last_answer",
        (
            Edit(
                "serving/http/bounded_protocol.py",
                "            self._lingering = Lingering(self.transport, self.loop, self.close)\n",
                "            self.close()\n",
            ),
        ),
        ("tests/service/test_connections.py",),
    ),
    Bug(
        "memory_of_refused_packings",
        (
            Edit(
                "serving/http/decompression.py",
                "            found = self._read(min(",
                "            found = self._source.read(min(",
            ),
        ),
        ("tests/serving/http/test_decompression.py",),
    ),
    Bug(
        "half_a_key",
        (Edit("engine/folder.py", "        if size == KEY_BYTES and is_file:", "        if size >= 0:"),),
        ("tests/engine/test_key.py",),
    ),
    Bug(
        "same_generation_after_a_restore",
        (Edit("app/operate/restore.py", "            _begin_generation(work)\n", ""),),
        ("tests/app/operate/test_backup.py",),
    ),
    Bug(
        "rewritten_is_damaged",
        (
            Edit(
                "events/segments/segment_reader.py",
                "            if self._is_replaced():",
                "            if not self._is_replaced:",
            ),
        ),
        ("tests/app/test_rewritten_meanwhile.py",),
    ),
    Bug(
        "no_folder_sync",
        (
            Edit(
                "events/segments/segments.py",
                "            self._disk.sync_folder(self._folder)  # a file without a name is lost, however well it is synced",  # noqa: E501  the line as it is
                "            _ = file",
            ),
        ),
        POWER_LOSS,
    ),
    Bug(
        "acknowledge_before_sync",
        (
            Edit(
                "engine/ingest/event_recording.py",
                "            if has_rows and admitted.is_new:",
                "            if has_rows and admitted.is_new:\n"
                "                return self._acknowledged(admitted, ())\n"
                "            if has_rows and admitted.is_new:",
            ),
        ),
        ENGINE,
    ),
    Bug(
        "value_at_an_edge_in_the_bin_above",
        (
            Edit(
                "evaluation/metrics/drift.py",
                'np.bincount(np.searchsorted(edges, values, side="left")',
                'np.bincount(np.searchsorted(edges, values, side="right")',
            ),
        ),
        DRIFT,
    ),
    Bug(
        "table_row_of_this_very_moment",
        (Edit("features/versions.py", "    if times[stop - 1] < now_ms:", "    if times[stop - 1] <= now_ms:"),),
        TABLES,
    ),
    Bug(
        "table_row_of_the_same_time_in_any_order",
        (
            Edit(
                "features/versions.py",
                "np.lexsort((times, hashes))",
                "np.lexsort((-np.arange(len(times)), times, hashes))",
            ),
        ),
        TABLES,
    ),
    Bug(
        "table_row_of_the_age_of_its_ttl",
        (Edit("features/versions.py", "now_ms - times[row[i]] >= ttl_ms", "now_ms - times[row[i]] > ttl_ms"),),
        TABLES,
    ),
    Bug(
        "table_time_rounded_up",
        (Edit("app/feature_tables.py", "astype(np.int64) // micros", "astype(np.int64) // -micros * -1"),),
        TABLES,
    ),
    Bug(
        "missing_values_in_the_last_bin",
        (
            Edit(
                "evaluation/metrics/drift.py",
                "    known = values[np.isfinite(values)].astype(np.float64)",
                "    known = values.astype(np.float64)",
            ),
        ),
        DRIFT,
    ),
    Bug(
        "no_checksum",
        (Edit("events/segments/frames.py", "    return summed.digest() == frame.checksum", "    return True"),),
        LOG,
    ),
    Bug(
        "truncation_in_mid_log",
        (
            Edit(
                "events/segments/segment_scan.py",
                "        flaw = _Flaw(flaw.reason, None if later is None else later.first, later is not None or not is_last)",  # noqa: E501  the line as it is
                "        flaw = _Flaw(flaw.reason, None, is_damage=False)",
            ),
        ),
        LOG,
    ),
    Bug(
        "second_sync_after_a_failed_one",
        (
            Edit(
                "events/segments/segments.py",
                '            raise self._refuse(f"a commit of {bytes_of(parts)} bytes could not be synced", error) from error',  # noqa: E501  the line as it is
                "            self._disk.sync(file)",
            ),
        ),
        LOG,
    ),
    Bug(
        "no_dedupe",
        (Edit("state/ids/vocabulary.py", "found == _NEW)", "found >= _NEW)"),),
        ("tests/state/test_fold.py", "tests/state/ids/test_vocabulary.py", "tests/state/ids/test_event_ids.py"),
    ),
    Bug(
        "who_is_erased_again_is_remembered_until_another_is_forgotten",
        (
            Edit(
                "state/ids/erased_users.py",
                "min([*due, *last.values()], default=_NEVER)",
                "min(last.values(), default=_NEVER)",
            ),
        ),
        ("tests/state/test_fold.py",),
    ),
    Bug(
        "an_item_of_the_same_hash_is_the_item",
        (
            Edit(
                "state/ids/item_slots.py",
                "found, is_found = at if same else _TAKEN, True",
                "found, is_found = at, True",
            ),
        ),
        ("tests/state/ids/test_vocabulary.py",),
    ),
    Bug(
        "ids_hash_alike_in_every_log",
        (
            Edit(
                "events/siphash.py",
                "    a, b, c, d = key[0] ^ _A, key[1] ^ _B, key[0] ^ _C, key[1] ^ _D\n    at",
                "    a, b, c, d = _A, _B, _C, _D\n    at",
            ),
        ),
        ("tests/state/structures/test_hashing.py", "tests/state/test_collisions.py"),
    ),
    Bug(
        "segment_outlives_its_user",
        (Edit("state/segments/segment_fold.py", "            user_code[user] = 0\n", "            pass\n"),),
        ("tests/state/segments/test_segments.py",),
    ),
    Bug(
        "item_arrives_at_each_change",
        (Edit("state/items/items.py", "        if self._status[index] != CATALOGUED:", "        if True:"),),
        ("tests/state/items/test_arrivals.py",),
    ),
    Bug(
        "letter_sent_again_without_an_id",
        (
            Edit(
                "events/dead_letters/resending.py",
                'if _is_sent(fields, "event_id"):\n        return dated',
                "if dated:\n        return dated",
            ),
        ),
        ("tests/events/dead_letters/test_resending.py", "tests/serving/admin/test_dead_letters.py"),
    ),
    Bug(
        "no_dedupe_in_the_intake",
        (
            Edit(
                "engine/ingest/dedupe.py",
                "self._pending.admit(prints, outcome, lot)",
                "self._pending.admit(prints, outcome.copy(), lot)",
            ),
        ),
        ENGINE,
    ),
    Bug(
        "snapshot_without_rename",
        (
            Edit(
                "engine/snapshots/snapshots.py",
                '    temporary = folder / f"{_TEMPORARY}{name}"\n',
                "    temporary = folder / name\n",
            ),
            Edit(
                "engine/snapshots/snapshots.py",
                "    put(temporary, folder / name)\n",
                "",
            ),
        ),
        SNAPSHOTS,
    ),
    Bug(
        "files_that_no_table_asks_for_are_not_verified",
        (
            Edit(
                "engine/snapshots/array_files.py", "        for key in list(self._reads):\n", "        for key in ():\n"
            ),
        ),
        ARRAY_FILES,
    ),
    Bug(
        "hash_of_an_array_is_not_compared",
        (Edit("engine/snapshots/array_files.py", "    if found != digest:\n", "    if not found:\n"),),
        ARRAY_FILES,
    ),
    Bug(
        "digest_before_the_rows_have_come",
        (Edit("engine/snapshots/snapshots.py", "fold.digest(arrays.verify)", "fold.digest()"),),
        ARRAY_FILES,
    ),
    Bug(
        "negative_zeros_are_left_out",
        (
            Edit(
                "state/structures/packed_words.py",
                "            if words[start + bit] != _NONE:\n",
                "            if words[start + bit] << _ONE != _NONE:\n",
            ),
            Edit(
                "state/structures/packed_words.py",
                "        if words[place] != _NONE:\n",
                "        if words[place] << _ONE != _NONE:\n",
            ),
        ),
        ARRAY_FILES,
    ),
    Bug(
        "a_rebuild_is_loaded_by_every_core",
        (Edit("engine/rebuild/rebuilder.py", "Pace(hurried=True, beside=True)", "Pace(hurried=True)"),),
        ("tests/engine/rebuild/test_rebuilder.py",),
    ),
    Bug(
        "wall_clock_in_the_fold",
        (
            Edit(
                "state/fold.py",
                "            self._log_time_ms = int(step.events.log_time_ms[-1])\n",
                '            self._log_time_ms = __import__("time").time_ns()\n',
            ),
        ),
        FOLD,
    ),
    Bug(
        "set_order_in_the_fold",
        (
            Edit(
                "state/settings.py", "        return tuple(sorted(self.types))", "        return tuple(set(self.types))"
            ),
        ),
        FOLD,
    ),
    Bug(
        "pre_sum_of_a_batch",
        (
            Edit(
                "state/items/item_fold.py",
                "    risen[lists] = settles and not is_last\n",
                "    risen[lists] = settles and not is_last\n    extra = np.zeros(counters.shape)\n",
            ),
            Edit(
                "state/items/item_fold.py",
                "            counters[item, h, row] += weight\n",
                "            extra[item, h, row] += weight\n",
            ),
            Edit(
                "state/items/item_fold.py",
                "    for h in range(lists if settles and is_last else 0):\n",
                "    counters += extra\n    for h in range(lists if settles and is_last else 0):\n",
            ),
        ),
        FOLD,
    ),
    Bug(
        "trim_before_the_manifest",
        (
            Edit(
                "events/sealing.py",
                "                write_history(self._folder, self._disk, history)\n"
                "                self._history = history\n"
                "                self._trim()",
                "                self._history = history\n"
                "                self._trim()\n"
                "                write_history(self._folder, self._disk, history)",
            ),
        ),
        SEALING,
    ),
    Bug(
        "history_file_not_synced",
        (Edit("events/history/history_file.py", "        self._disk.sync(self.file)\n", ""),),
        SEALING,
    ),
    Bug(
        "history_manifest_not_synced",
        (Edit("events/history/history.py", "        disk.sync(file)\n", ""),),
        SEALING,
    ),
    Bug(
        "history_folder_not_synced",
        (
            Edit(
                "events/history/history_file.py",
                "        self._disk.rename(self._fresh, path)\n        self._disk.sync_folder(self._place)",
                "        self._disk.rename(self._fresh, path)",
            ),
            Edit(
                "events/history/history.py",
                "    disk.rename(fresh, place / MANIFEST_NAME)\n    disk.sync_folder(place)",
                "    disk.rename(fresh, place / MANIFEST_NAME)",
            ),
        ),
        SEALING,
    ),
    Bug(
        "history_not_read_back",
        (Edit("events/sealing.py", "            self._read_back(file)", "            _ = file"),),
        SEALING,
    ),
    Bug(
        "half_sealed_segments_stay",
        (Edit("events/segments/segment_scan.py", " if first >= end]", " if first >= 0 * end]"),),
        SEALING,
    ),
    Bug(
        "history_ends_one_early",
        (Edit("events/segments/segment_reader.py", "min(stop, history.end))", "min(stop, history.end - 1))"),),
        HISTORY,
    ),
    Bug(
        "trimmed_segment_is_missed",
        (
            Edit(
                "events/segments/segment_reader.py",
                "except (FileNotFoundError, _Missing):",
                "except ZeroDivisionError:",
            ),
        ),
        HISTORY,
    ),
    Bug(
        "row_group_is_not_checked",
        (
            Edit(
                "events/history/history_file.py",
                "if checksum_of(batch) != self.file.groups[number].checksum:",
                "if False:",
            ),
            Edit(
                "events/history/history_file.py", "page_checksum_verification=True", "page_checksum_verification=False"
            ),
        ),
        HISTORY,
    ),
    Bug("a_file_of_two_days", (Edit("events/history/history_file.py", "return is_same_day and", "return"),), HISTORY),
    Bug("young_events_sealed", (Edit("events/sealing.py", "- 1) >= before_ms or", "- 1) >= 1 << 60 or"),), HISTORY),
    Bug(
        "cut_before_the_base",
        (
            Edit(
                "engine/history/worker.py",
                "    base = base_state.write_base(data, decode_settings(order.settings), reader, begin, pace)\n"
                "    retain(reader.folder, RealDisk(), begin)",
                "    retain(reader.folder, RealDisk(), begin)\n"
                "    base = base_state.write_base(data, decode_settings(order.settings), reader, begin, pace)",
            ),
        ),
        RETENTION,
    ),
    Bug(
        "cells_keep_their_landmark",
        (Edit("state/cells/fold.py", "rebase_factor(landmark_at(before, period), begin, period)", "1.0"),),
        CELLS,
    ),
    Bug(
        "windows_are_not_emptied",
        (Edit("state/cells/windows.py", "words[total] = whole - gone", "words[total] = whole"),),
        CELLS,
    ),
    Bug(
        "a_new_row_is_what_it_was",
        (Edit("state/cells/fold.py", "if is_new[j] or words[at] == 0.0:", "if words[at] == 0.0:"),),
        CELLS,
    ),
    Bug(
        "late_events_count_everywhere",
        (Edit("state/cells/fold.py", "        if is_late:\n            continue\n", ""),),
        CELLS,
    ),
    Bug(
        "late_events_stay_out_of_the_ring",
        (Edit("state/cells/windows.py", "            words[ring + late % BUCKETS] += taken\n", "            pass\n"),),
        WINDOWS,
    ),
    Bug(
        "what_is_ahead_counts_as_now",
        (
            Edit(
                "state/cells/windows.py",
                "    words[ring + (bucket + 1) % BUCKETS] += taken\n\n\n@kernel\ndef add_late",
                "\n\n@kernel\ndef add_late",
            ),
        ),
        WINDOWS,
    ),
    Bug(
        "windows_end_where_they_were_written",
        (Edit("state/cells/read.py", "plan[LATEST, w] = bucket * period", "plan[LATEST, w] = plan[BEGIN, w]"),),
        WINDOWS,
    ),
    Bug(
        "decay_weights_hold_too_long",
        (Edit("state/cells/fold.py", "if time_ms < clock[_WEIGHT_LOW] or time_ms", "if time_ms"),),
        CELLS,
    ),
    Bug(
        "only_the_first_tag_is_read",
        (Edit("state/cells/read.py", "if group[CODES] <= 1:", "if group[CODES] <= 99:"),),
        CELLS,
    ),
    Bug(
        "pairs_of_an_erased_user_stay",
        (Edit("state/cells/cells.py", "                    group.keys.release(row)\n", ""),),
        CELLS,
    ),
    Bug(
        "pairs_of_a_deleted_user_stay",
        (
            Edit(
                "state/cells/cells.py",
                "            self.forget(change.slot, change.user_hash)",
                "            self.forget(change.slot, 0)",
            ),
        ),
        CELLS,
    ),
    Bug(
        "rows_behind_those_restored_stay",
        (Edit("state/cells/cells.py", "            group.rows[len(rows) : int(self._touched[number])] = 0.0\n", ""),),
        CELLS,
    ),
    Bug(
        "pairs_are_merged_in_any_order",
        (Edit("state/cells/cells.py", 'found[np.argsort(rows[found, 0], kind="stable")].tolist()', "found.tolist()"),),
        CELLS,
    ),
    Bug(
        "late_outcomes_are_dropped",
        (
            Edit(
                "state/outcomes/outcome_fold.py",
                "            if place >= 0:\n",
                "            if place >= 0 and now - held.slates[place]['log_time_ms'] > window_ms // 2:\n"
                "                continue\n"
                "            if place >= 0:\n",
            ),
        ),
        OUTCOMES,
    ),
    Bug(
        "an_outcome_that_comes_again_counts_again",
        (Edit("state/outcomes/outcome_fold.py", "if before & bit == 0:", "if bit:"),),
        OUTCOMES,
    ),
    Bug(
        "duplicates_are_outcomes",
        (
            Edit(
                "state/outcomes/outcome_fold.py",
                "if request == _NONE or not columns.folded[i]:",
                "if request == _NONE:",
            ),
        ),
        OUTCOMES,
    ),
    Bug(
        "a_slate_leaves_a_millisecond_early",
        (
            Edit(
                "state/outcomes/outcome_fold.py",
                'now - held.slates[rings[0]["head"]]["log_time_ms"] > window_ms',
                'now - held.slates[rings[0]["head"]]["log_time_ms"] >= window_ms',
            ),
        ),
        OUTCOMES,
    ),
    Bug(
        "one_slate_too_few_is_held",
        (
            Edit(
                "state/outcomes/outcome_fold.py",
                'while rings[0]["count"] == len(held.slates) or',
                'while rings[0]["count"] == len(held.slates) - 1 or',
            ),
        ),
        OUTCOMES,
    ),
    Bug(
        "erased_users_slates_keep_their_name",
        (Edit("state/outcomes/outcome_fold.py", '            slate["user"] = _NONE\n', "            pass\n"),),
        OUTCOMES,
    ),
    Bug(
        "a_group_in_use_gives_its_number_away",
        (
            Edit(
                "state/outcomes/slate_groups.py",
                "now_ms - int(self._served_ms[oldest]) > self._window_ms",
                "now_ms - int(self._served_ms[oldest]) >= self._window_ms",
            ),
        ),
        OUTCOMES,
    ),
    Bug(
        "a_map_in_a_record_is_half_as_long",
        (Edit("state/outcomes/served_parser.py", "left += 2 * size", "left += size"),),
        ("tests/state/outcomes/test_served_parser.py",),
    ),
    Bug(
        "what_waits_is_not_joined",
        (
            Edit(
                "state/outcomes/outcome_fold.py",
                '    if held.waiting_meta[0]["count"] == 0:',
                '    if held.waiting_meta[0]["count"] >= 0:',
            ),
        ),
        OUTCOMES,
    ),
    Bug(
        "merges_are_not_said_again",
        (Edit("state/restate.py", "id_hash(merged_id(event.body), key) if event.operation == _MERGE else 0", "0"),),
        RETENTION,
    ),
    Bug(
        "the_base_counts_as_dropped",
        (Edit("state/fold.py", "drops.at_base(position)", "drops"),),
        RETENTION,
    ),
    Bug(
        "a_fold_begins_empty",
        (
            Edit(
                "engine/snapshots/base_state.py",
                "    if reader.begin == 0:\n        return Fold",
                "    if reader.begin >= 0:\n        return Fold",
            ),
        ),
        RETENTION,
    ),
    Bug(
        "backup_of_a_growing_segment",
        (
            Edit(
                "app/operate/backup.py",
                "survey.tail.size if first == survey.tail.segment else None",
                "None if first == survey.tail.segment else None",
            ),
        ),
        BACKUP,
    ),
    Bug(
        "restore_compares_nothing",
        (Edit("app/operate/restore.py", "if _entry_of(work / path) != manifest.files[name]:", "if False:"),),
        BACKUP,
    ),
    Bug(
        "backup_goes_on_without_a_file",
        (
            Edit(
                "app/operate/backup.py",
                "            except FileNotFoundError:",
                "            except ZeroDivisionError:",
            ),
        ),
        BACKUP,
    ),
    Bug(
        "plain_json_takes_bad_utf8",
        (Edit("events/text_kernels.py", "        if code < lowest or 0xD800", "        if 0xD800"),),
        PLAIN,
    ),
    Bug(
        "plain_json_takes_a_field_twice",
        (Edit("events/json/kernels.py", "        if field < 0 or seen & (1 << field):", "        if field < 0:"),),
        PLAIN,
    ),
    Bug(
        "context_unsorted",
        (Edit("events/json/kernels.py", "            if order > 0:", "            if order > -1_000:"),),
        PLAIN,
    ),
    Bug(
        "number_rounded_twice",
        (Edit("events/json/value_kernels.py", "_MANTISSA_MAX = 1 << 53", "_MANTISSA_MAX = 1 << 62"),),
        PLAIN,
    ),
    Bug(
        "plain_json_takes_a_delete",
        (Edit("events/json/value_kernels.py", "(((deletes - _ONES) & ~deletes) | word) & _HIGHS", "word & _HIGHS"),),
        PLAIN,
    ),
    Bug(
        "plain_json_takes_a_negative_quantity",
        (Edit("events/json/kernels.py", "    return 1 if quantity < 0.0 else 0", "    return 0"),),
        PLAIN,
    ),
    Bug(
        "arrow_null_is_empty",
        (
            Edit(
                "events/arrow/columns.py",
                "        view.lengths[~valid(column)] = -1",
                "        view.lengths[~valid(column)] = 0",
            ),
        ),
        ARROW,
    ),
    Bug(
        "arrow_time_not_checked",
        (
            Edit(
                "events/arrow/arrow.py",
                "        self.odd |= sent & ~(is_right & (found >= TIME_MS_MIN)",
                "        self.odd |= sent & ~(is_right & (found >= 0)",
            ),
        ),
        ARROW,
    ),
    Bug(
        "arrow_unpacks_anything",
        (Edit("events/arrow/messages.py", "        if _is_compressed(message):", "        if False:"),),
        ARROW,
    ),
    Bug(
        "bulk_loses_order_when_the_queue_is_full",
        (
            Edit(
                "engine/ingest/ingest_service.py",
                "        async with turn:\n            work",
                "        if turn:\n            work",
            ),
        ),
        BULK,
    ),
    Bug(
        "pipe_without_bound",
        (Edit("serving/http/pipe.py", "                    self._has_room.clear()", "                    pass"),),
        BULK,
    ),
    Bug("any_name_is_the_servers", (Edit(GATE, "if not self._hosts.allows(name):", "if False:"),), GATED),
    Bug(
        "any_origin_may_ask",
        (
            Edit(
                GATE,
                "            is_own = origin.lower() in {",
                "            is_own = bool(origin) or origin.lower() in {",
            ),
        ),
        GATED,
    ),
    Bug("only_cross_site_is_foreign", (Edit(GATE, "not in OWN_SITE", '== b"cross-site"'),), GATED),
    Bug("types_of_forms_are_taken", (Edit(GATE, 'essence.startswith(b"application/") and ', ""),), GATED),
    Bug(
        "a_port_without_a_gate",
        (
            Edit(
                "serving/run.py",
                "_uvicorn_config(RequestOrigin(front, options), options)",
                "_uvicorn_config(front, options)",
            ),
        ),
        ("tests/service/test_http.py",),
    ),
    Bug(
        "pending_ids_forgotten_as_they_grow",
        (Edit("state/ids/pending_ids.py", "        self._used[0] = used\n", "        self._used[0] = 0\n"),),
        ("tests/state/ids/test_pending_ids.py",),
    ),
    Bug(
        "import_knows_the_last_copy",
        (Edit("app/ingest/ordering.py", "~in_log[place])", "in_log[place])"),),
        ("tests/app/ingest/test_ordering.py",),
    ),
    Bug(
        "import_ids_by_row",
        (
            Edit(
                "app/mapping/batches.py",
                "        return self._joined(plain, lines[index], records",
                "        return self._joined(plain, index.astype(np.int64), records",
            ),
        ),
        ("tests/app/mapping/test_batches.py",),
    ),
    Bug(
        "lines_without_first_position",
        (Edit("events/json/encode.py", '_where(rows["position"] >= 0,', '_where(rows["position"] > 0,'),),
        ("tests/events/json/test_encode.py",),
    ),
    # What follows needs several things to meet; beside each is the first seed that finds it.
    Bug(  # 2
        "duplicate_does_not_wait",
        (
            Edit(
                "engine/ingest/event_recording.py",
                "                await done_by(first_copy, until, monotonic)\n",
                "                _ = first_copy\n",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 1
        "apply_before_sync",
        (
            Edit(
                "engine/ingest/writer.py",
                "        try:\n            log.append(batch)\n",
                "        self._deliver(WrittenFrame(first, batch, entries, None, 0.0, prints))\n"
                "        try:\n            log.append(batch)\n",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 18
        "log_time_goes_back_with_the_clock",
        (
            Edit(
                "engine/ingest/writer.py",
                'rows["log_time_ms"] = max(last_log_time_ms, now_ms)',
                'rows["log_time_ms"] = now_ms',
            ),
        ),
        FUZZ,
    ),
    Bug(  # 6
        "waiter_told_early",
        (
            Edit(
                "engine/ingest/fold_scheduler.py",
                "        if self.fold.log_position >= position:\n            return True",
                "        if self.fold.log_position + 3 >= position:\n            return True",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 5
        "half_a_commit_left_on_a_full_disk",
        (
            Edit(
                "events/segments/segments.py",
                "            self._disk.truncate(file, self._tail.size)\n            self._disk.sync(file)\n",
                "            self._disk.sync(file)\n",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 3
        "snapshot_without_event_ids",
        (
            Edit(
                "state/fold.py",
                "        for name in sorted(self._named):\n            if before",
                '        for name in sorted(self._named.keys() - {"event_ids"}):\n            if before',
            ),
            Edit(
                "state/fold.py",
                "        for name, table in self._named.items():\n            table.restore",
                "        for name, table in list(self._named.items())[1:]:\n            table.restore",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 1
        "eviction_order",
        (
            Edit(
                "state/ids/user_slots.py",
                "    else:\n        touch(slot, users, meta)\n    return slot, is_cold",
                "    return slot, is_cold",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 10
        "log_time_of_the_batch_and_not_of_the_event",
        (
            Edit(
                "state/items/item_fold.py",
                "        now = log_time_ms[event]\n",
                "        now = log_time_ms[len(kind) - 1]\n",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 28
        "swap_unseen_by_the_intake",
        (Edit("engine/engine.py", "        self._intake.fold = fold\n", ""),),
        FUZZ,
    ),
    Bug(  # 3
        "swap_of_a_state_that_stands_behind",
        (
            Edit(
                "engine/live.py",
                "        if fold.log_position != self.fold.log_position:\n",
                "        if fold.log_position > self.fold.log_position:\n",
            ),
            Edit(
                "engine/engine.py",
                "        await self._folding.bring_up(fold, self.log.read)\n",
                "        await asyncio.sleep(0)\n",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 5
        "outcomes_are_lost_at_a_restart",
        (
            Edit(
                "state/fold.py",
                "        for name, table in self._named.items():\n            table.restore",
                "        for name, table in list(self._named.items())[:-1]:\n            table.restore",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 1
        "slates_of_the_erased_are_held",
        (Edit("state/outcomes/outcomes.py", "            self.forget(change.hashes)\n", "            pass\n"),),
        FUZZ,
    ),
    Bug(  # 6
        "features_without_the_session",
        (
            Edit(
                "ranking/pipeline.py",
                "FeatureReader(moment, account, plan.declared)",
                "FeatureReader(replace(moment, session_number=-1), account, plan.declared)",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 2
        "features_of_the_first_candidates",
        (Edit("ranking/record/served.py", "_bytes(logged.values[chosen])", "_bytes(logged.values[: len(chosen)])"),),
        FUZZ,
    ),
    Bug(  # 2
        "act_before_the_slate_that_it_follows_from",
        (
            Edit(
                "engine/ingest/event_recording.py",
                "self._outbox.submit(entry)",
                "self._outbox._writer.submit(entry)",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 36
        "last_frame_not_written_again",
        (
            Edit(
                "events/segments/segments.py",
                "        self._disk.write(self._file, [last], start)\n        self._disk.sync(self._file)  #",
                "        self._disk.sync(self._file)  #",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 5
        "trimmed_before_the_manifest_says_so",
        (
            Edit(
                "events/sealing.py",
                "                write_history(self._folder, self._disk, history)\n"
                "                self._history = history\n"
                "                self._trim()\n",
                "                self._history = history\n                self._trim()\n"
                "                write_history(self._folder, self._disk, history)\n",
            ),
        ),
        FUZZ,
    ),
    Bug(  # 10
        "rewrite_without_the_last_events",
        (
            Edit(
                "engine/erasure/eraser.py",
                "            go_on(open_reader(self._folder, disk), fresh, erased, log.end)\n",
                "            _ = fresh, erased\n",
            ),
        ),
        FUZZ,
    ),
    Bug(
        "as_of_sees_the_event_at_its_position",
        (
            Edit(
                "features/as_of.py",
                "            self._fold(log_position - self._first)\n",
                "            self._fold(log_position + 1 - self._first)\n",
            ),
        ),
        AS_OF,
    ),
    Bug(
        "as_of_sees_the_event_of_its_millisecond",
        (Edit("features/as_of.py", 'time_ms, side="left"', 'time_ms, side="right"'),),
        AS_OF,
    ),
    Bug(
        "as_of_loses_an_event_a_batch",
        (
            Edit(
                "features/as_of.py",
                "            self._first, self._batch = found\n",
                "            self._first, self._batch = found[0], EventBatch(found[1].rows[:-1], found[1].text)\n",
            ),
        ),
        AS_OF,
    ),
    Bug(
        "as_of_asked_now",
        (
            Edit(
                "features/as_of.py",
                "now_ms=TimestampMs(fold.log_time_ms))",
                "now_ms=TimestampMs(fold.log_time_ms + 1))",
            ),
        ),
        AS_OF,
    ),
    Bug(
        "features_of_another_user",
        (
            Edit(
                "ranking/pipeline.py",
                "FeatureReader(moment, account, plan.declared)",
                "FeatureReader(replace(moment, user_index=0), account, plan.declared)",
            ),
        ),
        PARITY,
    ),
    Bug(
        "parity_compared_an_event_late",
        (
            Edit(
                "engine/snapshots/parity_watch.py",
                "*(place - first for place in self._at if",
                "*(place - first + 1 for place in self._at if",
            ),
        ),
        ("tests/engine/snapshots/test_parity_watch.py",),
    ),
    Bug(
        "a_rerun_leaves_the_columns_of_a_failed_block_of_features_out",
        (
            Edit(
                "ranking/plan.py",
                "in enumerate(self.features)\n",
                "in enumerate(self.features) if block_name(number) not in names\n",
            ),
        ),
        ("tests/ranking/test_pipeline.py",),
    ),
    Bug(
        "what_is_missing_because_it_failed_is_a_number",
        (
            Edit(
                "features/degraded_block.py",
                "        values[:, [name in self.lost for name in self.names]] = np.nan\n",
                "",
            ),
        ),
        ("tests/ranking/test_features_apart.py",),
    ),
    Bug(
        "what_a_feature_without_its_reader_computes_is_served",
        (Edit("ranking/frame.py", "                values[:, [each in lost for each in block.names]] = np.nan\n", ""),),
        ("tests/ranking/test_features_apart.py",),
    ),
    Bug(
        "a_rerun_asks_the_reader_that_raised",
        (
            Edit(
                "features/degraded_block.py",
                "if place in asked else Silent(reader.rows)",
                "if True else Silent(reader.rows)",
            ),
        ),
        ("tests/ranking/test_features_apart.py",),
    ),
    Bug(
        "documents_of_a_cut_history_are_taken_for_what_was_counted",
        (Edit("state/fold.py", "        self.counted.begin_at(position)\n", ""),),
        ("tests/state/cells/test_coverage.py",),
    ),
    Bug(
        "a_window_is_complete_before_its_last_bucket_is",
        (
            Edit(
                "engine/answer/feature_reads.py",
                "cell.window_ms and cell.window_ms + -(-cell.window_ms // BUCKETS) < held_ms",
                "cell.window_ms and cell.window_ms < held_ms",
            ),
        ),
        ("tests/engine/answer/test_feature_reads.py",),
    ),
    Bug(
        "an_unknown_item_is_read_as_the_last_one",
        (
            Edit(
                "engine/answer/feature_reads.py",
                "    item_index = fold.vocabulary.item_indices(ask.items)\n",
                "    item_index = fold.vocabulary.item_indices(ask.items) % max(fold.vocabulary.item_count, 1)\n",
            ),
        ),
        ("tests/engine/answer/test_feature_reads.py",),
    ),
    Bug(
        "replay_sees_the_act",
        (
            Edit(
                "app/point_in_time/replay_examples.py",
                "        cursor.to_position(LogPosition(position))\n",
                "        cursor.to_position(LogPosition(position + 1))\n",
            ),
        ),
        ("tests/app/point_in_time/test_served_examples.py",),
    ),
    Bug(
        "code that the file does not name is imported",
        (Edit("app/config/component_constraints.py", "if part.path and part.path not in known:", "if False:"),),
        ("tests/app/test_components_named.py",),
    ),
    Bug(
        "a component may lie behind a link that leads elsewhere",
        (Edit("app/config/custom_components.py", "if not path.is_relative_to(root):", "if False:"),),
        ("tests/app/test_components_named.py",),
    ),
    Bug(
        "whoever listens at a folder's address is believed",
        (Edit("app/server_address.py", "    if told != wanted:", "    if False:"),),
        ("tests/app/test_server_address.py",),
    ),
    Bug(
        "a part of a kept configuration goes while another names it",
        (Edit("app/config/parts.py", "named.update((listed.rest, *listed.placements))", "named.add(listed.rest)"),),
        ("tests/app/config/test_parts.py",),
    ),
    Bug(
        "a follower waits no longer for an answer than for a write",
        (
            Edit(
                "serving/cluster/proxy.py",
                "status, headers = await patience.until(line.head())",
                "status, headers = await self._within(line.head())",
            ),
        ),
        ("tests/serving/cluster/test_proxy.py",),
    ),
    Bug(
        "a compiled plan takes no numbers of queries of its own",
        (
            Edit(
                "ranking/compiled/compiled_plan.py",
                "fold.session_index.epochs.take(self._session_queries)",
                "fold.session_index.epochs.take(0)",
            ),
        ),
        ("tests/engine/answer/test_compiled_slates.py",),
    ),
    Bug(
        "a ranking of many items is cut as the candidates of a slate are",
        (
            Edit(
                "ranking/compiled/decision_kernel.py",
                "most = signed(program.limits[CANDIDATES_MAX]) + given",
                "most = signed(program.limits[CANDIDATES_MAX])",
            ),
        ),
        ("tests/engine/answer/test_compiled_rankings.py",),
    ),
    Bug(
        "a swapped state lives on in its compiled plans",
        (Edit("engine/engine.py", "self._answering.compiled.forget()", "self._answering.compiled.answer"),),
        ("tests/engine/answer/test_compiled_slates.py",),
    ),
    Bug(
        "a compiled plan reads more of a history than queries have room for",
        (
            Edit(
                "ranking/compiled/rooms.py",
                "history=np.zeros(min(sizes.ring_items_max, RECENT_MAX), dtype=np.int32)",
                "history=np.zeros(sizes.ring_items_max, dtype=np.int32)",
            ),
        ),
        ("tests/engine/answer/test_compiled_limits.py", "tests/ranking/compiled/test_answer_kernel.py"),
    ),
    Bug(
        "a report of a slow part keeps the kernel away for good",
        (
            Edit(
                "engine/circuit_breaker.py",
                'if watched.state in {"slow", "failing"} and now >= watched.until:',
                'if watched.state == "benched" and now >= watched.until:',
            ),
        ),
        ("tests/engine/answer/test_compiled_limits.py",),
    ),
    Bug(
        "the kernel ends a position token's wait before it is reached",
        (
            Edit(
                "engine/answer/compiled_slates.py",
                "return position is not None and position <= live.fold.log_position",
                "return position is not None",
            ),
        ),
        ("tests/engine/answer/test_compiled_slates.py",),
    ),
    Bug(
        "dead letters are open to the group",
        (
            Edit(
                "events/file_modes.py",
                "return PRIVATE if name in _SECRETS or _AS_IT_CAME in name",
                "return PRIVATE if name in _SECRETS",
            ),
        ),
        ("tests/app/test_file_modes.py",),
    ),
)


def main() -> int:
    """Run the bugs that are named, or all; return how many were not caught."""
    wanted = set(sys.argv[1:])
    unknown = wanted - {bug.name for bug in BUGS}
    if unknown:
        print(f"no such bug: {', '.join(sorted(unknown))}; there are {', '.join(bug.name for bug in BUGS)}")
        return 2
    verdicts = {bug.name: verdict(bug) for bug in BUGS if not wanted or bug.name in wanted}
    missed = [name for name, caught in verdicts.items() if caught is False]
    undecided = [name for name, caught in verdicts.items() if caught is None]
    print(f"not caught: {', '.join(missed)}" if missed else "every bug was caught, of those with a verdict")
    if undecided:
        print(f"no verdict: {', '.join(undecided)}")
    return len(missed) + len(undecided)


def verdict(bug: Bug) -> bool | None:
    """Return whether the tests fail with the bug in; None = nothing was said, twice.

    Kernels that a first run compiled are there in a second one.
    """
    with copy_of_project() as copy:
        for edit in bug.edits:
            path = copy / "src" / "midstream" / edit.file
            path.write_text(path.read_text().replace(edit.old, edit.new, 1))
        began = time.monotonic()
        caught, reason = outcome(copy, bug.tests)
        if caught is None:
            caught, reason = outcome(copy, bug.tests)
    word = {True: "caught", False: "MISSED", None: "NO VERDICT"}[caught]
    print(f"{word} {bug.name} ({time.monotonic() - began:.0f} s): {reason}", flush=True)
    return caught


@contextmanager
def copy_of_project() -> Iterator[Path]:
    """Give a copy of the project, at one place for all bugs unless another run has it.

    Machine code is cached by the place of its source, so what a bug leaves as it was is compiled for the first alone.
    """
    place = Path(tempfile.gettempdir()) / f"midstream-seeded-bugs-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        copy = place / "copy"
        lock = stack.enter_context((place / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(copy, ignore_errors=True)  # of a run that was killed
            stack.callback(shutil.rmtree, copy, ignore_errors=True)
        except BlockingIOError:
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        left_out = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=left_out, dirs_exist_ok=True)
        yield copy


def outcome(copy: Path, tests: tuple[str, ...]) -> tuple[bool | None, str]:
    """Run tests of a copy until one fails; return whether one has, and what it said.

    A test that could not be set up has noticed nothing. None = nothing was said: one took too long, as on a machine
    where kernels alone may take that long to compile, or the run broke before its summary.
    """
    how = ("-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", "-o", f"timeout={TEST_S_MAX}")
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["COLUMNS"] = "1000"  # pytest cuts a reason where its line would not fit
    command = [sys.executable, "-m", "pytest", *how, *tests]
    try:
        status, said, errors = run_of(command, copy, environment)
    except subprocess.TimeoutExpired:
        return None, f"no end after {RUN_S_MAX} s"
    summary = said.rpartition(SUMMARY)[2]
    lines = [line for line in summary.splitlines() if line.startswith(("FAILED", "ERROR"))]
    reason = lines[0] if lines else said.strip().splitlines()[-1] if said.strip() else errors[-200:]
    # In a test of many examples the reason is that of a wrapper, and what was raised stands further up.
    if "from pytest-timeout" in said:
        return None, reason[:300]
    if status and not lines:
        return None, f"status {status} without a summary: {errors.strip()[-200:] or reason}"
    return status == FAILED_TESTS and bool(lines) and lines[0].startswith("FAILED"), reason[:300]


def run_of(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a command; return its exit status, and what it wrote to stdout and to stderr.

    Raises:
        subprocess.TimeoutExpired: It took more than ``RUN_S_MAX``; it and all that it started are gone.
    """
    pipe = subprocess.PIPE
    # In a session of its own: tests run in processes that pytest starts, and those go with it.
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=RUN_S_MAX)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, said, errors


if __name__ == "__main__":
    sys.exit(main())
