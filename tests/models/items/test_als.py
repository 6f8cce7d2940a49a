"""Implicit ALS: kernels are equal to their twins, a history is solved to the end, and a fit is the same again."""

import math
import time
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid, FitStopped, ShapeMismatch
from midstream.models.histories import Histories, Interactions
from midstream.models.items import als
from midstream.models.items.als import AlsModel, AlsOptions, fit_als
from midstream.models.items.als_kernels import LOG, ONE, SUM, confidences, fold_in, improve
from midstream.models.kernels.simd_dot import LANES
from midstream.models.kernels.top_n import FactorModel
from midstream.models.model import Watch
from midstream.models.vocabulary import ItemVocabulary
from midstream.testing.model_conformance import check_item_model

ONE32 = np.float32(1)


def interactions(histories, item_count):
    """Histories over so many items."""
    ids = [f"i{number}" for number in range(item_count)]
    return Interactions(ItemVocabulary.of(ids), histories)


def drawn(seed, users=60, item_count=30, most=12):
    """Histories of two tastes, the items below half and those above, with repeats and weights, the first one empty."""
    dice = np.random.default_rng(seed)
    half = item_count // 2
    rows = [half * (number % 2) + dice.integers(0, half, dice.integers(1, most)) for number in range(1, users)]
    found = Histories.of([[], *rows])
    weight = dice.choice(np.array([1, 3, 8], dtype=np.float32), len(found.row))
    return interactions(Histories(found.row, weight, found.start), item_count)


def dot_of(one, two):
    """The twin of ``lanes.dot``."""
    sums = np.zeros(LANES, dtype=np.float32)
    for begin in range(0, len(one), LANES):
        sums = sums + one[begin : begin + LANES] * two[begin : begin + LANES]
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return sums[0]


def improved(own, items, weight, common, ridge, steps):
    """The twin of ``improve`` for one row with items (m, d)."""
    own, diagonal = own.copy(), common + ridge
    inverse, left = ONE32 / diagonal, -diagonal * own
    for item, each in zip(items, weight, strict=True):
        left = left + each * (ONE32 - dot_of(item, own)) * item
    direction = left * inverse
    size = dot_of(left, direction)
    for _ in range(steps):
        given_ = diagonal * direction
        for item, each in zip(items, weight, strict=True):
            given_ = given_ + each * dot_of(item, direction) * item
        curved = dot_of(direction, given_)
        if not curved > 0:
            break
        length = size / curved
        own = own + length * direction
        left = left + -length * given_
        conditioned = left * inverse
        after = dot_of(left, conditioned)
        direction = conditioned + after / size * direction
        size = after
    return own


def eliminated(matrix, right):
    """The twin of ``solve``."""
    matrix, right, size = matrix.copy(), right.copy(), len(right)
    for pivot in range(size):
        for row in range(pivot + 1, size):
            share = matrix[pivot, row] / matrix[pivot, pivot]
            matrix[row, row:] -= share * matrix[pivot, row:]
            right[row] -= share * right[pivot]
    for row in reversed(range(size)):
        total = right[row]
        for column in range(row + 1, size):
            total -= matrix[row, column] * right[column]
        right[row] = total / matrix[row, row]
    return right


def folded(items, weight, common, ridge):
    """The twin of ``fold_in`` for one history with items (m, d)."""
    count, width = items.shape
    items, weight = items.astype(np.float64), weight.astype(np.float64)
    diagonal = common + ridge[0] * (float(count) + ridge[1]) ** ridge[2]
    if count <= width:
        matrix = np.diag(1.0 / weight)
        for factor in range(width):
            matrix += np.outer(items[:, factor] / diagonal[factor], items[:, factor])
        said = eliminated(matrix, np.ones(count))
        total = np.zeros(width)
        for place in range(count):
            total += items[place] * said[place]
        return (total / diagonal).astype(np.float32)
    matrix, right = np.diag(diagonal), np.zeros(width)
    for item, each in zip(items, weight, strict=True):
        right += each * item
        matrix += np.outer(each * item, item)
    return eliminated(matrix, right).astype(np.float32)


