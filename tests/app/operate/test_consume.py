"""A run of inputs by hand ends when nothing is left to read here, and says where another node reads."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from midstream.app.config.broker_inputs import KafkaInput
from midstream.app.config.reader import parse_config
from midstream.app.operate import consume
from midstream.core.errors import ConfigInvalid, FolderLocked
from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.types import InputState, InputView


def view(name: str, state: InputState, owner: str = "") -> InputView:
    """Return how an input stands."""
    return InputView(name, "events", state, (), 0, 0, 0, owner=owner)


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.now_s = 0.0

    def monotonic(self) -> float:
        """Return its time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of a run."""
    made = Clock()
    monkeypatch.setattr(consume, "time", made)
    return made


def group(*idle: str) -> InputGroup:
    """Return a group in which some inputs have read all."""
    return cast("InputGroup", SimpleNamespace(is_idle=lambda name: name in idle))


@pytest.mark.parametrize(
    "state, limit_s", [("standing_by", consume.STANDING_BY_S_MAX), ("failing", consume.FAILING_S_MAX)]
)
def test_an_input_that_cannot_be_read_here_is_given_up(clock: Clock, state: InputState, limit_s: float) -> None:
    """After as long as is waited for, from the moment at which it was last good; the others are waited for."""
    good_s: dict[str, float] = {}
    seen: list[tuple[float, InputState, bool]] = [
        (0.0, state, False),
        (limit_s, state, False),
        (limit_s + 0.1, "reading", False),
        (2 * limit_s, state, False),
        (2 * limit_s + 0.2, state, True),
    ]
    for now_s, now, is_over in seen:
        clock.now_s = now_s
        assert consume._is_over([view("clicks", now), view("orders", "reading")], group("orders"), good_s) is is_over
    assert consume._is_over([view("clicks", state), view("orders", "reading")], group(), good_s) is False


def test_an_input_whose_messages_are_kept_back_is_given_up(clock: Clock) -> None:
    """It reads, and its problem says what the messages wait for."""
    good_s: dict[str, float] = {}
    kept_back = replace(view("clicks", "reading"), problem="a transaction is open")
    assert not consume._is_over([kept_back], group(), good_s)
    clock.now_s = consume.FAILING_S_MAX + 0.1
    assert consume._is_over([kept_back], group(), good_s)
    waits = replace(view("clicks", "stopped"), problem="a partition is gone, the others are read")
    clock.now_s += consume.FAILING_S_MAX
    assert not consume._is_over([waits], group(), good_s)


def test_no_input_is_given_up_early_because_another_one_reads(clock: Clock) -> None:
    """Each is looked at each time: one that became good while the first was waited for begins anew."""
    good_s: dict[str, float] = {}
    consume._is_over([view("clicks", "reading"), view("orders", "failing")], group(), good_s)
    clock.now_s = 20.0
    consume._is_over([view("clicks", "reading"), view("orders", "reading")], group(), good_s)
    clock.now_s = 40.0
    assert not consume._is_over([view("clicks", "failing"), view("orders", "failing")], group("clicks"), good_s)


@pytest.mark.parametrize("owner, said", [("shop-2-ab", "the node shop-2-ab"), ("", "another node")])
def test_an_input_that_stands_by_says_who_reads_it(owner: str, said: str) -> None:
    """A run that ends without its messages would be a riddle otherwise."""
    assert consume._explained(view("clicks", "standing_by", owner)).problem.startswith(said)
    assert consume._explained(view("clicks", "reading", owner)).problem == ""


@pytest.mark.parametrize("has_server", [True, False])
def test_secrets_are_asked_for_where_this_process_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_server: bool
) -> None:
    """A server that has the folder open has them in its own environment."""
    options = KafkaInput(name="clicks", topic="t", servers="s", password_env="NO_SUCH_PASSWORD")
    config = msgspec.structs.replace(parse_config(""), inputs=(options,))

    def locked(*_: object, **__: object) -> None:
        raise FolderLocked(tmp_path)

    async def followed(url: str, *_: object) -> str:
        return url

    monkeypatch.setattr(consume, "open_running", locked)
    monkeypatch.setattr(consume, "server_of", lambda _: "http://server" if has_server else None)
    monkeypatch.setattr(consume, "_followed", followed)
    if has_server:
        done: object = consume.consume(tmp_path, config, consume.ConsumeOptions(), lambda _: None)
        assert done == "http://server"
        return
    with pytest.raises(ConfigInvalid, match="NO_SUCH_PASSWORD"):
        consume.consume(tmp_path, config, consume.ConsumeOptions(), lambda _: None)
