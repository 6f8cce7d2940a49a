"""Fitted trees rank: what is worth more comes first, the same each time, whatever the place it was shown at."""

import sys
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import ConfigInvalid, ExtraMissing, FitStopped, Invalid, ShapeMismatch
from midstream.models.model import Watch
from midstream.models.rows import lambdamart
from midstream.models.rows.examples import Examples
from midstream.models.rows.lambdamart import LambdaMartOptions, fit_lambdamart
from midstream.testing.model_conformance import check_row_model

NAMES = ("views [7d]", "score.als", "price")
FEW = LambdaMartOptions(trees_max=20, leaf_rows_min=5, learning_rate=0.2, later_share=0.25)


def drawn(seed: int, requests: int = 80, size: int = 10) -> Examples:
    """Return requests in which the second column decides, where it is known; times out of order."""
    dice = np.random.default_rng(seed)
    rows = requests * size
    values = dice.normal(size=(rows, 3)).astype(np.float32)
    values[dice.random(values.shape) < 0.1] = np.nan
    worth = np.nan_to_num(values[:, 1], nan=-2.0) + 0.3 * dice.normal(size=rows)
    label = np.select([worth > 1.5, worth > 0.5], [3.0, 1.0], -2.0).astype(np.float32)
    return Examples(
        NAMES,
        values,
        np.arange(0, rows + 1, size, dtype=np.int64),
        label,
        dice.permutation(requests).astype(np.int64),
        np.ones(rows, dtype=np.float32),
        np.tile(np.arange(size), requests).astype(np.int32),
        np.full(rows, np.nan, dtype=np.float32),
    )


def pairs_right(examples: Examples, score: np.ndarray) -> float:
    """Return the share of pairs of one request, of different worth, that are in the right order."""
    right = total = 0
    for begin, end in zip(examples.start[:-1], examples.start[1:], strict=True):
        worth, got = examples.label[begin:end], score[begin:end]
        better = worth[:, None] > worth[None, :]
        total += int(better.sum())
        right += int((better & (got[:, None] > got[None, :])).sum())
    return right / total


def test_what_is_worth_more_comes_first():
    """Rewards of any size and sign are gains; names stay ours; the promises of row models hold."""
    trees = fit_lambdamart(drawn(1), FEW)
    asked = drawn(2)
    assert trees.inputs == NAMES
    assert pairs_right(asked, trees.score(asked.values)) > 0.9
    check_row_model(trees, asked.values, type(trees).restore)


def test_a_fit_is_the_same_again():
    """Equal examples, options and seed give equal trees, and another seed others where something is drawn."""
    options = msgspec.structs.replace(FEW, row_share=0.7, column_share=0.7)
    first, second = fit_lambdamart(drawn(1), options), fit_lambdamart(drawn(1), options)
    assert all((array == second.arrays()[name]).all() for name, array in first.arrays().items())
    other = fit_lambdamart(drawn(1), msgspec.structs.replace(options, seed=1))
    assert len(other.leaf_value) != len(first.leaf_value) or (other.leaf_value != first.leaf_value).any()


def test_the_later_requests_say_when_to_stop():
    """Where later requests gain nothing, no more trees are tried; they are not fitted on."""
    examples = drawn(3)
    noise = np.random.default_rng(0).permutation(examples.label)
    options = msgspec.structs.replace(FEW, trees_max=200, patience=5)
    told: list[float] = []
    few = fit_lambdamart(replace(examples, label=noise), options, Watch(lambda _, share: told.append(share)))
    assert len(few) < 60
    assert len(told) < 80
    assert told == sorted(told)
    earlier, later = examples.split(0.25)
    assert earlier.time_ms.max() < later.time_ms.min()
    changed = later.values.copy()
    changed[:, 1] *= 1.001
    again = fit_lambdamart(joined(earlier, replace(later, values=changed)), FEW)
    assert all((array == again.arrays()[name]).all() for name, array in fit_lambdamart(
        joined(earlier, later), FEW).arrays().items() if name == "threshold")  # fmt: skip


def joined(first: Examples, second: Examples) -> Examples:
    """Return the requests of both."""
    columns = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("values", "label", "time_ms", "weight", "position", "propensity")
    }
    return Examples(first.names, start=np.concatenate([first.start, first.start[-1] + second.start[1:]]), **columns)


def test_without_an_order_to_judge_by_all_trees_are_fitted():
    """Later requests in which all is worth the same say nothing about where to stop."""
    examples = drawn(4)
    flat = examples.label.copy()
    border = np.isin(np.repeat(np.arange(80), 10), np.argsort(examples.time_ms)[60:])
    flat[border] = 0.0
    assert len(fit_lambdamart(replace(examples, label=flat), FEW)) == FEW.trees_max
    none = msgspec.structs.replace(FEW, later_share=0.0)
    assert len(fit_lambdamart(examples, none)) == FEW.trees_max


