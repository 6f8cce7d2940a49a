"""Blends whose weights were fitted on validation parts, beside their parts on what came after.

The weights are on file in ``settings/``; ``midstream evaluate … --fit-blend`` made them. ``docs/quality.md`` has the
figures over all rows; of the sets in time order a test run reads a piece around the border.
"""

import os
from pathlib import Path

import pytest

from benchmarks.quality.data_folder import DATA_VARIABLE, data_folder
from benchmarks.quality.session_sets import NEXT_ITEM_SETS, REPLAY_SETS
from midstream.evaluation.blend_fit import WEIGHT_MAX, FittedBlend
from midstream.evaluation.blend_report import Contest, fit_next_item, fit_replay
from midstream.evaluation.metrics.statistics import Resampling
from midstream.evaluation.search import Choice, with_options
from midstream.evaluation.settings_file import read_settings
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending

pytestmark = [pytest.mark.quality, pytest.mark.long]

SETTINGS = Path(__file__).parent / "settings"
NAMES = ("eshop-clothing-2008", "online-retail", "rsc15-100k", "serenade-toy")
"""Sets whose blend is on file."""
LEARNED_ROWS, ASKED_ROWS = 10_000, 6_000
"""Of a set in time order, before and after the end of its validation part."""
P_MIN = 0.05 / (2 * len(NAMES))
"""Two figures of four sets are looked at: Bonferroni."""


def shared(name):
    """The folder of data sets, if it holds this one."""
    folder = data_folder(os.environ, Path(__file__).parents[2])
    if folder is not None and (folder / name).is_dir():
        return folder
    reason = f"{name} is not there: {DATA_VARIABLE} names no folder that holds it, and none is beside the checkout"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    return pytest.skip(reason)


def contest_of(name, **changes):
    """The four sources, session kNN and covisitation with the options that the validation part chose."""
    knn, pairs = SETTINGS / f"{name}.json", SETTINGS / f"{name}-covisitation.json"
    sources = (
        with_options(SessionKnn(), read_settings(knn, Choice).best.options) if knn.is_file() else SessionKnn(),
        with_options(Covisitation(), read_settings(pairs, Choice).best.options) if pairs.is_file() else Covisitation(),
        Trending(),
        Popular(),
    )
    return Contest(sources, resampling=Resampling(resamples=1_000), **changes)


def report_of(name):
    """What the blend on file reaches, and its parts."""
    path = SETTINGS / f"{name}-blend.json"
    if name in NEXT_ITEM_SETS:
        return fit_next_item(NEXT_ITEM_SETS[name](shared(name)), contest_of(name), path)
    rows = REPLAY_SETS[name](shared(name))
    border = int(len(rows) * Contest(()).validation_share)
    piece = rows.take(slice(border - LEARNED_ROWS, border + ASKED_ROWS))
    share = (LEARNED_ROWS + 0.5) / len(piece)
    return fit_replay(name, piece, contest_of(name, validation_share=share), path)


@pytest.mark.parametrize("name", NAMES)
def test_no_source_is_all_of_a_blend(name):
    """Weights sum to 1, none above 0.9, and what was chosen is worth at least what each part is by itself."""
    fit = read_settings(SETTINGS / f"{name}-blend.json", FittedBlend)
    assert sum(fit.best.weights.values()) == pytest.approx(1.0, abs=0.001)
    assert max(fit.best.weights.values()) <= WEIGHT_MAX
    assert fit.best.worth >= max(hit_rate * mrr for hit_rate, mrr in fit.alone.values())
    assert fit.best.worth >= fit.before.worth


@pytest.mark.parametrize("name", NAMES)
def test_a_blend_is_not_behind_its_best_part(name):
    """On rows that nothing was chosen on, neither figure is significantly below that of the best part."""
    report = report_of(name)
    for part in report.parts:
        print(f"\n{name}, {part.name}: HR {part.hit_rate}, MRR {part.mrr}")
    blend = report.parts[-1]
    for difference in (blend.hit_rate_difference, blend.mrr_difference):
        print(f"  less {report.best_part}: {difference}")
        assert difference.mean >= 0 or difference.p_value > P_MIN
