"""Programs of columns: the kernel gives what plain NumPy gives, and equal parts are computed once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.expressions.program import NOW, Cell, Expression, Input, Op, column, compile_columns, evaluate
from midstream.state.expressions.program_kernel import compute, narrow, steps_of

CELLS = [Cell("item", ("view",)), Cell("user", ("view",), half_life_ms=1_000), Cell("global", ("impression",))]
LEAVES: list[Cell | Input | float] = [*CELLS, Input("hour"), Input("price"), 0.0, 1.0, -2.5, 1e300, float("nan")]
TWO = [Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.DIVIDE, Op.LESS, Op.EQUAL, Op.MIN, Op.MAX, Op.IF_NAN]
NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, 1e-300, 1e300, float("inf"), float("nan")]) | st.floats(-1e6, 1e6)


def joined(inner):
    """An operation on smaller columns."""
    both = st.builds(lambda op, left, right: Expression(op, (left, right)), st.sampled_from(TWO), inner, inner)
    return both | st.builds(lambda op, one: Expression(op, (one,)), st.sampled_from([Op.LOG, Op.SQRT]), inner)


EXPRESSIONS = st.recursive(st.sampled_from(LEAVES).map(column) | st.just(NOW), joined, max_leaves=12)


@given(st.lists(EXPRESSIONS, min_size=1, max_size=4), st.data())
def test_the_kernel_is_its_plain_twin(expressions, data):
    """To the bit, NaN where that has NaN, for any program, any values and any number of candidates."""
    program = compile_columns({f"f{number}": each for number, each in enumerate(expressions)})
    count = data.draw(st.integers(0, 5))
    values = data.draw(st.lists(NUMBERS, min_size=5 * count, max_size=5 * count))
    table = np.array(values, dtype=np.float64).reshape(5, count)
    loaded, inputs = table[: len(program.cells)], table[3 : 3 + len(program.inputs)]
    with np.errstate(all="ignore"):
        expected = evaluate(program, loaded.T, inputs.T, 1_700_000_000_000)
    found = compute(steps_of(program), np.ascontiguousarray(loaded), np.ascontiguousarray(inputs), 1_700_000_000_000)
    assert found.shape == (count, len(expressions))
    np.testing.assert_array_equal(found, expected)


def test_equal_parts_are_computed_once():
    """Whoever declared them, and each after what it needs."""
    views = column(CELLS[0])
    rate = (views + 1.0) / (column(CELLS[2]) + 1.0)
    program = compile_columns(
        {"rate": rate, "again": (column(Cell("item", ("view",))) + 1.0) / (column(CELLS[2]) + 1), "twice": rate * 2.0}
    )
    assert program.cells == (CELLS[0], CELLS[2])
    assert len(program.steps) == len(set(program.steps)) == 8
    assert program.outputs[0] == program.outputs[1]
    for place, step in enumerate(program.steps):
        assert all(program.steps.index(argument) < place for argument in step.arguments)


def test_what_is_not_known_stays_so():
    """NaN in, NaN out; a division by nothing gives NaN, and IF_NAN alone makes a number of it."""
    known = column(Input("price"))
    program = compile_columns({"rate": known / 0.0, "filled": Expression(Op.IF_NAN, (known / 0.0, column(7.0)))})
    found = compute(steps_of(program), np.empty((0, 2)), np.array([[1.0, np.nan]]), 0)
    np.testing.assert_array_equal(found, [[np.nan, 7.0], [np.nan, 7.0]])


@given(st.lists(st.floats() | st.floats(-4e38, 4e38) | st.sampled_from([3.4028235e38, 3.4028236e38, 1e39])))
def test_what_float32_cannot_hold_is_not_known(values):
    """Never infinite; the same as NumPy to the bit where that is finite."""
    found = np.zeros((1, len(values)), dtype=np.float32)
    with np.errstate(all="ignore"):
        narrow(np.array([values], dtype=np.float64), np.zeros(1, dtype=np.int64), 0, len(values), found)
        plain = np.array(values, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(found[0], np.where(np.isinf(plain), np.float32(np.nan), plain))
