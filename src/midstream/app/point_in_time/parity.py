"""``features check``: compares values kept with served slates with those computed from the log."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from midstream.app.opening import DATA_NAME, Outside
from midstream.app.point_in_time.api import past_of
from midstream.app.point_in_time.lookup import cursor_for
from midstream.app.point_in_time.served_requests import Picks, of_served, served_range
from midstream.core.types import FeatureFrame
from midstream.engine.child_process import Notify, nobody
from midstream.engine.erasure.log_rewrite import receipts
from midstream.engine.folder import DataFolder
from midstream.events.served_body import ServedBody
from midstream.features.as_of import PointInTimeAnswer, as_of
from midstream.features.declarations import NONE, Declarations
from midstream.features.parity import ColumnParity, Parity, comparable
from midstream.ranking.plan import FEATURES
from midstream.ranking.record.served import ServedRecord, read_then

SAMPLE = 1_000
"""Slates compared unless asked otherwise: 20,000 rows."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Selection of slates, and tolerance."""

    served: str = ".."
    """``FROM..TO``: log positions or times of the records."""
    sample: int = SAMPLE
    """At most so many slates, chosen by their request ids, so that a second run compares the same."""
    tolerance: float = 0.0
    """Largest difference that counts as equal; see ``Parity``."""
    config: Path | None = None
    """By which the slates were served; None = that of the folder."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Result of the comparison."""

    slates: int
    compared: int
    mismatched: int
    found: int
    """Slates in the range."""
    logged: int
    """Slates in the range that have values."""
    other_config: int
    """Of those, the ones served by another configuration: what its names meant is not known here."""
    rewritten: int
    """Of those, the ones from before the log was written anew without erased users, whose acts they still saw."""
    other_state: int
    """Of those, the ones that saw a state of another fold version than the one by which the log is read here: one of
    another release, or from between a compaction's place in the log and the moment when it came into service."""
    left_out: tuple[str, ...]
    """Features that depend on candidates that were not chosen."""
    columns: tuple[ColumnParity, ...]


@dataclass(slots=True)
class _Chosen:
    """Says which records are compared, and counts the others."""

    config_hash: str
    rewritten_before: int
    version_at: Callable[[int], str]
    """Fold version of the state that is made here at a log position."""
    found: int = 0
    logged: int = 0
    other_config: int = 0
    rewritten: int = 0
    other_state: int = 0

    def __call__(self, position: int, told: ServedBody) -> bool:
        """Return whether a record has values that the log should give; a block that failed has none."""
        self.found += 1
        if not told.feature_names or any(component == FEATURES for component, _ in told.failures):
            return False
        self.logged += 1
        if told.config_hash != self.config_hash:
            self.other_config += 1
        elif position < self.rewritten_before:
            self.rewritten += 1
        elif told.fold_version != self.version_at(told.log_position):
            self.other_state += 1
        else:
            return True
        return False


def check_features(folder: Path, options: CheckOptions, notify: Notify = nobody) -> CheckReport:
    """Compare a sample of the slates whose values were kept.

    Raises:
        Invalid: No feature is declared, or the range is none.
        FeatureFailed: A feature cannot be read.
        LogDamaged: The log cannot be trusted.
    """
    past = past_of(folder, options.config)
    config, declared = past.config, past.declared
    names = comparable(declared)
    block = past.block(names)
    rewritten = rewritten_before(DataFolder(folder / DATA_NAME), past.log.identity.generation)
    since, versions = past.eras.since, (past.eras.earlier.version(), past.eras.current.version())
    chosen = _Chosen(config.config_hash, rewritten, lambda position: versions[position >= since])
    parity = Parity(options.tolerance)
    with ExitStack() as stack:
        bounds = served_range(options.served, Outside().clock())
        asked, _ = of_served(past, bounds, stack, picks=Picks(chosen, options.sample))
        cursor = cursor_for(past, asked, notify, as_served=True)
        for chunk in asked.chunks():
            for record, answer in zip(chunk.records, as_of(cursor, chunk.questions, past.reader(block)), strict=True):
                compare(parity, record, answer, block.names, declared)
    left_out = tuple(each for each in declared.names if each not in names)
    compared = parity.slates, parity.compared, parity.mismatched
    skipped = chosen.other_config, chosen.rewritten, chosen.other_state
    return CheckReport(*compared, chosen.found, chosen.logged, *skipped, left_out, tuple(parity.columns.values()))


def compare(
    parity: Parity, record: ServedRecord, answer: PointInTimeAnswer, names: Sequence[str], declared: Declarations = NONE
) -> None:
    """Compare the columns that a record and the answer have in common, less those of features that failed then.

    A record all of whose features failed has none, and is no slate that was compared.
    """
    logged = read_then(record, declared)
    if logged is None or not logged.names:
        return
    found = FeatureFrame(tuple(names), answer.values)
    parity.add_logged(record.query.request_id, answer.question.items, logged, found)


def rewritten_before(data: DataFolder, generation: int) -> int:
    """Return the log position before which the log was written anew, without the acts of erased users; 0 = never."""
    return max((each.log_position for each in receipts(data) if each.generation <= generation), default=0)
