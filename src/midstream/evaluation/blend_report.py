"""Evaluation of a placement's blend: fitted on the validation part, then compared with its sources on the test part.

Proposals are kept for ``QUESTIONS_MAX`` questions while a blend is fitted and for ``LOT_QUESTIONS_MAX`` while it is
evaluated, however large the data set is; of all other questions only the ranks of the right item are kept.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from midstream.core.errors import Fault, Invalid
from midstream.core.protocols import Source
from midstream.core.types import Moment
from midstream.evaluation.blend_fit import FittedBlend, alone, fit_blend
from midstream.evaluation.data.importing import DATA_SETTINGS, folded
from midstream.evaluation.data.interactions import InteractionTable, Rows
from midstream.evaluation.data.session_data import NextItemData, Split
from midstream.evaluation.metrics.metrics import Ranks, hit, reciprocal_rank
from midstream.evaluation.metrics.statistics import (
    Estimate,
    PairedDifference,
    Resampling,
    difference,
    estimate,
    holm_fields,
)
from midstream.evaluation.protocols import LIST_LENGTH, put, questions_of
from midstream.evaluation.replay import ReplayOptions, rows_asked, run_replay
from midstream.evaluation.settings_file import PAGE, read_settings, write_settings
from midstream.evaluation.source_proposals import BallotBox
from midstream.ranking.scorers.blend import Blend
from midstream.retrieval.nearest import Nearest
from midstream.state.settings import FoldSettings

QUESTIONS_MAX = 20_000
"""Of a validation part, evenly taken: 20,000 x 300 candidates x 4 sources are 100 MB."""
LOT_QUESTIONS_MAX = 1_000
"""Questions of a test part that are evaluated together: 5 MB, at the same cost a question as a larger batch."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Sources of a blend and options of its evaluation."""

    sources: Sequence[Source]
    before: Blend = field(default_factory=Blend)
    """Start of the search and baseline of the fitted blend."""
    fold: FoldSettings = DATA_SETTINGS
    repeat: bool = False
    """The last item may be recommended again; a known data set decides this itself."""
    validation_share: float = 1 / 3
    """Of a data set in time order: the first rows."""
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1_000))
    tell: Callable[[str], None] | None = None

    def say(self, text: str) -> None:
        """Report progress."""
        if self.tell is not None:
            self.tell(text)

    def box(self) -> BallotBox:
        """Return a recorder of the sources' proposals, empty."""
        return BallotBox(self.sources, self.repeat)

    def options(self) -> dict[str, object]:
        """Return each source's options by its name, as JSON values."""
        found: dict[str, object] = {
            source.name: msgspec.json.decode(msgspec.json.encode(_options(source), enc_hook=str))
            for source in self.sources
        }
        return found


def _options(source: Source) -> object:
    """Return the options of a source; all but one are their own."""
    return source.options if isinstance(source, Nearest) else source


@dataclass(frozen=True, slots=True)
class PartFigures:
    """A source by itself, or a blend of all."""

    name: str
    hit_rate: Estimate
    mrr: Estimate
    hit_rate_difference: PairedDifference
    """Less the best part's; the best part is the source that is worth most on the validation part."""
    mrr_difference: PairedDifference


@dataclass(frozen=True, slots=True)
class BlendReport:
    """The figures of one data set."""

    data: str
    k: int
    repeat: bool
    """The last item may be recommended."""
    validation_learned: bool
    """The validation part is learned before the test."""
    questions: int
    """Of the test part."""
    best_part: str
    fit: FittedBlend
    parts: tuple[PartFigures, ...]
    """Each source, then ``blend before`` and ``blend``."""


Judge = Callable[[Moment, int, int], None]
"""Takes a question: its moment, the right item's index, and that of the item acted on last; -1 = none."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A part of a data set: its questions are counted before any is answered."""

    session: Rows
    """Of each question, (n,)."""
    ask: Callable[[Rows, Judge], None]
    """Answers the questions of these numbers, ascending."""


@dataclass(slots=True, eq=False)
class _Places:
    """Ranks of the right items in sources and blends, batch by batch; proposals are dropped with each batch."""

    contest: Contest
    blends: Mapping[str, Blend]
    _box: BallotBox = field(init=False)
    _lots: list[dict[str, Ranks]] = field(default_factory=list[dict[str, Ranks]])

    def __post_init__(self) -> None:
        self._box = self.contest.box()

    def add(self, moment: Moment, wanted: int, last: int) -> None:
        """Put one question to all sources."""
        self._box.add(moment, wanted, last)
        if len(self._box) >= LOT_QUESTIONS_MAX:
            self._count()

    def ranks(self) -> dict[str, Ranks]:
        """Return the ranks of all questions so far, by source and then by blend; each (n,)."""
        self._count()
        return {name: np.concatenate([lot[name] for lot in self._lots]) for name in self._lots[0]}

    def _count(self) -> None:
        ballots, self._box = self._box.counted(), self.contest.box()
        found = {name: ballots.places_in(name) for name in ballots.names}
        self._lots.append(found | {name: ballots.places(blend) for name, blend in self.blends.items()})


