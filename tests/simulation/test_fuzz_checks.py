"""The checks of a simulated run see what they are for: each is shown a promise that was not kept."""

from hashlib import blake2b

import msgspec
import pytest

from midstream.core.answers.events import EventsAnswer, Result
from midstream.core.errors import Fault
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.erasure.log_rewrite import Receipt
from midstream.events.dead_letters.dead_letters import DeadLetters, dead_letter
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, build
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING
from tests.support.dice import Dice
from tests.support.events import START_MS, served_body, tiny_settings
from tests.support.fuzz.client_actions import ACTS
from tests.support.fuzz.conditions import drawn
from tests.support.fuzz.faults import TURNS
from tests.support.fuzz.joined import check_forgotten, check_join
from tests.support.fuzz.ledger import Broken, Forgotten, Ledger
from tests.support.fuzz.letters import check_letters, last_number
from tests.support.fuzz.model import ExpectedState
from tests.support.fuzz.proof import check_acknowledged
from tests.support.fuzz.traffic import TrafficBatch
from tests.support.fuzz.world import HEALTHY_S_MAX, FuzzWorld
from tests.support.ids import hash_of
from tests.support.virtual_loop import VirtualLoop, only_virtual

ORDER = {"type": "cart", "event_id": "e", "user_id": "u1", "items": [{"item_id": "a"}, {"item_id": "b"}]}


def row(number, item):
    """A row of the order in the log."""
    return Event(Kind.INTERACTION, action="cart", event_id=f"e#{number}", user_id="u1", item_id=item)


@pytest.mark.parametrize("outcome", ["recorded", "duplicate"])
def test_an_acknowledged_order_may_not_vanish(outcome):
    """At least one of its rows stands before the position that was told; another item may have been refused."""
    ledger, batch = Ledger(), TrafficBatch([dict(ORDER)])
    ledger.note_sent(batch)
    ledger.note_answer(batch, EventsAnswer(1, 0, (), results=(Result(0, outcome),)), LogPosition(1))
    other = Event(Kind.TICK)

    def check(*events, is_rewritten=False):
        check_acknowledged(events, ledger, may_refuse=True, is_rewritten=is_rewritten)

    check(row(1, "b"))
    check(row(0, "a"), row(1, "b"))
    check(is_rewritten=True)
    for events in ((), (other,), (other, row(0, "a"), row(1, "b"))):
        with pytest.raises(Broken, match="an order was acknowledged at 1"):
            check(*events)


def test_the_catalogue_outlives_an_erasure():
    """Of a log that was written anew each change of an item stands as it was, unless a blanked event had its id too."""
    ledger = Ledger()
    change = TrafficBatch([{"type": "item", "operation": "delete", "event_id": "e", "item_id": "a"}])
    ledger.note_sent(change)
    ledger.note_answer(change, EventsAnswer(1, 0, (), results=(Result(0, "recorded"),)), LogPosition(1))
    with pytest.raises(Broken, match="e was acknowledged at 1"):
        check_acknowledged((), ledger, may_refuse=True, is_rewritten=True)
    ledger.note_sent(TrafficBatch([{"type": "view", "event_id": "e", "user_id": "u1", "item_id": "a"}]))
    check_acknowledged((), ledger, may_refuse=True, is_rewritten=True)


@pytest.mark.parametrize("takes_s, is_late", [(HEALTHY_S_MAX - 1, False), (HEALTHY_S_MAX + 1, True)])
def test_all_is_well_in_time_or_not_at_all(takes_s, is_late, tmp_path):
    """What looks began in time counts only if it ended in time too."""
    loop = VirtualLoop(lambda: 0.0)
    names = ({name: act.weight for name, act in ACTS.items()}, {name: turn.weight for name, turn in TURNS.items()})
    with only_virtual(loop):
        world = FuzzWorld(1, 1, drawn(Dice(1), *names), tmp_path, loop)

        async def is_well():
            loop.spend(takes_s)
            return True

        if is_late:
            with pytest.raises(Broken, match="not healthy 60 s after"):
                loop.run_until_complete(world.healthy(is_well))
        else:
            loop.run_until_complete(world.healthy(is_well))
    loop.close()


