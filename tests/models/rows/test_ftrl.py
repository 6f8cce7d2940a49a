"""The linear model learns as its paper's algorithm says, row by row, and what it foresaw is judged before it learns."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid, FitStopped, ShapeMismatch
from midstream.models.artifact.artifact import Draft, read_artifact, write_artifact
from midstream.models.artifact.golden import row_content
from midstream.models.loading import load
from midstream.models.model import Watch, is_row_model
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import POSITIONS, Ftrl, FtrlOptions, click_figures, fit_ftrl
from midstream.testing.model_conformance import check_row_model

NAMES = ("a", "b", "c")
Sums = dict[object, float]


def drawn(seed: int, rows: int = 60, share: float = 0.4) -> Examples:
    """Return examples whose clicks hang on what a is, and on whether b is known."""
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(rows, 3)).astype(np.float32).round(1)
    values[dice.random(values.shape) < 0.2] = np.nan
    values[dice.random(values.shape) < 0.02] = np.inf
    values[:, 2] = 4.0  # always the same
    leaning = 2 * np.nan_to_num(values[:, 0], posinf=3) - 2 * np.isnan(values[:, 1])
    label = (dice.random(rows) < share / (share + (1 - share) * np.exp(-leaning))).astype(np.float32)
    return Examples(
        NAMES,
        values,
        np.arange(rows + 1, dtype=np.int64),
        label,
        np.arange(rows, dtype=np.int64),
        dice.choice([0.5, 1.0, 2.0], rows).astype(np.float32),
        dice.integers(-1, POSITIONS + 9, rows).astype(np.int32),
        dice.choice([np.nan, 0.05, 0.5, 1.0], rows).astype(np.float32),
    )


def parts_of(model: Ftrl, row: np.ndarray, position: int) -> list[tuple[object, float]]:
    """Return the parts of a row and how much of each, by name."""
    found: list[tuple[object, float]] = [("bias", 1.0)]
    for column, value in enumerate(row.tolist()):
        if math.isnan(value):
            found.append(((column, "unknown"), 1.0))
            continue
        found.append(((column, "bin", sum(value > edge for edge in model.edges[column].tolist())), 1.0))
        if model.scale[column] > 0:
            standard = (value - model.mean[column]) * model.scale[column]
            found.append(((column, "value"), min(max(standard, -5.0), 5.0)))
    if model.options.debias == "position" and position >= 0:
        found.append((("position", min(position, POSITIONS - 1)), 1.0))
    return [each for each in found if each[1] != 0.0]


def weight_of(part: object, z: Sums, n: Sums, options: FtrlOptions) -> float:
    """Return the weight of a part: the paper's closed form."""
    if abs(z.get(part, 0.0)) <= options.l1:
        return 0.0
    rate = (options.beta + math.sqrt(n.get(part, 0.0))) / options.alpha + options.l2
    return -(z[part] - math.copysign(options.l1, z[part])) / rate


def plain(model: Ftrl, examples: Examples) -> tuple[list[float], Sums, Sums]:
    """Return probabilities before each row, z and n by name: the paper's algorithm 1 in plain Python."""
    z: Sums = {}
    n: Sums = {}
    options = model.options
    foreseen = []
    for number, row in enumerate(examples.values):
        parts = parts_of(model, row, int(examples.position[number]))
        weights = [weight_of(part, z, n, options) for part, _ in parts]
        total = 0.0
        for weight, (_, much) in zip(weights, parts, strict=True):
            total += weight * much
        p = 1.0 / (1.0 + math.exp(-total))
        foreseen.append(p)
        counts = float(examples.weight[number])
        if options.debias == "propensity" and not np.isnan(examples.propensity[number]):
            counts = float(np.float32(counts * min(1 / examples.propensity[number], np.float32(options.weight_max))))
        for weight, (part, much) in zip(weights, parts, strict=True):
            gradient = (p - float(examples.label[number] > 0)) * much * counts
            before = n.get(part, 0.0)
            moved = (math.sqrt(before + gradient * gradient) - math.sqrt(before)) / options.alpha
            z[part] = z.get(part, 0.0) + (gradient - moved * weight)
            n[part] = before + gradient * gradient
    return foreseen, z, n


