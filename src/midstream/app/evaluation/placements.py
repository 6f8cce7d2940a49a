"""Evaluation of this configuration on a file of interactions: sources and placements, and the weights of a blend."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args
from urllib.parse import quote

import msgspec

from midstream.app.config.editor import write_blend
from midstream.app.config.schema import Config
from midstream.app.opening import CONFIG_NAME
from midstream.app.wiring import plans
from midstream.core.errors import Fault, Invalid, NotFound
from midstream.core.nearest import nearest
from midstream.core.protocols import Source
from midstream.evaluation.blend_report import BlendReport, Contest, fit_next_item, fit_replay
from midstream.evaluation.data.importing import DATA_SETTINGS
from midstream.evaluation.data.interactions import InteractionData, InteractionTable, by_time, with_sessions
from midstream.evaluation.data.session_data import NextItemData, of_file
from midstream.evaluation.data.tables import FileColumns, TimeUnit, read_table
from midstream.evaluation.learning import LearningReport, run_learning
from midstream.evaluation.next_item import NextItemOptions, NextItemReport, run_next_item
from midstream.evaluation.replay import Method, ReplayOptions, ReplayReport, asking_plan, asking_source, run_replay
from midstream.evaluation.search import COVISITATION_GRID, SESSION_KNN_GRID, Grid
from midstream.ranking.scorers.blend import Blend
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.state.settings import FoldSettings

GAP_MS = 1_800_000
"""Silence that ends a session where a file has none, as in the engine."""
SEARCHED: Mapping[str, tuple[Source, Grid]] = {
    "session_knn": (SessionKnn(), SESSION_KNN_GRID),
    "covisitation": (Covisitation(), COVISITATION_GRID),
}
"""Sources whose options ``next-item`` chooses, and the grid of each."""
_PAGE = "/docs/quality.md"


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Columns of a file, and the number of rows."""

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """``item_id``, ``session_id``, ``user_id``, ``time`` or ``type`` → column."""
    time_unit: str = "ms"
    """``ms``, ``s`` or ``iso``."""
    repeat: bool = False
    """The last item may be recommended again."""
    rows_max: int | None = None
    placement: str = "default"
    """Placement whose blend is fitted."""
    source: str = "session_knn"
    """Of ``SEARCHED``: the source that is evaluated."""
    fit_path: Path | None = None
    """Where a fitted blend is written, or read when it is there; None = beside, named after data and placement."""


def evaluate_next_item(
    data: NextItemData, settings: Path | None, options: EvaluationOptions, tell: Callable[[str], None]
) -> NextItemReport:
    """Evaluate one source on a data set's test part, with options chosen on the validation part before.

    Args:
        data: Of ``sessions_of``.
        settings: Chosen options; made if the file does not exist. None = a file in the current folder.
        options: The source.
        tell: Receives the current step.

    Raises:
        NotFound: There is no such data.
        Invalid: The columns do not fit, or no options of that source are searched.
    """
    source, grid = searched(options.source)
    path = settings or Path(f"evaluation-{settings_name(data.name, source)}")
    return run_next_item(data, source, path, NextItemOptions(k=data.k, grid=grid, advance=tell))


def settings_name(data_name: str, source: Source) -> str:
    """Return the name of the file of a source's options; those of session_knn have no source in their name."""
    return f"{data_name}.json" if isinstance(source, SessionKnn) else f"{data_name}-{source.name}.json"


def searched(name: str) -> tuple[Source, Grid]:
    """Return a source with the values that its options are chosen from.

    Raises:
        Invalid: There is none of that name.
    """
    if name not in SEARCHED:
        came = f"{name!r} is not searched.{nearest(name, SEARCHED)}"
        raise Invalid((Fault("--source", came, ", ".join(SEARCHED), _PAGE),))
    return SEARCHED[name]


def evaluate_replay(
    data: InteractionData, config: Config, folder: Path, options: EvaluationOptions, advance: Callable[[int], None]
) -> tuple[ReplayReport, Mapping[str, Mapping[str, int]]]:
    """Replay a data set in time order: popularity, session kNN, covisitation, and every placement configured.

    Returns:
        The figures, and for each placement the number of answers without each of its components: a data set has no
        attributes, so components that read some fail.

    Raises:
        NotFound: There is no such data.
        Invalid: The columns do not fit.
    """
    found = plans(config, folder)
    methods: dict[str, Method] = {
        "popular": asking_source(Popular()),
        "session_knn": asking_source(SessionKnn()),
        "covisitation": asking_source(Covisitation()),
    }
    failures: dict[str, Counter[str]] = {}
    for each in config.placements:
        failures[each.name] = Counter()
        methods[f"placement {each.name}"] = asking_plan(found[each.name], failures[each.name])
    told = ReplayOptions(fold=_fold(config), rows_max=options.rows_max, repeat=options.repeat, advance=advance)
    return run_replay(data.name, data.read(), methods, told), failures


