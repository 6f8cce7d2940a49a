"""midstream: a real-time recommendation engine. The next request sees the last click.

Example:
    >>> import tempfile, midstream
    >>> with tempfile.TemporaryDirectory() as folder, midstream.open(folder) as shop:
    ...     _ = shop.record([{"type": "view", "user_id": "ann", "item_id": "mug", "event_id": "1"}])
    ...     [item.id for item in shop.recommend(user_id="bob", n=5).items]
    ['mug']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from midstream.app.config.schema import Config
    from midstream.app.export.events import Moment
    from midstream.app.operate.model_registration import RegisteredModel
    from midstream.app.server.hosted_engine import HostedEngine
    from midstream.engine.recommender import Recommender

__all__ = [
    "ItemVectors",
    "asgi",
    "evaluate",
    "evaluate_model",
    "evaluate_next_item",
    "evaluate_ranker",
    "examples",
    "features_as_of",
    "features_of_served",
    "open",
    "read_events",
    "register_model",
    "slates",
    "stream_events",
]


def open(folder: str | Path, config: Config | None = None) -> Recommender:  # noqa: A001  read as ``midstream.open``
    """Open a folder for a program that embeds the engine; use what is returned in a ``with`` block.

    Args:
        folder: Holds ``midstream.toml`` (without one, every default) and ``data``; made if it is not there.
        config: Instead of the file.

    Raises:
        ConfigInvalid: The configuration cannot be used; every fault is named.
        FolderLocked: Another process has it open.
        LogDamaged: The log cannot be trusted; nothing was changed.
    """
    # Here, because every module of the package imports this one first.
    from midstream.app.opening import open_shop

    return open_shop(folder, config)


def asgi(folder: str | Path, config: Config | None = None, *, checks_origin: bool = True) -> HostedEngine:
    """Return the engine of a folder as an ASGI application, to mount in a web application or to serve by itself.

    ``async with`` opens it on the event loop of the application (``midstream.fastapi.lifespan`` does), which then owns
    all state: handlers of the application that block the loop delay answers. Behind a mount the routes are those of
    docs/http.md below its path. See docs/tasks/web-frameworks.md.

    Args:
        folder: Holds ``midstream.toml`` (without one, every default) and ``data``; made if it is not there.
        config: Instead of the file.
        checks_origin: Refuse requests to other names than those of ``[server]``, and those that a browser sends for
            pages of other sites. False = the application does.

    Raises:
        MidstreamError: When it is opened, as ``open`` does.
    """
    from midstream.app.server.hosted_engine import HostedEngine

    return HostedEngine(folder, config, checks_origin=checks_origin)


def read_events(
    folder: str | Path, *, since: Moment = None, until: Moment = None, kinds: Sequence[str] | None = None
) -> pa.Table:
    """Return the events of a folder's log as an Arrow table, each once, oldest first, also while a server has it open.

    ``.to_pandas()`` makes a frame of it, ``polars.from_arrow`` one of Polars. The columns are those of an export.

    Args:
        folder: Holds ``midstream.toml`` and ``data``.
        since: Log time from which on: milliseconds since 1970, a datetime, ISO 8601 text, or how long ago, ``"2d"``.
        until: Log time before which.
        kinds: Such as ``["interaction", "item"]``; all when None.

    Raises:
        Invalid: A kind or a time is none.
        LogDamaged: The log cannot be trusted.

    Cost: about 250 bytes of memory an event; ``stream_events`` needs that of some thousand.
    """
    return stream_events(folder, since=since, until=until, kinds=kinds).read_all()


def stream_events(
    folder: str | Path, *, since: Moment = None, until: Moment = None, kinds: Sequence[str] | None = None
) -> pa.RecordBatchReader:
    """Return what ``read_events`` returns as record batches, read from the log as they are asked for."""
    from midstream.app.export.events import open_selected

    reader: pa.RecordBatchReader = open_selected(folder, since, until, kinds)
    return reader


def features_as_of(
    folder: str | Path,
    questions: object,
    *,
    features: Sequence[str] | None = None,
    config: Config | str | Path | None = None,
) -> pa.Table:
    """Return features as they were at the place of each question in the log, also while a server has the folder open.

    ``.to_pandas()`` makes a frame of it, ``polars.from_arrow`` one of Polars.

    Args:
        folder: Holds ``midstream.toml`` and ``data``.
        questions: An Arrow table, or a frame of pandas or Polars. A row is a question, with the columns ``user_id``,
            ``session_id``, ``items`` (or ``item_id``), and ``log_position`` or ``time`` (docs/features.md).
        features: Names of declared features; all when None.
        config: Declares the features; a file or a configuration, that of the folder when None.

    Returns:
        A row for each item of each question, in their order: the question's columns, where it was asked, and a float32
        column for each column of the features, NaN = nothing was known.

    Raises:
        Invalid: A question cannot be asked, or there is no such feature.
        LogDamaged: The log cannot be trusted.

    Cost: one fold of the log up to the last question, 2 to 5 µs an event, and about 0.5 ms a question with 100 items.
    """
    from midstream.app.point_in_time.api import features_of_table

    table: pa.Table = features_of_table(folder, questions, features, config)
    return table


def features_of_served(
    folder: str | Path,
    served: str = "..",
    *,
    features: Sequence[str] | None = None,
    config: Config | str | Path | None = None,
) -> pa.Table:
    """Return features as each served slate saw them, a row for each item of it, in the order of the log.

    Args:
        folder: Holds ``midstream.toml`` and ``data``.
        served: ``FROM..TO``: which served records, by their log position or time; either left out for no bound.
        features: As in ``features_as_of``.
        config: As there.

    Raises:
        Invalid: The range is none, or there is no such feature.
        LogDamaged: The log cannot be trusted.
    """
    from midstream.app.point_in_time.api import features_of_served as found

    table: pa.Table = found(folder, served, features, config)
    return table


def slates(folder: str | Path, served: str = "..") -> pa.Table:
    """Return served slates as an Arrow table, a row for each item, in the order of the log, also beside a server.

    ``.to_pandas()`` makes a frame of it, ``polars.from_arrow`` one of Polars. Slates of erased users are left out.

    Args:
        folder: Holds ``midstream.toml`` and ``data``.
        served: ``FROM..TO``: which served records, by their log position or time; either left out for no bound.

    Returns:
        ``request_id``, ``placement``, ``user_id``, ``session_id``, ``tier`` and ``scorer`` string; ``time`` of the
        request timestamp[ms, UTC]; ``served_position`` (of the record) and ``log_position`` (of the state) int64;
        ``config_hash`` string; ``position`` int32, ``item_id`` string, ``score`` and ``propensity`` float32,
        ``sources`` list of strings.

    Raises:
        Invalid: The range is none.
        LogDamaged: The log cannot be trusted.

    Cost: one pass over the log, and 200 bytes of memory an item.
    """
    from midstream.app.point_in_time.slate_table import slate_table

    table: pa.Table = slate_table(folder, served)
    return table


def examples(folder: str | Path, served: str = "..", *, features: Sequence[str] | None = None) -> pa.Table:
    """Return training examples of served slates as an Arrow table: features as of each request, and its outcomes.

    They are those of ``midstream examples``, a row for each item of each slate, with the columns of docs/feedback.md:
    features and ``reward`` float32, outcomes bool, ``log_position`` int64.

    Args:
        folder: Holds ``midstream.toml`` and ``data``.
        served: As in ``slates``.
        features: Names of declared features; all when None.

    Raises:
        Invalid: No feature is declared, there is no such feature, or the range is none.
        LogDamaged: The log cannot be trusted.

    Cost: two passes over the log, 2 to 5 µs an event, and the bytes of the table.
    """
    from midstream.app.point_in_time.served_examples import examples_table

    table: pa.Table = examples_table(folder, served, features)
    return table


def evaluate(
    folder: str | Path,
    interactions: object = None,
    *,
    columns: Mapping[str, str] | None = None,
    time_unit: str = "ms",
    config: Config | None = None,
) -> pa.Table:
    """Return the accuracy of each placement by test-then-learn, as ``midstream evaluate replay`` does.

    Each interaction is predicted from those before it, then learned; ``popular`` is the baseline.

    Args:
        folder: Holds ``midstream.toml``, whose placements are evaluated.
        interactions: An Arrow table, or a frame of pandas or Polars, with ``item_id``, ``time``, ``session_id`` or
            ``user_id``, and maybe ``type``; the interactions of the folder's log when None.
        columns: Those of the table that have other names: ``{"item_id": "product"}``.
        time_unit: ``ms``, ``s`` or ``iso`` of times that are no timestamps.
        config: Instead of the file.

    Returns:
        A row for each method and figure (``HR@20``, ``MRR@20``): ``method`` and ``figure`` string; ``mean`` with its
        interval ``low`` and ``high``, ``difference`` to the baseline with its interval and ``p_value``, float64, null
        where the figure is not compared; ``questions`` int64.

    Raises:
        Invalid: A column is missing, or a time cannot be read.
        ConfigInvalid: The configuration cannot be used.

    Cost: a fold and an answer of each placement for each interaction, some 0.5 ms.
    """
    from midstream.app.evaluation.frames import evaluation_table
    from midstream.app.evaluation.placements import EvaluationOptions

    options = EvaluationOptions(dict(columns or {}), time_unit)
    table: pa.Table = evaluation_table(folder, interactions, options, config)
    return table


def evaluate_next_item(
    folder: str | Path,
    interactions: object = None,
    *,
    source: str = "session_knn",
    repeat: bool = False,
    columns: Mapping[str, str] | None = None,
    time_unit: str = "ms",
) -> pa.Table:
    """Return the accuracy of a source on the last sessions, as ``midstream evaluate next-item`` does.

    The source learns all but the last tenth of the sessions and predicts each next item of these; its options are
    chosen on the tenth before. Nothing is written.

    Args:
        folder: Its log's interactions are used where none are given.
        interactions: As in ``evaluate``.
        source: ``session_knn`` or ``covisitation``.
        repeat: Whether the last item of a session may be recommended again.
        columns: As there.
        time_unit: As there.

    Returns:
        The columns of ``evaluate``, of ``HR@20``, ``MRR@20``, ``NDCG@20``, ``precision@20``, ``recall@20`` and
        ``coverage``; nothing is compared.

    Raises:
        Invalid: A column is missing, a time cannot be read, there is no such source, or there are under three sessions.
    """
    from pathlib import Path

    from midstream.app.evaluation.judged_frames import next_item_table
    from midstream.app.evaluation.placements import EvaluationOptions

    options = EvaluationOptions(dict(columns or {}), time_unit, repeat, source=source)
    table: pa.Table = next_item_table(Path(folder), interactions, options)
    return table


def evaluate_model(
    folder: str | Path,
    kind: str,
    interactions: object = None,
    *,
    options: Mapping[str, object] | None = None,
    against: str | None = None,
    protocol: str = "temporal",
) -> pa.Table:
    """Return the accuracy of a kind of item model on the newest interactions, as ``midstream evaluate model`` does.

    It is fitted on the older ones and ranks all items for each history that goes on. Nothing is written.

    Args:
        folder: Its log's interactions are used where none are given.
        kind: Such as ``ease`` or ``als`` (docs/models.md).
        interactions: As in ``evaluate``, with its names of columns; times are timestamps or milliseconds.
        options: Of the kind; the others have their defaults.
        against: A second kind with its defaults, compared on the same questions by a paired test.
        protocol: ``temporal``, or ``rolling`` for five windows of time.

    Returns:
        The columns of ``evaluate``: metrics of lists of 20, ``coverage``, and metrics of new users and rare items; the
        differences of the first kind from the second.

    Raises:
        Invalid: There is no such kind, option or protocol, a column is missing, or a time cannot be read.
        ExtraMissing: A library that the kind is fitted with is not installed.
    """
    from pathlib import Path

    from midstream.app.evaluation.item_models import JudgingOptions
    from midstream.app.evaluation.judged_frames import model_table

    judging = JudgingOptions(dict(options or {}), against)
    table: pa.Table = model_table(Path(folder), interactions, kind, protocol, judging)
    return table


def evaluate_ranker(
    folder: str | Path,
    kind: str,
    examples: object = None,
    *,
    options: Mapping[str, object] | None = None,
    against: str | None = None,
    share: float = 0.2,
) -> pa.Table:
    """Return the accuracy of a kind of ranker on training examples, as ``midstream evaluate ranker`` does.

    It is fitted on the earlier requests and tested on the later ones. Nothing is written.

    Args:
        folder: Its ``[feedback] window`` says which slates are old enough; its served slates are the examples where
            none are given.
        kind: Such as ``trees`` or ``ftrl`` (docs/models.md).
        examples: An Arrow table or a frame of ``midstream.examples``, or of a file of ``midstream examples``.
        options: Of the kind; the others have their defaults.
        against: A second kind with its defaults, compared on the same rows by a paired test of NDCG.
        share: Of the newest requests, which are the test part.

    Returns:
        The columns of ``evaluate``: NDCG@10 beside that of the order served, AUC, log loss and calibration error as
        ``mean``, null where undefined, without intervals; ``questions`` are requests.

    Raises:
        Invalid: There is no such kind or option, they are no examples, or one of the two parts has no requests.
        ExtraMissing: A library that the ranker is fitted with is not installed.
    """
    from pathlib import Path

    from midstream.app.evaluation.judged_frames import ranker_table
    from midstream.app.evaluation.rankers import RankerOptions

    told = RankerOptions(dict(options or {}), against, share=share)
    table: pa.Table = ranker_table(Path(folder), examples, kind, told)
    return table


class ItemVectors(NamedTuple):
    """An item model for ``register_model``: a score is the product of the vectors of a user and an item."""

    ids: object
    """Of the items, row by row: text or whole numbers."""
    vectors: object
    """Of the items, floats (items, d)."""
    encoder: object = None
    """Module of PyTorch that makes the user's vector of a history; None = the mean of the history's vectors."""


def register_model(
    folder: str | Path,
    model: object,
    *,
    name: str,
    columns: Sequence[str] = (),
    sample: object = None,
    promote: bool = False,
) -> RegisteredModel:
    """Publish a fitted model of another library as a version: a ranker over columns, or an item model.

    It is converted, compared with its library on a sample to 1e-6 of the largest score, and published; nothing of the
    sample is kept but mean and deviation of each column.

    Args:
        folder: Holds ``midstream.toml`` and ``data``; a server may have it open.
        model: Of a ranker, fitted: an estimator, pipeline or booster, or a module. Of two classes the probability of
            the second is the score. Of an item model: ``ItemVectors``.
        name: Of the model, which a scorer or a source of a placement names.
        columns: Features that a ranker reads, in the order of the fit.
        sample: Rows to compare on, as an array or a frame; of an item model histories of ids. Made up when None.
        promote: Whether the version is in service when this returns.

    Raises:
        ExtraMissing: A library that converts or runs it is not installed.
        Invalid: It cannot be converted, does not go with columns or sample, or scores otherwise.
        FolderLocked: It is to be promoted, and a process that is no server has the folder open, such as this one.
    """
    from pathlib import Path

    from midstream.app.operate.item_registration import GivenItems, register_items
    from midstream.app.operate.model_registration import Registration, register

    wanted = Registration(name, tuple(columns), sample, promote)
    if isinstance(model, ItemVectors):
        return register_items(Path(folder), GivenItems(*model), wanted)
    return register(Path(folder), model, wanted)
