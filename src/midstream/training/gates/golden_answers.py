"""Golden answers: a file beside the configuration with what every version of a model has to say.

``histories`` ask an item model: of the best ``within`` items, which have to be there and which must not. ``rows`` ask a
ranker: one row above another, or a score between two numbers. Answers are exact: there is no share of them that may be
wrong. The file holds no acts of people, but what a shop knows of its items.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from midstream.core.errors import ConfigInvalid, Fault
from midstream.models.histories import Histories
from midstream.models.model import ItemModel, RowModel, is_item_model
from midstream.training.gates.evidence import GoldenAnswers

PAGE = "/docs/continuous-training.md"
BYTES_MAX = 1 << 20
"""Of the file: some thousand questions, more than anybody writes."""
QUESTIONS_MAX = 1_000
SHOWN_MAX = 10
Row = dict[str, float | None]


class GoldenHistory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One question to an item model."""

    history: tuple[str, ...]
    """Ids, oldest first."""
    within: int = 20
    has: tuple[str, ...] = ()
    """Ids that are among the best ``within``."""
    lacks: tuple[str, ...] = ()
    """Ids that are not."""


class GoldenRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One question to a ranker: columns that are not named are unknown."""

    row: Row
    above: Row | None = None
    """A row with a lower score."""
    least: float | None = None
    most: float | None = None


class GoldenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file."""

    histories: tuple[GoldenHistory, ...] = ()
    rows: tuple[GoldenRow, ...] = ()


def read_golden(path: Path) -> GoldenFile:
    """Return the questions of a file.

    Raises:
        ConfigInvalid: It is not there, too large, or holds something else.
    """
    try:
        if path.stat().st_size > BYTES_MAX:
            raise _invalid(path, f"It has {path.stat().st_size:,} bytes.", f"At most {BYTES_MAX:,}.")
        found = msgspec.json.decode(path.read_bytes(), type=GoldenFile)
    except OSError as error:
        raise _invalid(path, f"It cannot be read: {error.strerror or error}.", "A JSON file.") from error
    except msgspec.DecodeError as error:
        raise _invalid(path, f"{error}.", '{"histories": [...], "rows": [...]}.') from error
    count = len(found.histories) + len(found.rows)
    if not 1 <= count <= QUESTIONS_MAX:
        raise _invalid(path, f"It has {count} questions.", f"From 1 to {QUESTIONS_MAX:,}.")
    return found


def golden_answers(model: ItemModel | RowModel, told: GoldenFile) -> GoldenAnswers:
    """Return which known answers a model gives otherwise."""
    if is_item_model(model):
        return _told(len(told.histories), _wrong_items(model, told.histories))
    return _told(len(told.rows), _wrong_rows(model, told.rows))  # type: ignore[arg-type]  # the other protocol


def _told(asked: int, wrong: Iterator[str]) -> GoldenAnswers:
    return GoldenAnswers(asked, tuple(wrong)[:SHOWN_MAX])


def _wrong_items(model: ItemModel, questions: tuple[GoldenHistory, ...]) -> Iterator[str]:
    """Yield what is wrong with the lists of an item model."""
    rows: Mapping[str, int] = {item: row for row, item in enumerate(model.vocabulary.ids)}
    for number, each in enumerate(questions):
        where = f"histories[{number}]"
        missing = [item for item in each.history if item not in rows]
        if missing:
            yield f"{where}: it does not know {', '.join(missing[:3])}"
            continue
        best, _ = model.best(Histories.of([[rows[item] for item in each.history]]), each.within + len(each.history))
        own = {rows[item] for item in each.history}
        listed = [model.vocabulary.id_of(row) for row in best.tolist() if row not in own][: each.within]
        for item in each.has:
            if item not in listed:
                yield f"{where}: {item} is not among the best {each.within}"
        for item in each.lacks:
            if item in listed:
                yield f"{where}: {item} is among the best {each.within}"


def _wrong_rows(model: RowModel, questions: tuple[GoldenRow, ...]) -> Iterator[str]:
    """Yield what is wrong with the scores of a ranker."""

    def score(row: Row) -> float:
        values = np.array([[_number(row.get(name)) for name in model.inputs]], dtype=np.float32)
        return float(model.score(values)[0])

    for number, each in enumerate(questions):
        where, own = f"rows[{number}]", score(each.row)
        if each.above is not None and not own > (other := score(each.above)):
            yield f"{where}: {own:.6g} is not above {other:.6g}"
        if each.least is not None and not own >= each.least:
            yield f"{where}: {own:.6g} is below {each.least:g}"
        if each.most is not None and not own <= each.most:
            yield f"{where}: {own:.6g} is above {each.most:g}"


def _number(told: float | None) -> float:
    return float("nan") if told is None else told


def _invalid(path: Path, came: str, right: str) -> ConfigInvalid:
    return ConfigInvalid((Fault(path.name, came, right, PAGE),))
