"""What goes on learning in the state, against the paper's algorithm in dictionaries: the same sums to the bit."""

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.errors import Invalid
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition, Models
from midstream.engine.erasure.redaction import Blanker, find_erased
from midstream.events.schema import Event, build, cut, event_at
from midstream.events.served_body import decode_body, encode_body
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import fit_ftrl
from midstream.models.rows.online_sums import (
    HEAD,
    INPUTS_MAX,
    binning_of,
    online_sums,
    packed_bins,
    part_count,
)
from midstream.state.control.promotions import promotion_body
from midstream.state.fold import Fold
from midstream.state.online.online_models import OnlineModels
from midstream.state.outcomes.outcomes import Outcomes
from midstream.state.restate import restated
from midstream.state.settings import FoldSettings
from tests.support.events import START_MS
from tests.support.ids import KEY
from tests.support.online import (
    FEW,
    MODEL,
    NAMES,
    OPTIONS,
    OTHER,
    SETTINGS,
    SMALL,
    VALUES,
    clicked,
    folded,
    of,
    promoted,
    seen,
    served,
    serving,
    stamped,
    sums_of,
)
from tests.support.online_twin import Reference


def stream(seed: int, count: int = 150) -> EventBatch:
    """Return promotions, slates and outcomes over so few ids that everything meets everything."""
    dice = np.random.default_rng(seed)

    def drawn() -> Event:
        request, item = f"r{dice.integers(9)}", "abcdef"[dice.integers(6)]
        kind = dice.choice(list(SHARES), p=list(SHARES.values()))
        if kind in {"served", "served other", "served few"}:
            ids = "".join(dice.permutation(list("abcdef"))[: dice.integers(1, 6)])
            return served(request, ids, VERSIONS[kind], int(dice.integers(0, 70)), binning=SAID.get(kind))
        if kind in {"promote", "promote other", "promote few"}:
            name, version = f"{dice.integers(1, 4):04}", VERSIONS[kind]
            return promoted(replace(version, z=version.z * int(name)), f"{name}-{kind}", binning=SAID.get(kind))
        if kind == "tick":
            return Event(Kind.TICK)
        return seen(request, item) if kind == "seen" else clicked(request, item, str(kind))

    events = [promoted()]
    events += [drawn() for _ in range(count)]
    gaps = dice.choice([0, 1_000, 20_000, 90_000], len(events), p=[0.3, 0.5, 0.15, 0.05])
    times = (START_MS + np.cumsum(gaps)).tolist()
    ids = [f"e{number if dice.random() < COPIES else number // 2}" for number in range(len(events))]
    found = zip(events, ids, times, strict=True)
    return build([each._replace(event_id=name, log_time_ms=time) for each, name, time in found])


COPIES = 0.9
"""Of the others some have the id of an event before: they do not count."""
SHARES = {
    "served": 0.18, "served other": 0.03, "served few": 0.03, "seen": 0.37, "click": 0.25, "view": 0.05,
    "promote": 0.02, "promote other": 0.01, "promote few": 0.02, "tick": 0.04,
}  # fmt: skip
VERSIONS = {
    **dict.fromkeys(("served", "promote"), MODEL),
    **dict.fromkeys(("served other", "promote other"), OTHER),
    **dict.fromkeys(("served few", "promote few"), FEW),
}
SAID = dict.fromkeys(("served few", "promote few"), binning_of(MODEL))
"""A promotion may say of fewer inputs that they are binned as more."""


def test_the_sums_are_those_of_dictionaries() -> None:
    """Early, late, repeated and unknown outcomes, maxima, promotions and time: to the bit, in a dozen streams."""
    met: Counter[str] = Counter()
    for seed in range(12):
        batch, twin = stream(seed, 250), Reference()
        for place in range(len(batch)):
            twin.add(event_at(batch, place))
        fold = folded(batch)
        assert sums_of(fold) == twin.arrays()
        assert fold.online.totals["online_corrected"] == twin.corrected
        arrays = fold.online.arrays()
        assert arrays["ranker.slate_request"].shape == (len(twin.slates),)
        assert arrays["ranker.waiting_request"].shape == (len(twin.waiting),)
        met.update(fold.online.totals)
    assert min(met[name] for name in met if name != "online_refused") > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1_000), st.integers(1, 40), st.booleans(), st.integers(1, 149))
