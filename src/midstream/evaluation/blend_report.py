"""A placement's blend on one data set: fitted on the validation part, then judged beside its parts on the test part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from midstream.core.protocols import Source
from midstream.core.types import Moment
from midstream.evaluation.ballots import BallotBox, Ballots
from midstream.evaluation.blend_fit import FittedBlend, alone, fit_blend
from midstream.evaluation.datasets import NextItemData, Split
from midstream.evaluation.importing import DATA_SETTINGS, folded
from midstream.evaluation.interactions import Interactions, Rows
from midstream.evaluation.metrics import Ranks, hit, reciprocal_rank
from midstream.evaluation.protocols import LIST_LENGTH, exam_of
from midstream.evaluation.replay import ReplayOptions, run_replay
from midstream.evaluation.settings_file import read_settings, write_settings
from midstream.evaluation.statistics import Difference, Estimate, Resampling, difference, estimate
from midstream.ranking.blend import Blend
from midstream.state.settings import FoldSettings

QUESTIONS_MAX = 20_000
"""Of a validation part, evenly taken: 20,000 x 300 candidates x 4 sources are 100 MB."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What takes part, and how it is judged."""

    sources: Sequence[Source]
    before: Blend = field(default_factory=Blend)
    """Where the search begins, and what the fitted blend is compared with."""
    fold: FoldSettings = DATA_SETTINGS
    repeat: bool = False
    """The last item may be recommended again; a known data set says itself."""
    validation_share: float = 1 / 3
    """Of a data set in time order: the first rows."""
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1_000))
    tell: Callable[[str], None] | None = None

    def say(self, text: str) -> None:
        """Tell what is being done."""
        if self.tell is not None:
            self.tell(text)


@dataclass(frozen=True, slots=True)
class PartFigures:
    """A source by itself, or a blend of all."""

    name: str
    hit_rate: Estimate
    mrr: Estimate
    hit_rate_difference: Difference
    """Less the best part's; the best part is the source that is worth most on the validation part."""
    mrr_difference: Difference


@dataclass(frozen=True, slots=True)
class BlendReport:
    """The figures of one data set."""

    data: str
    k: int
    questions: int
    """Of the test part."""
    best_part: str
    fit: FittedBlend
    parts: tuple[PartFigures, ...]
    """Each source, then ``blend before`` and ``blend``."""

    def builtins(self) -> dict[str, object]:
        """Return the report as what JSON can hold."""
        found: dict[str, object] = msgspec.to_builtins(self)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    ballots: Ballots
    session: Rows


def fit_next_item(data: NextItemData, contest: Contest, settings_path: Path) -> BlendReport:
    """Fit on the validation part of a next-item set, then judge on its test part.

    Args:
        data: Says whether the last item may be recommended.
        contest: Sources and how they are judged.
        settings_path: Written before the test part is read. When the file is there, its weights are used as they are.

    Raises:
        NotFound: A file of the data set is missing.
        Invalid: There is nothing to fit.
    """
    contest = replace(contest, repeat=data.repeat)

    def asked(split: Split) -> _Asked:
        exam = exam_of(folded(split.learned, contest.fold), split.asked, repeat=data.repeat)
        box = BallotBox(contest.sources, data.repeat)
        for moment, wanted, last in zip(exam.moments, exam.wanted.tolist(), exam.last.tolist(), strict=True):
            box.add(moment, wanted, last)
        return _Asked(box.counted(), exam.session)

    fit = _fit(data.name, contest, settings_path, lambda: asked(data.choosing()))
    contest.say(f"{data.name}: answering the test part")
    return _report(data.name, contest, fit, asked(data.reporting()))


def fit_replay(name: str, rows: Interactions, contest: Contest, settings_path: Path) -> BlendReport:
    """Fit on the first rows of a data set in time order, then judge on the rows after them.

    Args:
        name: Of the data set.
        rows: By time, with sessions.
        contest: Sources and how they are judged.
        settings_path: As of ``fit_next_item``.
    """
    border = int(len(rows) * contest.validation_share)

    def asked(part: Interactions, asked_from: int) -> _Asked:
        box = BallotBox(contest.sources, contest.repeat)
        numbers: list[int] = []
        session = np.unique(part.session_id, return_inverse=True)[1]

        def observe(moment: Moment, row: int, wanted: int, last: int) -> None:
            box.add(moment, wanted, last)
            numbers.append(row)

        options = ReplayOptions(
            fold=contest.fold, repeat=contest.repeat, asked_from=asked_from, observe=observe, resampling=Resampling(1)
        )
        run_replay(name, part, {}, options)
        return _Asked(box.counted(), session[numbers])

    fit = _fit(name, contest, settings_path, lambda: asked(rows.take(slice(0, border)), 0))
    contest.say(f"{name}: answering the rows after the first {border}")
    return _report(name, contest, fit, asked(rows, border))


def _fit(name: str, contest: Contest, path: Path, asked: Callable[[], _Asked]) -> FittedBlend:
    if path.is_file():
        return read_settings(path, FittedBlend)
    contest.say(f"{name}: asking every source about the validation part")
    ballots = thinned(asked().ballots, QUESTIONS_MAX)
    best, before, trials = fit_blend(
        ballots, contest.before, lambda trial: contest.say(f"{name}: HR {trial.hit_rate:.4f} MRR {trial.mrr:.4f}")
    )
    write_settings(
        path, FittedBlend(name, "validation", len(ballots), LIST_LENGTH, best, before, alone(ballots), trials)
    )
    return read_settings(path, FittedBlend)


def thinned(ballots: Ballots, questions_max: int) -> Ballots:
    """Return at most so many questions, evenly taken."""
    if len(ballots) <= questions_max:
        return ballots
    chosen = np.linspace(0, len(ballots) - 1, questions_max).astype(np.int64)
    lengths = np.diff(ballots.start)[chosen]
    start = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.repeat(ballots.start[chosen] - start[:-1], lengths) + np.arange(int(start[-1]))
    wanted = ballots.wanted[chosen]
    moved = np.where(wanted >= 0, wanted - ballots.start[chosen] + start[:-1], -1)
    return Ballots(ballots.names, ballots.rank[rows], start, moved)


def _report(name: str, contest: Contest, fit: FittedBlend, asked: _Asked) -> BlendReport:
    ballots = asked.ballots
    ranks: dict[str, Ranks] = {each: ballots.places_in(each) for each in ballots.names}
    ranks["blend before"] = ballots.places(contest.before)
    ranks["blend"] = ballots.places(fit.best.blend)
    best_part = max(fit.alone, key=lambda each: fit.alone[each][0] * fit.alone[each][1])
    return BlendReport(
        data=name,
        k=LIST_LENGTH,
        questions=len(ballots),
        best_part=best_part,
        fit=fit,
        parts=tuple(_figures(each, ranks, best_part, asked.session, contest.resampling) for each in ranks),
    )


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
