"""Kinds of item models by name: options are decoded, and what is wrong is named."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid, Invalid
from midstream.models.artifact.artifact import Draft, read_artifact, write_artifact
from midstream.models.artifact.golden import made_rows, row_content
from midstream.models.descriptions import Description
from midstream.models.histories import Histories, Interactions
from midstream.models.items import popular
from midstream.models.items.item_blend import BlendPart
from midstream.models.items.onnx_items import KIND
from midstream.models.kinds import ITEM_KINDS, ROW_KINDS, blend_parts, is_told_items, item_kind
from midstream.models.loading import READ, READ_ROWS, load
from midstream.models.model import QUIET, is_row_model
from midstream.models.vocabulary import ItemVocabulary
from midstream.retrieval.item_model import SERVES
from tests.models.click_rows import some_clicks
from tests.support.libraries import library

FITTED_BY = {"keras": "tensorflow", "sasrec": "torch", "svd": "surprise", "two_tower": "torch"}
"""Libraries that the environment of all tests has not."""
ROOT = Path(__file__).resolve().parents[2]


def marked(kinds):
    """Kinds by name, those marked that a library of others fits."""
    return [pytest.param(each, marks=[pytest.mark.integration] * (each in FITTED_BY)) for each in sorted(kinds)]


@pytest.mark.parametrize("name", sorted(ITEM_KINDS))
def test_a_kind_searches_only_options_that_it_has(name):
    """Each end of each range, and each value, is one that the options take."""
    kind = ITEM_KINDS[name]
    for option, values in kind.space.items():
        for value in values if isinstance(values, tuple) else (values.low, values.high):
            told = int(value) if not isinstance(values, tuple) and values.whole else value
            assert getattr(kind.decoded({option: told}), option) == told


def test_options_may_come_as_text_and_others_are_refused():
    """A command has text alone; an option of another name, or of another type, is named."""
    kind = item_kind("popular")
    assert kind.decoded({"once": "false"}) == popular.PopularOptions(once=False)
    with pytest.raises(Invalid, match=r'options\.onse\n.*"once"'):
        kind.decoded({"onse": True})
    with pytest.raises(Invalid, match="once"):
        kind.decoded({"once": "perhaps"})
    with pytest.raises(Invalid, match=r"popularr(.|\n)*popular"):
        item_kind("popularr")


def test_a_kind_fits_and_reads_what_it_wrote():
    """Through the mapping, as a command does it."""
    vocabulary = ItemVocabulary.of(["a", "b"])
    kind = item_kind("popular")
    model = kind.fit(Interactions(vocabulary, Histories.of([[1], [1, 0]])), kind.decoded({}), QUIET)
    again = kind.restore(vocabulary, model.arrays())
    assert again.scores(Histories.of([[0]])).tolist() == [[1.0, 2.0]]
    with pytest.raises(ArtifactInvalid, match=r"popular model is missing, not <f4 \(2,\)"):
        kind.restore(vocabulary, {"score": np.zeros(3, dtype=np.float32)})


@pytest.mark.parametrize("name", marked(ITEM_KINDS))
def test_every_kind_answers_as_before_when_it_is_read_again(name):
    """With its default options, on a small shop; the same data give the same arrays."""
    if name in FITTED_BY:
        library(FITTED_BY[name])
    ids = [f"i{number}" for number in range(12)]
    vocabulary = ItemVocabulary.of(ids)
    rng = np.random.default_rng(4)
    drawn = Histories.of([[], *(rng.choice(12, 4, replace=False).tolist() for _ in range(30))])
    histories = Histories(drawn.row, rng.integers(1, 6, len(drawn.row)).astype(np.float32), drawn.start)
    kind = item_kind(name)
    described = [Description((f"colour={number % 3}",), "a lamp") for number in range(12)]
    data = Interactions(vocabulary, histories, described if kind.reads_items else ())
    first, second = (kind.fit(data, kind.decoded({}), QUIET) for _ in range(2))
    assert first.arrays().keys() == second.arrays().keys()
    for array, each in first.arrays().items():
        assert np.array_equal(each, second.arrays()[array])
    again = kind.restore(vocabulary, first.arrays())
    assert np.array_equal(again.scores(histories), first.scores(histories))


@pytest.mark.parametrize("name", marked(ROW_KINDS))
def test_every_ranker_is_published_and_answers_as_before(name, tmp_path):
    """From rows with something unknown, each a request of its own; golden rows are where the model's numbers are."""
    if name in FITTED_BY:
        library(FITTED_BY[name])
    kind, examples = ROW_KINDS[name], some_clicks(2)
    model = kind.fit(examples, kind.decoded({"objective": "binary"} if name == "trees" else {}), QUIET)
    asked = made_rows(model, 1)
    assert len(np.unique(model.score(asked))) > 16
    assert np.nanmax(np.abs(asked)) < 1e4
    draft = Draft(name="ranker", kind=name, inputs=examples.names)
    found = load(read_artifact(tmp_path / write_artifact(tmp_path, draft, row_content(model, asked))))
    assert is_row_model(found)
    assert np.array_equal(found.score(examples.values), model.score(examples.values))