def evaluate_learning(
    data: InteractionData, options: EvaluationOptions, windows: int, advance: Callable[[int], None]
) -> LearningReport:
    """Ask a source about the second half of a data set with a state that is frozen, learns now and then, or always.

    Args:
        data: Of ``interactions_of``.
        options: The source, with its default options, and how many rows.
        windows: Into how many the second half is cut.
        advance: Told how many rows were replayed since it was last told; three times all of them.

    Raises:
        NotFound: There is no such data.
        Invalid: The columns do not fit, or there is no such source.
    """
    sources: dict[str, Source] = {"popular": Popular(), **{each: source for each, (source, _) in SEARCHED.items()}}
    if options.source not in sources:
        came = f"{options.source!r} is not asked.{nearest(options.source, sources)}"
        raise Invalid((Fault("--source", came, ", ".join(sources), _PAGE),))
    told = ReplayOptions(rows_max=options.rows_max, repeat=options.repeat, advance=advance)
    return run_learning(data.name, data.read(), asking_source(sources[options.source]), windows, told)


def fit_on_next_item(
    data: NextItemData, config: Config, folder: Path, options: EvaluationOptions, tell: Callable[[str], None]
) -> BlendReport:
    """Fit the blend of a placement on a data set's validation part, and judge it on the test part.

    Raises:
        NotFound: There is no such data, or no such placement.
        Invalid: The columns do not fit, or the weights on file are of other sources or options.
    """
    return fit_next_item(data, _contest(config, folder, options, tell), _fit_path(data.name, options))


def fit_on_replay(
    data: InteractionData, config: Config, folder: Path, options: EvaluationOptions, tell: Callable[[str], None]
) -> BlendReport:
    """Fit the blend of a placement on the first third of a data set in time order, and judge it on the rest.

    Raises:
        NotFound: There is no such data, or no such placement.
        Invalid: The columns do not fit, or the weights on file are of other sources or options.
    """
    rows = data.read()
    rows = rows if options.rows_max is None else rows.take(slice(0, options.rows_max))
    return fit_replay(data.name, rows, _contest(config, folder, options, tell), _fit_path(data.name, options))


def _fit_path(name: str, options: EvaluationOptions) -> Path:
    # The name of a placement may hold what a file name cannot.
    return options.fit_path or Path(f"blend-{name}-{quote(options.placement, safe='')}.json")


def _contest(config: Config, folder: Path, options: EvaluationOptions, tell: Callable[[str], None]) -> Contest:
    """Return the placement's sources and blend."""
    found = plans(config, folder)
    if options.placement not in found:
        message = f"placement {options.placement!r} is not configured; there are {', '.join(sorted(found))}"
        raise NotFound(message)
    plan = found[options.placement]
    blend = next(each for each in plan.scorers if isinstance(each, Blend))
    return Contest((*plan.sources, *plan.floor), blend, _fold(config), options.repeat, tell=tell)


def _fold(config: Config) -> FoldSettings:
    """Return how a data set is folded for what is configured: all but types, attributes and sessions, which it has."""
    return msgspec.structs.replace(DATA_SETTINGS, half_lives=config.half_lives(), pair_half_life=config.pairs.half_life)


def write_fitted(folder: Path, placement: str, report: BlendReport) -> bool:
    """Write fitted weights into the placement of a folder's configuration; return whether there is one.

    Raises:
        Invalid: The file cannot be changed for certain; it is as it was.
    """
    path = folder / CONFIG_NAME
    if path.is_file():
        write_blend(path, placement, report.fit.best.weights, report.fit.best.rank_offset)
    return path.is_file()


def sessions_of(file: str, options: EvaluationOptions) -> NextItemData:
    """Return a file as a data set for the next-item protocol.

    Raises:
        NotFound: There is no such file.
        Invalid: The options name no column or unit.
    """
    return of_file(_path(file), columns_of(options), repeat=options.repeat, gap_ms=GAP_MS)


def interactions_of(file: str, options: EvaluationOptions) -> InteractionData:
    """Return the interactions of a file by time, which are read when they are called for."""

    def read() -> InteractionTable:
        columns = columns_of(options)
        rows = by_time(read_table(_path(file), columns))
        return rows if columns.session else with_sessions(rows, GAP_MS)

    return InteractionData(Path(file).name, read)


def _path(file: str) -> Path:
    path = Path(file)
    if not path.is_file():
        message = f"{file!r} is no file; public sets by name are read in a checkout, by python -m benchmarks.quality"
        raise NotFound(message)
    return path


def columns_of(options: EvaluationOptions, where: tuple[str, str] = ("--map ", "--time-format")) -> FileColumns:
    """Return the names of columns.

    Args:
        options: As a caller gave them.
        where: Start of the place of a column in faults, and the place of the unit: those of the command line.

    Raises:
        Invalid: The options name no column or unit.
    """
    names = ("item_id", "session_id", "user_id", "time", "type")
    faults = [
        Fault(f"{where[0]}{each}", f"{each!r} is not read here.{nearest(each, names)}", ", ".join(names), _PAGE)
        for each in options.columns
        if each not in names
    ]
    units: tuple[str, ...] = get_args(TimeUnit)
    if options.time_unit not in units:
        faults.append(Fault(where[1], f"{options.time_unit!r}", ", ".join(units), _PAGE))
    if faults:
        raise Invalid(tuple(faults))
    told = options.columns
    return FileColumns(
        item=told.get("item_id", "item_id"),
        time=told.get("time", "time"),
        session=told.get("session_id", None if "user_id" in told else "session_id"),
        user=told.get("user_id"),
        action=told.get("type"),
        time_unit=cast("TimeUnit", options.time_unit),
    )