def test_clicks_become_probabilities():
    """With ``binary`` scores are probabilities of a label above 0, and near what is seen."""
    options = msgspec.structs.replace(FEW, objective="binary", trees_max=40)
    trees = fit_lambdamart(drawn(5, 200), options)
    asked = drawn(6, 200)
    score = trees.score(asked.values)
    assert ((score > 0) & (score < 1)).all()
    assert score.mean() == pytest.approx((asked.label > 0).mean(), abs=0.05)
    assert score[asked.label > 0].mean() > score[asked.label <= 0].mean() + 0.4


def shown_by_place(seed: int) -> tuple[Examples, np.ndarray]:
    """Return requests that were ordered by the first column and clicked by worth, the upper half far more often."""
    dice = np.random.default_rng(seed)
    requests, size = 600, 8
    values = dice.normal(size=(requests, size, 3)).astype(np.float32)
    order = np.argsort(-values[:, :, 0], axis=1)
    values = np.take_along_axis(values, order[:, :, None], axis=1)
    worth = values[:, :, 1]
    looked_at = np.array([1.0, 0.7, 0.4, 0.25, 0.15, 0.1, 0.07, 0.05])
    clicked = dice.random((requests, size)) < looked_at / (1 + np.exp(-3 * (worth - 0.5)))
    rows = requests * size
    propensity = np.tile(looked_at, requests).astype(np.float32)
    place = np.tile(np.arange(size), requests).astype(np.int32)
    start = np.arange(0, rows + 1, size, dtype=np.int64)
    examples = Examples(NAMES, values.reshape(rows, 3), start, clicked.reshape(rows).astype(np.float32),
                        np.arange(requests), np.ones(rows, np.float32), place, propensity)  # fmt: skip
    return examples, worth.reshape(rows)


def drawn_candidates(requests: int = 60) -> Examples:
    """Return a label beside 9 candidates in each request; in every second one each of the 9 stands for five.

    The one column says which of the two a request is.
    """
    label = np.tile(np.eye(1, 10)[0], requests).astype(np.float32)
    is_drawn = np.repeat(np.arange(requests) % 2, 10)
    weight = np.where((label == 0) & (is_drawn == 1), 5.0, 1.0).astype(np.float32)
    values = is_drawn.astype(np.float32)[:, None]
    return replace(drawn(1, requests), names=("is_drawn",), values=values, label=label, weight=weight)


def test_what_is_the_same_for_all_rows_of_a_request_says_nothing_of_their_order():
    """However many candidates each drawn one stands for: the two rows of a pair are pushed by the same amount."""
    rows = drawn_candidates()
    np.testing.assert_allclose(fit_lambdamart(rows, FEW).score(rows.values), 0.0, atol=1e-6)
    # With yes and no each row is learned alone, so there the weights of the rows are right.
    binary = fit_lambdamart(rows, msgspec.structs.replace(FEW, objective="binary", later_share=0.0))
    few, many = binary.score(np.array([[0.0], [1.0]], dtype=np.float32)).tolist()
    assert (few, many) == pytest.approx((1 / 10, 1 / 46), rel=0.5)


@given(st.integers(0, 2**16))
def test_a_pair_stands_for_as_many_as_its_rows_together(seed):
    """All rows of a request weigh the mean over its pairs of different labels; 1 where there is none. What weighs 0 is
    not counted.
    """
    dice = np.random.default_rng(seed)
    rows = drawn(seed, requests=4, size=5)
    label, weight = dice.integers(0, 3, 20).astype(np.float32), dice.choice([0.0, 0.5, 1.0, 4.0], 20).astype(np.float32)
    found = lambdamart._pair_weights(replace(rows, label=label, weight=weight)).reshape(4, 5)
    for number in range(4):
        own, worth = weight[number * 5 :][:5], label[number * 5 :][:5]
        pairs = [own[i] * own[j] for i in range(5) for j in range(5) if worth[i] != worth[j] and own[i] * own[j]]
        np.testing.assert_allclose(found[number], np.mean(pairs) if pairs else 1.0, rtol=1e-5)


def test_rows_that_weigh_nothing_take_nothing_from_a_request():
    """Neither from one that has none of them but is beside it."""
    rows = drawn(1, requests=2, size=4)
    label = np.array([1, 0, 0, 0, 1, 0, 0, 0], dtype=np.float32)
    weight = np.array([1, 1, 0, 0, 1, 1, 1, 1], dtype=np.float32)
    assert lambdamart._pair_weights(replace(rows, label=label, weight=weight)).tolist() == [1.0] * 8