@pytest.mark.parametrize(
    "name, option, value", [("ease", "regularization", 0), ("ease", "dropout", 1), ("graph_filter", "factors", 0)]
)
def test_options_out_of_their_bounds_are_refused(name, option, value):
    """What would have no solution is a fault of the settings and not of the fit."""
    with pytest.raises(Invalid, match=option):
        item_kind(name).decoded({option: value})


@pytest.mark.parametrize("name", sorted({**ITEM_KINDS, **ROW_KINDS}))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "inf", 1e300, -1.0])
def test_no_option_takes_what_is_no_number_without_end_or_absurd(name, value):
    """TOML can say nan and inf: they are faults of the file, and no traceback of a fit hours later."""
    kind = ITEM_KINDS[name] if name in ITEM_KINDS else ROW_KINDS[name]
    plain = msgspec.to_builtins(kind.decoded({}))
    for option in [name for name, default in plain.items() if type(default) is float]:
        if value == -1.0 and option == "low_pass_power":
            continue  # an exponent, from -1 on
        with pytest.raises(Invalid, match=option):
            kind.decoded({option: value})


def test_content_is_not_fitted_where_nobody_says_what_items_are():
    """Acts alone say nothing of what an item is; a model without one vector would never propose anything."""
    data = Interactions(ItemVocabulary.of(["a"]), Histories.of([[0]]))
    kind = item_kind("content")
    with pytest.raises(Invalid, match="acts alone"):
        kind.fit(data, kind.decoded({}), QUIET)


@pytest.mark.parametrize("name", sorted({**ITEM_KINDS, **ROW_KINDS}))
def test_every_kind_and_every_option_stands_in_the_documentation(name):
    """A setting that nobody can read of is none."""
    page = (ROOT / "docs/models.md").read_text()
    kind = ITEM_KINDS[name] if name in ITEM_KINDS else ROW_KINDS[name]
    assert f"`{name}`" in page or f'"{name}"' in page
    missing = [each.name for each in msgspec.structs.fields(kind.options) if f"`{each.name}`" not in page]
    assert not missing


def test_a_blend_says_what_is_wrong_with_its_parts():
    """Kinds, options of a part, weights of some parts alone, and a blend of blends: each with its place."""
    kind = item_kind("blend")
    assert blend_parts(kind.decoded({})) == (BlendPart("graph_filter"), BlendPart("als"))
    assert blend_parts(item_kind("als").decoded({})) == ()
    for parts, match in (
        (["als", "ese"], r'options\.parts\[1\]\.kind\n.*Nearest: "ease"'),
        (["als", "blend"], r"options\.parts\[1\]\.kind"),
        (["als", {"kind": "ease", "options": {"lambda": 3}}], r"options\.parts\[1\]\.options\.lambda"),
        (["als", {"kind": "ease", "weight": 1.0}], r"options\.parts\n.*some have a weight"),
        ([{"kind": "als", "weight": 0.0}, {"kind": "ease", "weight": 0.0}], r"all weights are 0"),
        ([{"kind": "als", "weight": float("nan")}, "ease"], "parts"),
        (["als"], "length"),
        (["als"] * 9, "length"),
    ):
        with pytest.raises(Invalid, match=match):
            kind.decoded({"parts": parts})


def test_a_blend_is_told_what_items_are_where_a_part_is():
    """Its seed is that of parts that take one and name none."""
    assert is_told_items("content", {})
    assert is_told_items("blend", {"parts": ["als", "content"]})
    assert not any(is_told_items(each, {}) for each in ("blend", "als", "trees"))
    vocabulary = ItemVocabulary.of(["a", "b", "c"])
    data = Interactions(vocabulary, Histories.of([[0, 1], [1, 2], [0, 1, 2]]))
    kind, own = item_kind("blend"), {"kind": "als", "options": {"seed": 5}, "weight": 1.0}
    fitted = [
        kind.fit(data, kind.decoded({"seed": seed, "parts": [{"kind": "als", "weight": 0.5}, own]}), QUIET).arrays()
        for seed in (5, 6)
    ]
    assert np.array_equal(fitted[0]["0.als.item_factors"], fitted[0]["1.als.item_factors"])
    assert np.array_equal(fitted[0]["1.als.item_factors"], fitted[1]["1.als.item_factors"])
    assert not np.array_equal(fitted[0]["0.als.item_factors"], fitted[1]["0.als.item_factors"])
    assert kind.figures(kind.restore(vocabulary, fitted[0])) == {"weight.0.als": 0.5, "weight.1.als": 1.0}