def test_batches_and_restarts_change_nothing(seed: int, size: int, is_general: bool, place: int) -> None:
    """One event at a time or many, by the one pass or from table to table, and through a snapshot anywhere."""
    batch = stream(seed)
    whole = folded(batch).digest()
    assert folded(batch, size, is_general=is_general).digest() == whole
    before, after = folded(cut(batch, 0, place)), Fold(SETTINGS)
    after.apply(LogPosition(0), stream(seed + 1))
    after.restore({name: each.copy() for name, each in before.arrays().items()})
    assert after.digest() == before.digest()
    after.apply(LogPosition(place), cut(batch, place, len(batch)))
    assert after.digest() == whole


def test_an_outcome_after_its_slate_has_left_waits() -> None:
    """Also where the outcome before it was of the same slate, which was there then, and in one batch with it."""
    events = [promoted(), served("r1", "abc"), seen("r1", "a"), seen("r1", "b")]
    for size in (1, len(events)):
        fold = folded(stamped(events, step_ms=200_000), size)
        arrays = fold.online.arrays()
        assert fold.online.totals["online_learned"] == 1
        assert arrays["ranker.slate_request"].shape == (0,)
        assert arrays["ranker.waiting_request"].shape == (1,)


def test_a_fold_without_the_join_learns_the_same() -> None:
    """What the join has read of slates is taken from it where it is folded, and read where it is not."""
    whole, alone = Fold(SETTINGS), Fold(SETTINGS)
    alone.leave_out({Outcomes})
    batch = stream(3)
    for fold in (whole, alone):
        fold.apply(LogPosition(0), batch)
    own, other = (fold.online.arrays() for fold in (whole, alone))
    assert whole.online.totals["online_learned"] > 0
    assert {name: each.tolist() for name, each in own.items()} == {name: each.tolist() for name, each in other.items()}


def test_a_state_without_such_models_is_as_it_was() -> None:
    """No array, no byte."""
    fold = folded(stream(1), told=FoldSettings(limits=SMALL))
    assert fold.online.arrays() == {}
    assert fold.sizes()["online"].bytes_max == 0
    assert not fold.online.is_declared


def test_a_version_of_the_same_bins_learns_what_is_held_once_more() -> None:
    """A rollback and a warm start go on; one of other bins begins with its own sums; none, with nothing."""
    events = [promoted(), served("r1", "abc"), seen("r1", "a"), clicked("r1", "b")]
    fold = folded(stamped(events), told=of(Duration("0s")))
    first = sums_of(fold)
    assert serving(fold).z.tolist() == first[0]
    fold.apply(fold.log_position, stamped([promoted(name="0002")], start_ms=START_MS + 10_000))
    assert fold.online.totals["online_learned"] == 4
    assert sums_of(fold) == first
    fold.apply(fold.log_position, stamped([promoted(OTHER, "0003")], start_ms=START_MS + 20_000))
    assert sums_of(fold) == (OTHER.z.tolist(), OTHER.n.tolist())
    assert len(fold.online.arrays()["ranker.slate_request"]) == 0
    body = promotion_body("ranker", "champion", "", "")
    fold.apply(fold.log_position, stamped([Event(Kind.CONTROL, body=body)], start_ms=START_MS + 30_000))
    assert sums_of(fold) == ([], [])
    fold.apply(fold.log_position, stamped([promoted()], start_ms=START_MS + 40_000))
    assert sums_of(fold) == (MODEL.z.tolist(), MODEL.n.tolist())
    assert serving(fold).z.tolist() == MODEL.z.tolist()


