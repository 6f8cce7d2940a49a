"""The kernel of compiled plans as plain functions: every index is checked, and the bytes are those of the kernel.

That they are also those of the pipeline is what tests/engine/answer/test_compiled_slates.py shows.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config, Placement
from midstream.app.wiring import plans
from midstream.core.types import LogPosition
from midstream.events.kernel import Kernel
from midstream.ranking.compiled import answer_kernel
from midstream.ranking.compiled.compiled_plan import CompiledPlan, compiled_plan
from midstream.ranking.compiled.decision_kernel import ANSWERED
from midstream.ranking.compiled.room import RECORD_END, TEXT_END
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.state.fold import Fold
from midstream.state.settings import StateLimits
from tests.engine.answer.test_compiled_slates import stamped
from tests.support.events import Stream, random_events
from tests.support.rig import Rig, view

LIMITS = StateLimits(
    users_max=30, items_max=110, click_items_max=100, sessions_max=25, index_sessions_max=150, event_ids_max=2_000
)
STREAM = Stream(users=40, items=90, sessions=12, step_ms=2_000, people_share=0.02)


@contextmanager
def plain_kernels(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run every kernel as the plain function that it is made of, in which a wrong index is an error."""
    modules = [each for name, each in sys.modules.items() if name.startswith("midstream.")]
    with patch.context() as patched, np.errstate(all="ignore"):
        for module in modules:
            for name, value in list(vars(module).items()):
                if isinstance(value, Kernel):
                    patched.setattr(module, name, value.py_func)
        yield


def answer(compiled: CompiledPlan) -> tuple[int, bytes, bytes, list[int]]:
    """What is in the room after the plain functions ran."""
    code = int(answer_kernel.answer_of(*compiled.columns))
    return said(compiled, code)


def said(compiled: CompiledPlan, code: int) -> tuple[int, bytes, bytes, list[int]]:
    """What is in the room after an answer."""
    counts = compiled.room.counts.tolist()
    if code != ANSWERED:
        return code, b"", b"", []
    return code, bytes(compiled.text[: counts[TEXT_END]]), bytes(compiled.record[: counts[RECORD_END]]), counts


def test_plain_functions_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of users with and without a session, of items that came and are excluded, of unknown ids."""
    config = Config(limits=LIMITS, placements=(Placement(repeats="none", slate_size=12),))
    fold = Fold(config.fold_settings())
    fold.apply(LogPosition(0), random_events(1_200, 11, STREAM))
    compiled = compiled_plan(plans(config)["default"], fold)
    assert isinstance(compiled, CompiledPlan)
    dice = np.random.default_rng(11)
    answered = 0
    for _ in range(12):
        ids = (f"user-{int(dice.integers(45))}" if dice.random() < 0.8 else "", "", "request")
        items, exclude = ([f"item-{int(dice.integers(99))}" for _ in range(int(dice.integers(4)))] for _ in range(2))
        now_ms, size = fold.log_time_ms + int(dice.integers(3_000_000)), int(dice.integers(1, 30))
        expected = said(compiled, compiled.ask(ids, (items, exclude), size, now_ms))
        assert compiled.put(ids, (items, exclude), size, now_ms)
        with plain_kernels(monkeypatch):
            assert answer(compiled) == expected
        answered += expected[0] == ANSWERED
    assert answered > 6


def test_plain_functions_rank_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of items of the caller, some of which nobody knows, some excluded, and of none that is known."""
    config = Config(limits=LIMITS, placements=(Placement(repeats="none"),))
    fold = Fold(config.fold_settings())
    fold.apply(LogPosition(0), random_events(1_200, 11, STREAM))
    compiled = compiled_plan(plans(config)["default"], fold, ranks=True)
    assert isinstance(compiled, CompiledPlan)
    dice = np.random.default_rng(11)
    for number in range(8):
        ids = (f"user-{int(dice.integers(45))}", "", "request")
        given = [f"item-{each}" for each in dice.permutation(99)[: 1 + 13 * number]] if number else ["nobody"]
        exclude = [f"item-{int(dice.integers(99))}" for _ in range(9)]
        question = ids, ((), exclude, given), int(dice.integers(1, 1 + len(given))), fold.log_time_ms
        expected = said(compiled, compiled.ask(*question)), compiled.gone()
        assert expected[0][0] == ANSWERED
        assert compiled.put(*question)
        with plain_kernels(monkeypatch):
            assert answer(compiled) == expected[0]
        assert compiled.gone() == expected[1]


def test_a_long_history_stays_within_the_tables_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel of a user with more items than a query reads, whose sources leave all of them out."""
    sources = (
        SessionKnn(history_items_max=2_200, allow_session_items=False),
        Covisitation(history_items_max=2_200, allow_session_items=False),
    )
    larger = {"items_max": 2_300, "click_items_max": 2_300, "user_ring_max": 2_200, "pair_neighbours_max": 8}
    limits = msgspec.structs.replace(LIMITS, event_ids_max=5_000, **larger)
    config = Config(limits=limits, placements=(Placement(sources=(*sources, Popular(limit=5)), repeats="any"),))
    rig = Rig(config=config)
    fold = rig.engine.fold
    fold.apply(LogPosition(0), stamped(rig, [view(f"i{number}") for number in range(2_200)]))
    compiled = compiled_plan(plans(config)["default"], fold)
    assert isinstance(compiled, CompiledPlan)
    assert compiled.put(("ann", "", "request"), ((), ()), 3, fold.log_time_ms + 86_400_000)
    with plain_kernels(monkeypatch):
        code, *_ = answer(compiled)
    assert code == ANSWERED
