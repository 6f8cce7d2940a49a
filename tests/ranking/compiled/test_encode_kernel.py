"""The kernel that writes a slate writes scores to the byte as msgspec does.

Whole slates are compared with the pipeline's in ``test_answer_kernel`` and in the tests of compiled slates.
"""

import msgspec
import numpy as np

from midstream.core.answers.slates import SlateItem
from midstream.ranking.compiled.encode_kernel import put_score


def test_scores_are_written_as_json_has_them() -> None:
    """All float32 between the ends that are drawn: powers of ten and two, neighbours, ties, others; of both signs.

    Small ones have exponents, large ones zeros; what is nearly 10^-5 is the first without an exponent.
    """
    dice = np.random.default_rng(3)
    edges = [float(f"1e{power}") for power in range(-16, 16)] + [2.0**power for power in range(-52, 53)]
    near = [np.nextafter(np.float32(each), np.float32(side)) for each in edges for side in (0.0, 1e9)]
    ties = [np.float32(each + 0.5) for each in (1_234_566, 8_388_607, 4_194_303)]
    ties += [np.float32(each) for each in (12_345_665, 12_345_675, 16_777_215, 123_456_650 << 3)]
    drawn = np.exp(dice.uniform(np.log(1e-16), np.log(1e16), 40_000)).astype(np.float32)
    short = [np.float32(f"{digits}e{power}") for digits in range(1, 100) for power in range(-15, 14)]
    halves = (dice.integers(1, 1 << 20, 5_000) / 2.0 ** dice.integers(1, 12, 5_000)).astype(np.float32)
    out = np.zeros(64, dtype=np.uint8)
    count = 0
    positive = [*map(np.float32, edges), *near, *ties, *drawn, *halves, *short, np.float32(0.0)]
    for score in (*positive, *(-each for each in positive[::3]), np.float32(-0.0)):
        end = put_score(out, 0, np.float32(score))
        if score != 0.0 and not 1e-16 <= abs(float(score)) < 9.9999995e15:
            assert end == -1
            continue
        expected = msgspec.json.encode(SlateItem("", float(f"{score:.7g}"), 0)).decode()
        assert f'{{"id":"","score":{out[:end].tobytes().decode()},"position":0}}' == expected, score
        count += 1
    assert count > 60_000
    for score in (np.nan, np.inf, -np.inf, -1e-17, 1e-45, -1e16, 3e38):
        assert put_score(out, 0, np.float32(score)) == -1