@given(
    st.integers(0, 1_000),
    st.sampled_from([1, 2, 16]),
    st.booleans(),
    st.sampled_from(["none", "position", "propensity"]),
    st.sampled_from([0.0, 0.3, 2.0]),
)
def test_it_learns_as_the_algorithm_says(seed, bins, standardised, debias, l1):
    """Weights, and so scores, are those of the algorithm in plain Python, exactly; the log loss is of unseen rows."""
    examples = drawn(seed)
    options = FtrlOptions(alpha=0.3, l1=l1, bins=bins, is_standardised=standardised, debias=debias)
    model = fit_ftrl(examples, options)
    foreseen, z, n = plain(model, examples)
    learned = [part for part, value in n.items() if value > 0]
    np.testing.assert_array_equal(sorted(model.n[model.n > 0]), sorted(n[part] for part in learned))
    # What the last feature, always the same, shares with the bias is the bias's.
    varying = slice(0, 2 * (bins + 2))
    weights = sorted(
        weight_of(part, z, n, options) for part in learned if isinstance(part, tuple) and part[0] in {0, 1}
    )
    np.testing.assert_allclose(sorted(model.weights[varying][model.n[varying] > 0]), weights, rtol=1e-12)
    expected = []
    for row in examples.values:
        total = sum(weight_of(part, z, n, options) * much for part, much in parts_of(model, row, -1))
        expected.append(np.float32(1.0 / (1.0 + math.exp(-total))))
    np.testing.assert_allclose(model.score(examples.values), np.array(expected), rtol=1e-6)
    counts = examples.by_propensity(options.weight_max) if debias == "propensity" else examples.weight
    loss = [-math.log(p if label > 0 else 1 - p) for p, label in zip(foreseen, examples.label, strict=True)]
    assert model.figures.log_loss == pytest.approx(float(np.average(loss, weights=counts.astype(float))), rel=1e-9)


@given(st.integers(0, 1_000), st.integers(0, 60), st.sampled_from(["none", "position", "propensity"]))
def test_some_rows_and_then_others_are_all_rows(seed, border, debias):
    """Learning goes on where it stopped, to the bit; the model before stays as it was."""
    first, rest = drawn(seed + 1), drawn(seed)
    options = FtrlOptions(alpha=0.3, l1=0.1, debias=debias)
    begun = fit_ftrl(first, options)
    kept = {name: array.copy() for name, array in begun.arrays().items()}
    rows = np.arange(len(rest))
    whole = begun.learn(rest)
    parts = begun.learn(rest.take(rows[:border])).learn(rest.take(rows[border:]))
    assert (whole.z == parts.z).all()
    assert (whole.n == parts.n).all()
    assert all((kept[name] == array).all() for name, array in begun.arrays().items())
    assert whole.figures.rows == len(rest)


def test_rows_are_learned_in_steps(monkeypatch):
    """Many rows are learned some at a time, so that a fit can be stopped; how many changes nothing."""
    model, examples = fit_ftrl(drawn(1)), drawn(2)
    whole = model.learn(examples)
    monkeypatch.setattr("midstream.models.rows.ftrl._STEP_ROWS", 7)
    told: list[float] = []
    parts = model.learn(examples, Watch(lambda _, share: told.append(share)))
    assert len(told) == 9
    assert (whole.z == parts.z).all()
    assert whole.figures == parts.figures


def test_what_is_published_is_loaded(tmp_path):
    """Written as an artifact and read with its golden rows; names in another order are refused."""
    examples = drawn(3)
    model = fit_ftrl(examples)
    content = row_content(model, examples.values[np.isfinite(examples.values).all(axis=1)])
    draft = Draft(name="clicks", kind="ftrl", inputs=NAMES)
    found = load(read_artifact(tmp_path / write_artifact(tmp_path, draft, content)))
    assert isinstance(found, Ftrl)
    assert (found.score(examples.values) == model.score(examples.values)).all()
    swapped = msgspec.structs.replace(draft, inputs=("b", "a", "c"))
    with pytest.raises(ArtifactInvalid, match="inputs"):
        load(read_artifact(tmp_path / write_artifact(tmp_path, swapped, content)))