def test_the_place_something_was_shown_at_is_not_its_worth():
    """Who clicks what stands high teaches that it is good: by position or propensity, worth is ranked better."""
    examples, _ = shown_by_place(7)
    dice = np.random.default_rng(8)
    asked = dice.normal(size=(3_000, 3)).astype(np.float32)
    agree = {}
    for debias in ("none", "position", "propensity"):
        options = msgspec.structs.replace(FEW, debias=debias, trees_max=60)
        score = fit_lambdamart(examples, options).score(asked)
        agree[debias] = np.corrcoef(score, asked[:, 1])[0, 1] - abs(np.corrcoef(score, asked[:, 0])[0, 1])
    assert agree["position"] > agree["none"] + 0.1
    assert agree["propensity"] > agree["none"] + 0.1


def test_what_does_not_go_together_is_refused():
    """Positions with ``binary``, labels without end, a watch that says stop, LightGBM that is not there."""
    with pytest.raises(ConfigInvalid, match="position"):
        fit_lambdamart(drawn(1), LambdaMartOptions(objective="binary", debias="position"))
    endless = replace(drawn(1, 150), label=np.arange(1_500, dtype=np.float32))
    with pytest.raises(ConfigInvalid, match="1,500 distinct"):
        fit_lambdamart(endless, FEW)
    with pytest.raises(FitStopped):
        fit_lambdamart(drawn(1), FEW, Watch(stopped=lambda: True))


@pytest.mark.parametrize("objective", ["lambdarank", "binary"])
@pytest.mark.parametrize("case", ["constant features", "all labels 0", "few rows"])
def test_what_teaches_nothing_is_named(objective, case):
    """A score that is the same for all orders nothing: it is an error that says so, and no version."""
    examples = drawn(9)
    if case == "constant features":
        examples = replace(examples, values=np.zeros_like(examples.values))
    elif case == "all labels 0":
        examples = replace(examples, label=np.zeros_like(examples.label))
    else:
        examples = drawn(9, requests=3)
    options = LambdaMartOptions(objective=objective, trees_max=5)
    with pytest.raises(Invalid, match="Nothing was learned"):
        fit_lambdamart(examples, options)


def test_want_of_memory_in_the_library_is_want_of_memory(monkeypatch):
    """So that the limit is named, and not features and options, which had nothing to do with it."""
    library = pytest.importorskip("lightgbm", reason='needs the extra "train": pip install "midstream[train]"')

    def train(*_: object, **__: object) -> None:
        raise library.basic.LightGBMError("std::bad_alloc")

    monkeypatch.setattr(library, "train", train)
    with pytest.raises(MemoryError):
        fit_lambdamart(drawn(9), LambdaMartOptions(trees_max=5))


def test_what_the_library_refuses_is_named():
    """Its reason is told."""
    with pytest.raises(Invalid, match="LightGBM refused"):
        fit_lambdamart(drawn(1), msgspec.structs.replace(FEW, learning_rate=float("nan")))


def test_without_the_library_the_extra_is_named(monkeypatch):
    """Who serves needs no LightGBM; who fits is told what brings it."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[train\]"):
        fit_lambdamart(drawn(1), FEW)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20), st.floats(0, 1))
def test_examples_are_divided_by_time(times, share):
    """No request of the earlier part is as late as one of the later; together they are all, each row with its own."""
    sizes = [1 + number % 3 for number in range(len(times))]
    rows = sum(sizes)
    values = np.arange(rows, dtype=np.float32)[:, None]
    plain = Examples.of_rows(("a",), values, values[:, 0])
    examples = replace(plain, start=np.cumsum([0, *sizes]), time_ms=np.array(times, dtype=np.int64))
    earlier, later = examples.split(share)
    assert sorted([*earlier.label, *later.label]) == list(range(rows))
    assert len(later.time_ms) >= round(share * len(times))
    if len(earlier) and len(later):
        assert earlier.time_ms.max() < later.time_ms.min()
    for part in (earlier, later):
        for number in range(len(part.time_ms)):
            own = part.label[part.start[number] : part.start[number + 1]]
            before = int(np.searchsorted(examples.start, own[0], side="right")) - 1
            assert own.tolist() == list(range(examples.start[before], examples.start[before + 1]))
            assert part.time_ms[number] == examples.time_ms[before]


@pytest.mark.parametrize(
    "change, named",
    [
        ({"label": np.zeros(3, np.float32)}, "label"),
        ({"values": np.zeros((800, 2), np.float32)}, "values"),
        ({"time_ms": np.zeros(3, np.int64)}, "time_ms"),
        ({"names": ("a", "a", "b")}, "one name"),
        ({"start": np.arange(0, 791, 10) * 800 // 790}, "time_ms|requests"),
        ({"start": np.array([0] + [800] * 80)}, "requests"),
        ({"label": np.full(800, np.nan, np.float32)}, "no number"),
        ({"weight": np.full(800, -1, np.float32)}, "below 0"),
        ({"propensity": np.zeros(800, np.float32)}, "propensity"),
    ],
)
def test_examples_that_do_not_go_together_are_refused(change, named):
    """A column that is short, requests that do not divide the rows, numbers that mean nothing."""
    with pytest.raises(ShapeMismatch, match=named):
        replace(drawn(1), **change)