@st.composite
def problems(draw, *, widths):
    """Rows of confidences over columns with factors."""
    width, rows, columns = draw(widths), draw(st.integers(1, 5)), draw(st.integers(1, 40))
    dice = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chosen = [np.sort(dice.choice(columns, dice.integers(0, columns + 1), replace=False)) for _ in range(rows)]
    start = np.concatenate([[0], np.cumsum([len(each) for each in chosen])]).astype(np.int64)
    return {
        "start": start,
        "column": np.concatenate(chosen).astype(np.int32),
        "weight": dice.choice(np.array([0.5, 1.0, 3.0], dtype=np.float32), int(start[-1])),
        "own": dice.standard_normal((rows, width)).astype(np.float32),
        "other": dice.standard_normal((columns, width)).astype(np.float32),
        "common": dice.random(width).astype(np.float32),
        "ridge": (dice.random(rows) + 0.01).astype(np.float32),
    }


@given(problems(widths=st.sampled_from([16, 32, 48])), st.integers(1, 4), st.data())
def test_half_an_epoch_is_that_of_the_twin(problem, steps, data):
    """The rows asked for are those of plain NumPy, to the bit; the others stay; a row without columns becomes 0."""
    begin = data.draw(st.integers(0, len(problem["own"])))
    end = data.draw(st.integers(begin, len(problem["own"])))
    own = problem["own"].copy()
    arrays = [problem[name] for name in ("other", "start", "column", "weight", "common", "ridge")]
    other, start, column, weight, common, ridge = arrays
    improve(own, other, start, column, weight, common, ridge, begin, end, steps)
    for row in range(len(own)):
        part = slice(problem["start"][row], problem["start"][row + 1])
        before, items = problem["own"][row], problem["other"][problem["column"][part]]
        expected = before
        if begin <= row < end:
            expected = improved(before, items, problem["weight"][part], problem["common"], problem["ridge"][row], steps)
            expected = expected if len(items) else np.zeros_like(before)
        assert own[row].tolist() == expected.tolist()


@given(problems(widths=st.integers(1, 20)), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_history_is_solved_as_the_twin_does_and_as_the_whole_equations_say(problem, exponent):
    """Shorter or longer than the factors are many: to the bit the twin's, and what a dense solver makes of it."""
    ridge = (0.1, 3.0, exponent)
    common = problem["common"].astype(np.float64)
    found = np.empty_like(problem["own"])
    fold_in(problem["start"], problem["column"], problem["weight"], problem["other"], common, ridge, found)
    for row in range(len(found)):
        part = slice(problem["start"][row], problem["start"][row + 1])
        items, weight = problem["other"][problem["column"][part]], problem["weight"][part]
        if not len(items):
            assert not found[row].any()
            continue
        assert found[row].tolist() == folded(items, weight, common, ridge).tolist()
        wide = items.astype(np.float64)
        whole = np.diag(common + 0.1 * (len(items) + 3.0) ** exponent) + (wide.T * weight) @ wide
        assert np.allclose(found[row], np.linalg.solve(whole, wide.T @ weight), rtol=1e-4, atol=1e-5)


@given(st.lists(st.floats(0.0078125, 1e6, width=32), max_size=9))
def test_confidences_are_as_chosen(weights):
    """The weight, log2(1 + weight), which is 1 for 1, or 1."""
    array = np.array(weights, dtype=np.float32)
    assert confidences(array, SUM).tolist() == weights
    assert confidences(array, LOG).tolist() == [float(np.float32(math.log2(1 + each))) for each in weights]
    assert confidences(array, ONE).tolist() == [1.0] * len(weights)


@pytest.mark.parametrize("factors", [1, 5, 16, 40])
@pytest.mark.parametrize("confidence", ["sum", "log", "one"])
def test_it_is_an_item_model(factors, confidence):
    """All that item models promise, of histories shorter and longer than the factors are many."""
    data = drawn(3)
    model = fit_als(data, AlsOptions(factors=factors, confidence=confidence, iterations=2))
    assert isinstance(model, FactorModel)
    check_item_model(model, data.histories.part(0, 12), lambda arrays: AlsModel.restore(data.vocabulary, arrays))


def test_what_was_fitted_has_a_diagonal_gram_matrix():
    """Columns at right angles, the largest first: a request counts on it."""
    model = fit_als(drawn(4), AlsOptions(factors=8, iterations=3))
    gram = model.item_factors.T.astype(np.float64) @ model.item_factors
    assert np.allclose(gram, np.diag(model.gram), atol=1e-5 * model.gram[0])
    assert (np.diff(model.gram) <= 0).all()


def loss_of(model, data, options):
    """What the fit makes small, with users solved for."""
    matrix = data.histories.matrix(len(data.vocabulary)).toarray()
    confidence = np.log2(1 + matrix)
    users, items = model.history_vectors(data.histories).astype(np.float64), model.item_factors.astype(np.float64)
    scores, weight = users @ items.T, options.unobserved_weight
    done = matrix > 0
    ridge = [
        options.regularization * (done.sum(1 - side) + weight * done.shape[1 - side]) ** options.regularization_exponent
        for side in (0, 1)
    ]
    sizes = ridge[0] @ (users**2).sum(1) + ridge[1] @ (items**2).sum(1)
    return (confidence * (scores - 1) ** 2 * done).sum() + weight * (scores**2).sum() + sizes


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.01, 0.3]))
def test_each_epoch_lowers_the_loss(seed, exponent, unobserved):
    """The formula of the module, computed over all pairs, never rises from one epoch to the next."""
    data = drawn(seed, users=25, item_count=16)
    base = AlsOptions(factors=4, unobserved_weight=unobserved, regularization_exponent=exponent, regularization=0.01)
    found = []
    for iterations in (1, 2, 3, 6, 12):
        options = msgspec.structs.replace(base, iterations=iterations)
        found.append(loss_of(fit_als(data, options), data, options))
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(found))
    assert found[-1] < found[0]