def test_the_page_lists_every_kind_with_a_link_to_its_part():
    """Near its top, item models and rankers apart; the link leads to a heading of the page."""
    page = (ROOT / "docs/models.md").read_text()
    headings = {
        re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in re.findall(r"(?m)^#+ (.+)$", page)
    }
    listed = page.partition("\n## Kinds\n")[2].partition("\n## ")[0]
    offered = ({*ITEM_KINDS, KIND}, {*ROW_KINDS, *READ_ROWS})
    for kinds, table in zip(offered, listed.split("\nRankers,"), strict=True):
        found = re.findall(r"(?m)^\| \[`(\w+)`\]\(#([\w-]+)\) \|", table)
        assert sorted(name for name, _ in found) == sorted(kinds)
        assert {link for _, link in found} <= headings


def test_all_rankers_but_lambdarank_give_probabilities_as_the_page_says():
    """Whose log loss and calibration error a training tells."""
    assert "(those of all rankers but `trees` with `lambdarank`)" in (ROOT / "docs/models.md").read_text()
    assert {name for name, each in ROW_KINDS.items() if not each.is_probability(each.options())} == {"trees"}
    assert ROW_KINDS["trees"].is_probability(ROW_KINDS["trees"].decoded({"objective": "binary"}))


def test_the_page_on_sources_says_which_answers_with_which_kind():
    """As the sources do, each kind that is fitted or read here; what is in no row is answered with by any."""
    page = (ROOT / "docs/sources.md").read_text().partition("| source | kinds of [models]")[2].partition("\n\n")[0]
    told = {row[0]: set(row[1:]) for row in (re.findall(r"`(\w+)`", line) for line in page.splitlines()) if row}
    assert told == {source: {*kinds} & {*ITEM_KINDS, *READ} for source, kinds in SERVES.items()}
    assert {*ITEM_KINDS} - {kind for kinds in SERVES.values() for kind in kinds} == {"popular"}


@pytest.mark.parametrize(
    "kind, options, where, came, right",
    [
        ("als", {"factors": 0}, "factors", "0 came.", "A whole number from 1 to 1,024."),
        ("als", {"factors": "many"}, "factors", '"many" came.', "A whole number from 1 to 1,024."),
        ("als", {"regularization": float("nan")}, "regularization", "nan came.", "A number from 1e-09 to 1,000,000."),
        ("bpr", {"learning_rate": 0}, "learning_rate", "0 came.", "A number above 0, at most 1."),
        ("ease", {"dropout": 1}, "dropout", "1 came.", "A number from 0 below 1."),
        ("gradient_boosting", {"debias": "position"}, "debias", '"position" came.', "One of: none, propensity."),
        ("keras", {"hidden": [64, 0]}, "hidden[1]", "0 came.", "A whole number from 1 to"),
        ("keras", {"hidden": []}, "hidden", "[] came.", "A list of length 1 to"),
        ("popular", {"once": "perhaps"}, "once", '"perhaps" came.', "true or false."),
        ("blend", {"parts": ["als"]}, "parts", '["als"] came.', "A list of length 2 to 8."),
        ("blend", {"parts": ["als", 3]}, "parts[1]", "3 came.", "A text. Or a table with kind, options, weight."),
        (
            "blend",
            {"parts": ["als", {"kind": "ease", "weight": 101}]},
            "parts[1].weight",
            "101 came.",
            "A number from -100 to 100.",
        ),
        (
            "blend",
            {"parts": ["ease", {"kind": "als", "options": {"factors": 2_000}}]},
            "parts[1].options.factors",
            "2000 came.",
            "A whole number from 1 to 1,024.",
        ),
    ],
)
def test_an_option_out_of_range_is_named_with_its_bounds(kind, options, where, came, right):
    """Where it stands, what came, and what may stand there, exclusive bounds as such."""
    with pytest.raises(Invalid) as caught:
        (ITEM_KINDS.get(kind) or ROW_KINDS[kind]).decoded(options)
    (fault,) = caught.value.faults
    assert (fault.where, fault.came, fault.right[: len(right)]) == (f"options.{where}", came, right)


def test_every_option_that_is_wrong_is_named():
    """Not the first one alone."""
    with pytest.raises(Invalid) as caught:
        item_kind("als").decoded({"factors": 0, "iterations": 8, "confidence": "sums"})
    assert [each.where for each in caught.value.faults] == ["options.factors", "options.confidence"]
