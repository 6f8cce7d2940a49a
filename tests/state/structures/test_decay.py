"""Decay weights are what they should be, and exact where the fold needs them exact."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.structures.decay import (
    LANDMARK_HALF_LIVES,
    TABLE,
    decay_weight,
    decay_weights,
    landmark_at,
    power_of_two,
    rebase_factor,
)

TIMES = st.integers(1_400_000_000_000, 2_200_000_000_000)
HALF_LIVES = st.integers(1, 400 * 86_400_000)


def twin(time_ms, landmark_ms, half_life_ms):
    """Return the weight by exact fractions and ``math.ldexp``."""
    steps = math.floor(Fraction((time_ms - landmark_ms) * 4_096, half_life_ms))
    exponent, place = divmod(steps, 4_096)
    if exponent < -1_022:
        return 0.0
    return TABLE[place] * math.ldexp(1.0, min(exponent, 1_023))


def test_the_table_holds_the_powers_of_two():
    """Each entry is within 2e-15 of the true value, and they rise."""
    true = np.array([2.0 ** (j / 4_096) for j in range(4_096)])
    assert np.abs(TABLE / true - 1).max() < 2e-15
    assert (np.diff(TABLE) > 0).all()
    assert TABLE[0] == 1.0


@given(st.lists(st.integers(0, 2**42), max_size=9), TIMES, st.integers(60_000, 2**36))
def test_many_weights_are_those_of_one_at_a_time(ages_ms, landmark_ms, half_life_ms):
    """Readers get the same bits from NumPy as the fold from its kernel."""
    times_ms = [landmark_ms - age_ms for age_ms in ages_ms]
    found = decay_weights(np.array(times_ms, dtype=np.int64), landmark_ms, half_life_ms)
    single = [decay_weight(time_ms, landmark_ms, half_life_ms) for time_ms in times_ms]
    # The kernel gives 0 where a normal float64 ends, NumPy what is left of the number; neither is seen in a score.
    normal = np.array(single) > 0.0
    assert (found[normal] == np.array(single)[normal]).all()
    assert (found[~normal] < 2.0**-1_021).all()


@given(st.integers(-1_022, 1_023))
def test_powers_of_two_are_exact(exponent):
    """They are put together from bits, not computed."""
    assert power_of_two(exponent) == math.ldexp(1.0, exponent)


def test_powers_of_two_end_where_numbers_end():
    """Too small is 0, too large is the largest."""
    assert power_of_two(-1_023) == 0.0
    assert power_of_two(5_000) == math.ldexp(1.0, 1_023)


@given(TIMES, TIMES, HALF_LIVES)
def test_the_kernel_agrees_with_exact_arithmetic(time_ms, landmark_ms, half_life_ms):
    """Before and after the landmark, for half-lives from a millisecond to a year."""
    assert decay_weight(time_ms, landmark_ms, half_life_ms) == twin(time_ms, landmark_ms, half_life_ms)


@given(TIMES, st.integers(-900, 900), st.integers(4_096, 10**9))
def test_the_weight_is_right_to_a_step(landmark_ms, tenths, half_life_ms):
    """It is 2^(age / half-life), at most a step of 1/4096 half-life too small."""
    time_ms = landmark_ms + tenths * half_life_ms // 10
    true = 2.0 ** ((time_ms - landmark_ms) / half_life_ms)
    assert true * 2 ** (-1.001 / 4_096) <= decay_weight(time_ms, landmark_ms, half_life_ms) <= true * (1 + 1e-12)


@given(TIMES, st.integers(0, 10**10), HALF_LIVES)
def test_landmarks_move_without_rounding(now_ms, later_ms, half_life_ms):
    """A weight seen from the next landmark is the old one times an exact power of two."""
    old = landmark_at(now_ms, half_life_ms)
    new = landmark_at(now_ms + later_ms, half_life_ms)
    moved = decay_weight(now_ms, old, half_life_ms) * rebase_factor(old, new, half_life_ms)
    if moved > 1e-290:
        assert moved == decay_weight(now_ms, new, half_life_ms)


@given(TIMES, HALF_LIVES)
def test_a_landmark_follows_from_log_time_alone(now_ms, half_life_ms):
    """It is the last multiple of 32 half-lives, so every process finds the same."""
    landmark = landmark_at(now_ms, half_life_ms)
    span = half_life_ms * LANDMARK_HALF_LIVES
    assert landmark % span == 0
    assert 0 <= now_ms - landmark < span