def test_a_version_that_comes_back_answers_by_its_own_sums() -> None:
    """It is the same object, and no row was learned since it answered last: promotions alone say that sums changed."""
    events = [promoted(), served("r1", "abc"), seen("r1", "a"), clicked("r1", "b")]
    fold = folded(stamped(events), told=of(Duration("0s")))
    learned = fold.online.totals["online_learned"]
    assert serving(fold).z.tolist() == sums_of(fold)[0] != MODEL.z.tolist()
    back = stamped([promoted(OTHER, "0003"), promoted()], start_ms=START_MS + 10_000)
    fold.apply(fold.log_position, back)
    assert fold.online.totals["online_learned"] == learned
    assert serving(fold).z.tolist() == sums_of(fold)[0] == MODEL.z.tolist()


def test_another_version_answers_as_it_was_published() -> None:
    """While a version is loaded, and after it was refused, the one in service is not the one that learns."""
    fold = folded(
        stamped([promoted(), served("r1", "a"), seen("r1", "a"), clicked("r1", "a")]), told=of(Duration("0s"))
    )
    models = Models({"ranker": MODEL}, {"ranker": "0002"})
    assert fold.online.serving(models) is models
    assert fold.online.sums("ranker", "0002") is None
    assert fold.online.sums("other", "0001") is None


@pytest.mark.parametrize(
    "change",
    [
        {"z": b"1234"},
        {"inputs": 0},
        {"inputs": INPUTS_MAX + 1},
        {"bins": 65},
        {"alpha": 0.0},
        {"l1": -1.0},
        {"n": (-MODEL.n - 1.0).tobytes()},
        {"z": np.full_like(MODEL.z, np.nan).tobytes()},
        {"binning": 0},
    ],
)
def test_sums_that_are_none_are_refused(change: dict[str, object]) -> None:
    """A log may hold what anybody wrote: nothing is learned, and it is counted."""
    sums = msgspec.structs.replace(online_sums(MODEL, "ranker"), **change)
    body = promotion_body("ranker", "champion", "0002", "m", sums)
    fold = folded(stamped([promoted(), Event(Kind.CONTROL, body=body), served("r1", "a"), seen("r1", "a")]))
    assert fold.online.totals["online_refused"] == 1
    assert sums_of(fold) == ([], [])
    assert fold.promotions.find("ranker") is not None


@pytest.mark.parametrize("cut_at", [0, 7, 12, 13, 40])
def test_bins_that_are_none_are_passed_by(cut_at: int) -> None:
    """Of too few or too many bytes, in a body of any bytes."""
    event = served("r1", "abc")
    told = decode_body(event.body)
    bins = (told.bins[1] + b"12345678901234567890")[:cut_at]
    broken = event._replace(body=encode_body(msgspec.structs.replace(told, bins=(bins,))))
    torn = event._replace(body=event.body[: len(event.body) - 1 - cut_at], request_id="r2")
    high = event._replace(
        body=encode_body(msgspec.structs.replace(told, bins=(told.bins[1][: HEAD.size] + b"\xff" * 9,))),
        request_id="r3",
    )
    acts = [each for request in ("r1", "r2", "r3") for each in (seen(request, "a"), clicked(request, "a"))]
    fold = folded(stamped([promoted(), broken, torn, high, *acts]), told=of(Duration("0s")))
    assert fold.online.totals["online_learned"] == 2


def test_the_log_without_the_erased_gives_the_same_sums() -> None:
    """The bins of an erased user's slates stay, as scores do: sums over all cannot be taken apart."""
    long = [each.ljust(32, "-") for each in ("r1", "r2")]  # as the engine makes them: others go
    events = [promoted(), served(long[0], "abc"), seen(long[0], "a"), clicked(long[0], "a"), seen(long[0], "b")]
    events += [Event(Kind.ERASE, user_id="ann"), served(long[1], "abc", user="bob"), seen(long[1], "c")]
    batch = stamped(
        [
            each._replace(event_id=f"e{number}" if each.kind == Kind.INTERACTION else "")
            for number, each in enumerate(events)
        ]
    )
    told = of(Duration("0s"))
    erased = find_erased(lambda: iter([(LogPosition(0), batch)]), told.limits.event_ids_max, KEY)
    live, again = folded(batch, told=told), folded(Blanker(erased).blank(LogPosition(0), batch), told=told)
    assert live.online.totals["online_learned"] == 4
    one, other = live.online.arrays(), again.online.arrays()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_what_is_said_of_a_state_says_what_was_learned() -> None:
    """A log that begins behind the events goes on from the sums of then."""
    fold = folded(stream(4))
    said = restated(fold, ())
    anew = Fold(SETTINGS)
    anew.apply(LogPosition(0), said.events)
    assert sums_of(anew) == sums_of(fold)