@pytest.mark.parametrize("debias", ["none", "position"])
def test_promises_of_row_models(debias):
    """A row alone as among others, what is read again the same, nothing changed by asking."""
    examples = drawn(5, 400)
    model = fit_ftrl(examples, FtrlOptions(debias=debias, passes=2))
    assert is_row_model(model)
    check_row_model(model, examples.values, Ftrl.restore)
    assert Ftrl.restore(model.arrays()).options == model.options


def test_it_foresees_clicks():
    """After some thousand rows it is calibrated and better than the share of clicks; a wild value moves nothing."""
    later = drawn(12, 4_000)
    model = fit_ftrl(drawn(11, 4_000), FtrlOptions(alpha=0.2))
    figures = click_figures(model.score(later.values), later.label, np.ones(len(later)))
    share = np.full(len(later), later.label.mean())
    base = click_figures(share, later.label, np.ones(len(later)))
    assert base.calibration == pytest.approx(1.0)
    assert figures.log_loss < base.log_loss - 0.1
    assert 0.9 < figures.calibration < 1.1
    row = np.array([[0.5, np.nan, 4.0], [3e38, np.nan, 4.0]], dtype=np.float32)
    assert model.score(row)[1] < 1.0


def test_what_came_by_position_is_left_out():
    """Clicks that come of the place alone are the place's: the feature that went with the place gets little of them."""
    dice = np.random.default_rng(3)
    count = 20_000
    place = dice.integers(0, 4, count)
    values = (place * 1.0 + dice.normal(size=count)).astype(np.float32)[:, None]
    label = (dice.random(count) < 0.5 / (1 + place)).astype(np.float32)
    rows = Examples.of_rows(("a",), values, label)
    shown = Examples(rows.names, values, rows.start, label, rows.time_ms, rows.weight, place.astype(np.int32),
                     rows.propensity)  # fmt: skip
    asked = np.array([[-2.0], [4.0]], dtype=np.float32)
    spread = {}
    for debias in ("none", "position"):
        low, high = fit_ftrl(shown, FtrlOptions(alpha=0.1, debias=debias)).score(asked)
        spread[debias] = abs(math.log(low / (1 - low)) - math.log(high / (1 - high)))
    assert spread["position"] < 0.3 * spread["none"]


def test_figures_of_nothing_are_unknown():
    """No rows give NaN, no clicks an infinite calibration, certainty that was wrong a finite loss."""
    nothing = click_figures(np.empty(0), np.empty(0), np.empty(0))
    assert nothing.rows == 0
    assert math.isnan(nothing.log_loss)
    assert math.isnan(nothing.calibration)
    assert click_figures(np.array([0.5]), np.zeros(1), np.ones(1)).calibration == math.inf
    assert 30 < click_figures(np.array([1.0]), np.zeros(1), np.ones(1)).log_loss < 40


def test_what_does_not_fit_is_refused():
    """Other features; arrays that are no model; a watch that says stop."""
    model = fit_ftrl(drawn(1))
    with pytest.raises(ShapeMismatch, match="'x'"):
        model.learn(Examples.of_rows(("x",), np.zeros((2, 1), np.float32), np.zeros(2, np.float32)))
    arrays = dict(model.arrays())
    for name in arrays:
        with pytest.raises(ArtifactInvalid, match=name):
            Ftrl.restore({each: array for each, array in arrays.items() if each != name})
    for name, wrong in {
        "options": np.frombuffer(b'{"alpha": -1}', np.uint8),
        "z": arrays["z"][1:],
        "n": -1 - arrays["n"],
        "mean": np.full(3, np.nan),
        "edges": np.full_like(arrays["edges"], np.nan),
        "inputs": np.frombuffer(b"a\na\nb", np.uint8),
    }.items():
        with pytest.raises(ArtifactInvalid):
            Ftrl.restore({**arrays, name: wrong})
    with pytest.raises(FitStopped):
        fit_ftrl(drawn(1), watch=Watch(stopped=lambda: True))