def letter(text):
    """A letter with this in it."""
    return dead_letter(
        TimestampMs(5), Fault("/", "", "", ""), msgspec.json.encode({"type": "nonsense", "user_id": text})
    )


def test_an_erased_user_is_in_no_letter(tmp_path):
    """Found in every file and line that was there when the erasure was carried out, and not in what came later."""
    path, salt = tmp_path / "dead-letters.ndjson", b"salt"
    letters = DeadLetters(path, RealDisk(), 600)
    letters.add([letter("u7"), letter("u3"), letter("u7")])
    forgotten = [Forgotten(("u7", "u9"), last_number(path))]
    receipt = Receipt(
        generation_before=0,
        generation=1,
        log_position=9,
        erasures=(3,),
        ids=tuple(blake2b(each.encode(), digest_size=16, salt=salt).hexdigest() for each in ("u7", "u9")),
        salt=salt.hex(),
        events={},
    )
    with pytest.raises(Broken, match=r"'u7'.* were erased"):
        check_letters(path, [receipt], forgotten)
    letters.remove(1)
    letters.remove(3)
    with pytest.raises(Broken, match=r"'u7'.* were erased"):
        check_letters(path, [receipt], forgotten)
    letters.add([letter("u70")])  # another one
    letters.forget(("u7", "u9"))
    letters.add([letter("u7")])
    letters.close()
    check_letters(path, [receipt], forgotten)
    with pytest.raises(Broken, match="the letters forgot nobody"):
        check_letters(path, [receipt], [Forgotten(("u7",), 9)])
    check_letters(path, [receipt], [Forgotten(("u7", "u9", "a-session-of-theirs"), forgotten[0].last)])
    check_letters(path, [], [])


def slate(request, user):
    """A slate of two items."""
    return Event(Kind.SERVED, user_id=user, request_id=request, body=served_body(request, "ab"), log_time_ms=START_MS)


def click(number, request):
    """A click on the first of them."""
    told = {"action": "click", "user_id": "u1", "item_id": "a", "request_id": request}
    return Event(Kind.INTERACTION, event_id=f"e{number}", log_time_ms=START_MS, **told)


JOINED = (slate("r", "u1"), slate("s", "u2"), click(1, "r"), click(2, "t"), click(1, "r"))


def folded(events):
    """The state after some events, and the model."""
    fold, model = Fold(tiny_settings()), ExpectedState(tiny_settings(), NOTHING)
    fold.apply(LogPosition(0), build(events))
    for each in events:
        model.fold(each)
    return fold, model


@pytest.mark.parametrize(
    "other, text",
    [
        (JOINED[1:], "these slates are held"),
        ((*JOINED[:2], *JOINED[3:4]), "these slates are held"),
        ((*JOINED[:3], click(3, "t"), click(4, "t")), "wait for their slate"),
        ((*JOINED, click(5, "r")._replace(item_id="c")), "what became of outcomes"),
        ((*JOINED, Event(Kind.ERASE, user_id="u2", log_time_ms=START_MS)), "these slates are held"),
    ],
)
def test_what_came_of_slates_is_what_the_model_says(other, text):
    """What is too many or too few is seen: a slate, an outcome, one that waits, one of another item, one of a user."""
    fold, model = folded(JOINED)
    check_join(fold.outcomes, model.join, 5)
    with pytest.raises(Broken, match=text):
        check_join(fold.outcomes, folded(other)[1].join, 5)
    model.join.counts["", "", ""] = 1
    with pytest.raises(Broken, match="sums are"):
        check_join(fold.outcomes, model.join, 5)


def test_an_erased_user_has_no_slate_from_before():
    """One that was served afterwards, under the same id, is another matter."""
    fold, model = folded((*JOINED, Event(Kind.ERASE, user_id="u1", log_time_ms=START_MS), slate("v", "u1")))
    check_join(fold.outcomes, model.join, 7)
    check_forgotten(fold.outcomes, model.erased_at, 7)
    assert model.erased_at == {hash_of("u1"): 5}
    with pytest.raises(Broken, match="a slate is held whose user was erased"):
        check_forgotten(folded(JOINED)[0].outcomes, model.erased_at, 5)