@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0])
def test_at_the_end_items_solve_their_equations(exponent):
    """With users solved for, the items are what the formula of the module says, each with its regularization."""
    data = drawn(13, users=40, item_count=12)
    options = AlsOptions(factors=3, iterations=300, regularization_exponent=exponent, regularization=0.05)
    model = fit_als(data, options)
    users, weight = model.history_vectors(data.histories).astype(np.float64), options.unobserved_weight
    matrix = data.histories.matrix(12).toarray()
    for item in range(12):
        acted = users[matrix[:, item] > 0]
        confidence = np.log2(1 + matrix[matrix[:, item] > 0, item])
        ridge = options.regularization * (len(acted) + weight * len(users)) ** exponent
        whole = weight * users.T @ users + (acted.T * confidence) @ acted + ridge * np.eye(3)
        expected = np.linalg.solve(whole, acted.T @ confidence)
        assert np.allclose(model.item_factors[item], expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_two_tastes_are_told_apart():
    """One act is enough: the best of the others are of the same half."""
    model = fit_als(drawn(6, users=200), AlsOptions(factors=2, iterations=8))
    for item in range(30):
        rows, _ = model.best(Histories.of([[item]]), 15)
        assert set((rows // 15).tolist()) == {item // 15}


def test_the_newest_act_changes_the_answer_and_weight_counts():
    """Whoever asks is solved for at that moment; acts that weigh more say more."""
    model = fit_als(drawn(7), AlsOptions(factors=4, iterations=8, confidence="sum"))
    assert model.best(Histories.of([[1]]), 1)[0][0] < 15 <= model.best(Histories.of([[1, 20, 21, 22]]), 1)[0][0]
    start = np.array([0, 2, 4])
    weighed = Histories(np.array([1, 20, 1, 20], np.int32), np.array([9, 1, 1, 9], np.float32), start)
    first, second = model.scores(weighed)
    assert first[1] > second[1]
    assert second[20] > first[20]


def test_an_empty_history_proposes_nothing_and_scores_0():
    """Nothing is known of whoever did nothing."""
    model = fit_als(drawn(8), AlsOptions(factors=4, iterations=1))
    assert not model.scores(Histories.of([[]])).any()
    assert model.best(Histories.of([[]]), 5)[0].tolist() == []


def test_the_same_seed_gives_the_same_bits_whatever_the_threads():
    """And another seed gives others."""
    data = drawn(9, users=200)
    options = AlsOptions(factors=20, iterations=3, seed=4, threads=1)
    first = fit_als(data, options)
    for threads in (1, 2, 5):
        again = fit_als(data, msgspec.structs.replace(options, threads=threads))
        assert (again.item_factors == first.item_factors).all()
        assert (again.gram == first.gram).all()
    other = fit_als(data, msgspec.structs.replace(options, seed=5))
    assert (other.item_factors != first.item_factors).any()


def test_a_fit_tells_how_far_it_is_and_stops_between_blocks():
    """Shares rise to 1; the wish to stop is heard within an epoch, and nothing is left running."""
    data, told = drawn(10), []
    fit_als(data, AlsOptions(factors=4, iterations=2), Watch(lambda text, share: told.append((text, share))))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {text for text, _ in told} >= {"users of epoch 1 of 2", "items of epoch 2 of 2"}
    asked: list[int] = []

    def stopped():
        asked.append(len(asked))
        return len(asked) > 3

    with pytest.raises(FitStopped, match="users of epoch 1 of 500"):
        fit_als(data, AlsOptions(factors=4, iterations=500), Watch(stopped=stopped))
    assert len(asked) == 4


def test_blocks_not_begun_are_left_after_a_wish_to_stop(monkeypatch):
    """Of 16 blocks that take their time, those behind the one that was told of do not run."""
    begun: list[float] = []

    def slow(*_):
        begun.append(0.0)
        time.sleep(0.05)

    monkeypatch.setattr(als, "improve", slow)
    with pytest.raises(FitStopped):
        fit_als(drawn(12), AlsOptions(factors=4, threads=1), Watch(stopped=lambda: True))
    assert len(begun) < 16


def test_options_have_bounds():
    """What cannot be fitted is refused where it is read."""
    for wrong in ({"factors": 0}, {"regularization": 0}, {"unobserved_weight": 0}, {"confidence": "x"}, {"alpha": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, AlsOptions)


def test_what_is_no_model_is_refused():
    """Parts that lack, of another shape, type or content."""
    data = drawn(11)
    arrays = dict(fit_als(data, AlsOptions(factors=4, iterations=1)).arrays())
    factors = arrays["als.item_factors"]
    hole = factors.copy()
    hole[2, 1] = np.nan
    wrong = {
        "als.item_factors": [factors[:-1], factors[:, :-1], factors.astype(np.float64), hole],
        "als.gram": [arrays["als.gram"][:-1], np.full(4, -1.0), arrays["als.gram"].astype(np.float32)],
        "als.item_weights": [arrays["als.item_weights"][1:], np.zeros(len(factors), np.float32)],
        "als.options": [np.zeros(3, np.uint8), arrays["als.options"][:-1]],
    }
    for name, each in wrong.items():
        for array in each:
            with pytest.raises(ArtifactInvalid):
                AlsModel.restore(data.vocabulary, {**arrays, name: array})
        with pytest.raises(ArtifactInvalid, match=name):
            AlsModel.restore(data.vocabulary, {other: arrays[other] for other in arrays if other != name})


@given(st.integers(0, 2**20), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=8)
def test_acts_on_what_is_popular_count_less(seed, power):
    """By a power of how many acted on an item, 1 on average; a user is solved for with the same weights."""
    data = drawn(seed)
    options = AlsOptions(factors=4, iterations=2, item_power=power)
    model = fit_als(data, options)
    matrix = data.histories.matrix(len(data.vocabulary))
    often = np.maximum(np.asarray((matrix > 0).sum(axis=0), dtype=np.float64).ravel(), 1.0)
    found = often**-power
    wanted = found / found[matrix.indices].mean()
    assert np.allclose(model.item_weights, wanted, rtol=1e-6)
    assert np.isclose(model.item_weights[matrix.indices].mean(), 1.0, atol=1e-5)
    vectors = model.history_vectors(data.histories)
    for number in range(len(data.histories)):
        own = matrix[number]
        items = model.item_factors[own.indices].astype(np.float64)
        weight = np.log2(1.0 + own.data) * wanted[own.indices]
        count = len(own.indices) + options.unobserved_weight * len(data.vocabulary)
        common = np.diag(options.unobserved_weight * model.gram + options.regularization * count)
        right = np.linalg.solve(common + items.T @ (weight[:, None] * items), items.T @ weight)
        assert np.allclose(vectors[number], right if len(own.indices) else 0.0, rtol=1e-3, atol=1e-4)


def test_a_fit_that_goes_on_is_ahead_of_one_that_begins():
    """Begun with yesterday's items, wherever they stand now, it is nearer to the end; the same twice."""
    data = drawn(21, users=80)
    options = AlsOptions(factors=6, unobserved_weight=0.1)
    yesterday = fit_als(data, options)
    turned = np.roll(np.arange(30), 7)
    other = ItemVocabulary.of([f"i{each}" for each in turned] + ["new"])
    place = np.argsort(turned).astype(np.int32)
    histories = data.histories
    today = Interactions(other, Histories(place[histories.row], histories.weight, histories.start))
    once = msgspec.structs.replace(options, iterations=1)
    on, again = (fit_als(today, once, begin=yesterday) for _ in range(2))
    assert (on.item_factors == again.item_factors).all()
    assert loss_of(on, today, once) < loss_of(fit_als(today, once), today, once)
    assert loss_of(on, today, once) < 1.01 * loss_of(yesterday, data, options)
    with pytest.raises(ShapeMismatch, match="6 factors"):
        fit_als(today, AlsOptions(factors=5), begin=yesterday)