@pytest.mark.parametrize(
    "version, came",
    [
        (object(), "object came."),
        (fit_ftrl(Examples.of_rows(("a",), VALUES[:, :1], np.ones(6, dtype=np.float32))), "standardised"),
        (replace(MODEL, options=msgspec.structs.replace(OPTIONS, debias="propensity")), "propensity"),
    ],
)
def test_a_version_that_cannot_go_on_is_refused(version: object, came: str) -> None:
    """With what would be right."""
    with pytest.raises(Invalid) as caught:
        online_sums(version, "ranker")
    (fault,) = caught.value.faults
    assert came in fault.came
    assert fault.where == "models.ranker.online"


def test_bins_are_those_that_the_model_reads() -> None:
    """Values on edges, infinite ones, unknown ones: a byte each, as the kernel of scores finds them."""
    edges = MODEL.edges[0]
    values = np.array([edges[0], np.nextafter(edges[0], np.inf), np.inf, -np.inf, np.nan], dtype=np.float32)
    rows = np.repeat(values[:, np.newaxis], len(NAMES), axis=1)
    packed = np.frombuffer(packed_bins(MODEL, rows, 3)[HEAD.size :], dtype=np.uint8).reshape(len(rows), len(NAMES))
    assert packed[:, 0].tolist() == [0, 1, len(edges), 0, OPTIONS.bins]
    assert OnlineModels(SETTINGS).names == {"ranker"}


@pytest.mark.parametrize("size", [1, 100])
def test_rows_before_leave_no_bins_to_a_version_of_more_inputs(size: int) -> None:
    """A promotion may say of more inputs that they are binned as those that are held: these have no bins for them.

    At their places lie bins of rows before, of which a state that was restored knows nothing.
    """
    few = binning_of(FEW)
    held = [promoted(MODEL), served("r1", "fed"), seen("r1", "f"), clicked("r1", "e")]
    held += [promoted(FEW, "0002"), served("r2", "abc", FEW), seen("r2", "a"), clicked("r2", "b")]
    more = [served("r3", "abc", MODEL, binning=few), seen("r3", "a"), clicked("r3", "b")]
    batches = [stamped(held), stamped([promoted(MODEL, "0003", binning=few)], start_ms=START_MS + 100_000)]
    batches += [stamped(more, start_ms=START_MS + 200_000)]
    live, again, twin = folded(batches[0], size), Fold(SETTINGS), Reference()
    assert live.online.totals["online_learned"] == 2
    again.restore({name: each.copy() for name, each in live.arrays().items()})
    for batch in batches:
        for fold in (live, again) if batch is not batches[0] else ():
            fold.apply(fold.log_position, batch)
        for place in range(len(batch)):
            twin.add(event_at(batch, place))
        assert live.digest() == again.digest()
        assert sums_of(live) == twin.arrays()
    assert live.online.totals["online_learned"] == 3


@pytest.mark.parametrize("change", [{"inputs": 2}, {"bins": 3}])
def test_sums_of_another_shape_answer_nothing(change: dict[str, int]) -> None:
    """A promotion that says of a version that it has fewer inputs or bins: it answers as it was published."""
    sums = online_sums(MODEL, "ranker")
    inputs, bins = change.get("inputs", sums.inputs), change.get("bins", sums.bins)
    z = np.zeros(part_count(inputs, bins)).tobytes()
    body = promotion_body("ranker", "champion", "0001", "m", msgspec.structs.replace(sums, z=z, n=z, **change))
    fold = folded(stamped([Event(Kind.CONTROL, body=body)]))
    assert fold.online.totals["online_refused"] == 0
    assert serving(fold) is MODEL