def fit_next_item(data: NextItemData, contest: Contest, settings_path: Path) -> BlendReport:
    """Fit on the validation part of a next-item set, then evaluate on its test part.

    Args:
        data: Decides whether the last item may be recommended.
        contest: Sources and options.
        settings_path: Written before the test part is read. If the file exists, its weights are used as they are.

    Raises:
        NotFound: A file of the data set is missing.
        Invalid: There is nothing to fit, or the file is of other sources or other options of them.
    """
    contest = replace(contest, repeat=data.repeat)

    def part(split: Split) -> _Part:
        fold = folded(split.learned, contest.fold)
        questions = questions_of(split.asked)

        def ask(numbers: Rows, judge: Judge) -> None:
            for moment, wanted, last in put(questions, fold, numbers.tolist()):
                judge(moment, wanted, last)

        return _Part(questions.first, ask)

    fit = _fit(data.name, contest, settings_path, lambda: part(data.choosing()))
    contest.say(f"{data.name}: answering the test part")
    return _report(data.name, contest, fit, part(data.reporting()), validation_learned=data.validation_learned)


def fit_replay(name: str, rows: InteractionTable, contest: Contest, settings_path: Path) -> BlendReport:
    """Fit on the first rows of a data set in time order, then judge on the rows after them.

    Args:
        name: Of the data set.
        rows: By time, with sessions.
        contest: Sources and how they are judged.
        settings_path: As of ``fit_next_item``.

    Raises:
        Invalid: As of ``fit_next_item``.
    """
    border = int(len(rows) * contest.validation_share)

    def part(of: InteractionTable, asked_from: int) -> _Part:
        asked = rows_asked(of, asked_from)

        def ask(numbers: Rows, judge: Judge) -> None:
            chosen = set(asked[numbers].tolist())

            def observe(moment: Moment, row: int, wanted: int, last: int) -> None:
                if row in chosen:
                    judge(moment, wanted, last)

            options = ReplayOptions(
                fold=contest.fold,
                repeat=contest.repeat,
                asked_from=asked_from,
                observe=observe,
                resampling=Resampling(1),
            )
            run_replay(name, of, {}, options)

        return _Part(np.unique(of.session_id, return_inverse=True)[1][asked], ask)

    fit = _fit(name, contest, settings_path, lambda: part(rows.take(slice(0, border)), 0))
    contest.say(f"{name}: answering the rows after the first {border}")
    return _report(name, contest, fit, part(rows, border), validation_learned=True)


def _fit(name: str, contest: Contest, path: Path, validation: Callable[[], _Part]) -> FittedBlend:
    """Return the weights on file, or fit them and write the file.

    Raises:
        Invalid: Those on file were fitted with other sources or options; or there is nothing to fit.
    """
    if not path.is_file():
        contest.say(f"{name}: asking every source about the validation part")
        part, box = validation(), contest.box()
        part.ask(evenly(len(part.session), QUESTIONS_MAX), box.add)
        ballots = box.counted()
        best, before, trials = fit_blend(
            ballots, contest.before, lambda trial: contest.say(f"{name}: HR {trial.hit_rate:.4f} MRR {trial.mrr:.4f}")
        )
        fitted = FittedBlend(
            data=name,
            fitted_on="validation",
            questions=len(ballots),
            k=LIST_LENGTH,
            sources=contest.options(),
            best=best,
            before=before,
            alone=alone(ballots),
            trials=trials,
        )
        write_settings(path, fitted)
    fit = read_settings(path, FittedBlend)
    _require_same(path, fit.sources, contest.options())
    return fit


def evenly(count: int, most: int) -> Rows:
    """Return the numbers of at most ``most`` of ``count`` questions, evenly taken, ascending."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).astype(np.intp)


def _require_same(path: Path, fitted: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Refuse weights that were fitted with other sources, or with other options of the same."""
    if fitted == wanted:
        return
    changed = [name for name in fitted if name in wanted and fitted[name] != wanted[name]]
    told = f"Fitted for {_listed(fitted)}; the placement has {_listed(wanted)}."
    came = f"Fitted with other options of {_listed(changed)}." if fitted.keys() == wanted.keys() else told
    right = "The same sources with the same options: name another file, or remove this one to fit anew."
    raise Invalid((Fault(f"{path}: sources", came, right, PAGE),))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "no source"


def _report(name: str, contest: Contest, fit: FittedBlend, test: _Part, *, validation_learned: bool) -> BlendReport:
    places = _Places(contest, {"blend before": contest.before, "blend": fit.best.blend})
    test.ask(np.arange(len(test.session)), places.add)
    ranks = places.ranks()
    best_part = max(fit.alone, key=lambda each: fit.alone[each][0] * fit.alone[each][1])
    return BlendReport(
        data=name,
        k=LIST_LENGTH,
        repeat=contest.repeat,
        validation_learned=validation_learned,
        questions=len(test.session),
        best_part=best_part,
        fit=fit,
        parts=_corrected(
            tuple(_figures(each, ranks, best_part, test.session, contest.resampling) for each in ranks), best_part
        ),
    )


def _corrected(parts: tuple[PartFigures, ...], best_part: str) -> tuple[PartFigures, ...]:
    """Return parts whose tests against the best one are corrected together, two of each."""
    others = [each for each in parts if each.name != best_part]
    tested = {each.name: each for each in holm_fields(others, "hit_rate_difference", "mrr_difference")}
    return tuple(tested.get(each.name, each) for each in parts)


def _figures(
    name: str, ranks: Mapping[str, Ranks], best_part: str, session: Rows, resampling: Resampling
) -> PartFigures:
    ours, theirs = ranks[name], ranks[best_part]
    hits, places = hit(ours, LIST_LENGTH), reciprocal_rank(ours, LIST_LENGTH)
    return PartFigures(
        name,
        estimate(hits, session, resampling),
        estimate(places, session, resampling),
        difference(hits, hit(theirs, LIST_LENGTH), session, resampling),
        difference(places, reciprocal_rank(theirs, LIST_LENGTH), session, resampling),
    )
