"""The demo replays what it says, counts what it says, and runs through a real server."""

import asyncio
import re
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.schema import Config
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import CONFIG_NAME, config_of
from midstream.app.training.fit import Trained
from midstream.cli.app import main
from midstream.cli.demo import demo, training
from midstream.cli.demo import replay as demo_replay
from midstream.cli.demo import score as demo_score
from midstream.cli.demo import sessions as demo_data
from midstream.cli.demo.server import running_server
from midstream.core.errors import Invalid, StoreUnavailable
from midstream.simulation.connection import Connection, Item, SlateReply
from tests.support.patience import PATIENCE_S


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=200), st.integers(11, 14))
def test_popularity_is_exact(clicks, kept):
    """The list is that of a full count of the clicks before, though only so many items are kept."""
    before = demo_score._KEPT_MAX
    demo_score._KEPT_MAX = kept
    try:
        popularity = demo_score.Popularity()
        counts: Counter[str] = Counter()
        for click in clicks:
            best = popularity.top(())
            wanted = sorted(counts.values(), reverse=True)[: demo_score.TOP]
            assert [counts[item] for item in best] == wanted
            popularity.learn(click)
            counts[click] += 1
    finally:
        demo_score._KEPT_MAX = before


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 9)), min_size=1, max_size=60))
def test_the_lift_is_that_of_the_same_questions(rows):
    """Shares are those of the questions that both were asked, the difference is theirs, and chance is never a lift."""
    score = demo_score.Score()
    for trained, engine, session in rows:
        both = demo_score.ClickAnswers(["x"] if engine else [], ["x"] if trained else [], [], [])
        score.count("x", both, session)
        score.count("x", demo_score.ClickAnswers(["x"], None, [], None), session)
    hits = (sum(each[0] for each in rows), sum(each[1] for each in rows))
    assert (score.trained_since_half.hits, score.engine_since_half.hits) == hits
    assert len(score.lift) == score.trained_since_half.clicks == len(rows)
    found = score.lift.difference()
    assert found.mean == pytest.approx((hits[0] - hits[1]) / len(rows))
    said = str(score.lift)
    assert f"{demo_score.HitRate(hits[0], len(rows))} with the trained model" in said
    assert f"{demo_score.HitRate(hits[1], len(rows))} without" in said
    assert f"same {len(rows):,} questions" in said
    if hits[0] <= hits[1]:
        assert "no lift" in said


def test_a_lift_is_said_to_be_one_or_none():
    """Better in every session is a lift, the same the other way round is worse, half and half is none."""
    verdicts = {"a lift": (True, False), "it is worse": (False, True), "chance": (None, None)}
    for verdict, (trained, engine) in verdicts.items():
        lift = demo_score.Lift()
        for number in range(100):
            odd = number % 2 == 1
            lift.trained.append(odd if trained is None else trained)
            # One more with the model than without is chance too.
            lift.engine.append(not odd and number > 0 if engine is None else engine)
            lift.session.append(number)
        assert verdict in str(lift), verdict
    assert "nothing can be said" in str(demo_score.Lift())


def test_both_placements_are_asked_the_same_and_take_turns(tmp_path):
    """One question to each, differing in nothing else; which comes first changes with each question counted."""
    replay = demo_replay.Replay(demo_data.DemoData("", "", ()), "", tmp_path, Config(), 0.0)
    asked: list[dict[str, object]] = []

    class Recorder(Connection):
        async def ask(self, question):
            asked.append(dict(question))
            return SlateReply((Item(str(question["placement"])),), None, read_your_writes=True)

    question = {"session_id": "s", "n": 10, "min_log_position": "p"}
    recorder = Recorder("http://127.0.0.1:1")
    assert asyncio.run(replay._ask(recorder, question, 0.0)) == {"default": ["default"]}
    replay.training = training.Training(1.0, Trained("order", "0001-0", {}, {}, {}))
    for _ in range(2):
        found = asyncio.run(replay._ask(recorder, question, 0.0))
        assert found == {"default": ["default"], "trained": ["trained"]}
        replay.score.count("x", demo_score.ClickAnswers([], [], [], []), 0)
    assert [each.pop("placement") for each in asked] == ["default", "default", "trained", "trained", "default"]
    assert all(each == question for each in asked)


def test_a_training_that_fails_is_told_and_the_demo_goes_on(tmp_path):
    """A log without a click: no model, and the reason in one line."""
    (tmp_path / CONFIG_NAME).write_text(demo.SHOP + training.CONFIG)
    told = training.train_beside(tmp_path, config_of(tmp_path))
    assert told.done is None
    assert str(told).startswith("No model was trained: ")
    assert "no replay examples" in str(told)
    assert "\n" not in str(told)


def test_sessions_follow_time_and_silence():
    """Sessions come in the order in which they begin; without session ids half an hour of silence ends one."""
    minute = 60_000
    events = [
        {"type": "view", "user_id": "u", "item_id": "c", "time": 100 * minute},
        {"type": "view", "user_id": "u", "item_id": "a", "time": 0},
        {"type": "view", "user_id": "u", "item_id": "b", "time": 29 * minute},
        {"type": "view", "session_id": "s", "item_id": "x", "time": 50 * minute},
        {"type": "item", "item_id": "x", "time": 1},
        {"type": "view", "item_id": "nobody", "time": 1},
    ]
    sessions = list(demo_data.sessions_of(events))
    assert [each.clicks for each in sessions] == [("a", "b"), ("x",), ("c",)]
    assert [each.user_id for each in sessions] == ["u", None, "u"]
    written = [
        {**each, "time": datetime.fromtimestamp(float(str(each["time"])) / 1_000, UTC).isoformat()} for each in events
    ]
    assert list(demo_data.sessions_of(written)) == sessions


def test_clicks_of_the_eshop_have_names_for_its_codes(tmp_path):
    """What scripts/demo makes of the e-shop's file is replayed as it stands."""
    told = (
        "year;month;day;order;country;session ID;page 1 (main category);page 2 (clothing model);colour;location;"
        "model photography;price;price 2;page\n"
        "2008;4;2;1;29;2;2;B4;10;5;1;52;1;1\n2008;4;1;1;29;1;1;A13;1;5;1;28;2;1\n2008;4;1;2;29;1;1;A16;15;6;1;33;2;1\n"
    )
    program = Path(__file__).parents[3] / "scripts" / "eshop_clicks.awk"
    made = subprocess.run(["awk", "-f", program], input=told, capture_output=True, text=True, check=True)
    file = tmp_path / "eshop.csv"
    file.write_text(made.stdout)
    named = {f"attributes.{name}": name for name in ("category", "colour", "price")}
    data = demo_data.find_data(file, ColumnOptions(columns=named), 10)
    assert [each.clicks for each in data.sessions] == [("A13", "A16"), ("B4",)]
    assert data.label("A13") == "A13 (beige trousers, $28)"
    assert data.label("A16") == "A16 (other trousers, $33)"
    priced = demo_data.DemoData("", "", (), {"a": {"price": 1_293.3}})
    assert priced.label("a") == "a ($1,293.30)"


def test_a_file_without_sessions_is_told(tmp_path):
    """A file whose columns are not mapped says what to map."""
    file = tmp_path / "a.csv"
    file.write_text("visitor,sku\n1,2\n")
    with pytest.raises(Invalid, match="item_id=COLUMN"):
        demo_data.find_data(file, ColumnOptions(), 10)
    mapped = ColumnOptions(columns={"user_id": "visitor", "item_id": "sku"})
    assert demo_data.find_data(file, mapped, 10).sessions[0].clicks == ("2",)


@pytest.mark.long
def test_demo_runs_without_data(monkeypatch, capsys):
    """Where no data is named the simulator takes its place, says so, and all of the demo runs."""
    for module, name in ((demo, "TOTAL_S"), (demo, "REPLAY_S_MIN"), (demo_replay, "SECOND_HALF_S_MIN")):
        monkeypatch.setattr(module, name, PATIENCE_S)
    monkeypatch.setattr(training, "CONFIG", training.CONFIG.replace('"45s"', f'"{PATIENCE_S:.0f}s"'))
    with pytest.raises(SystemExit) as left:
        main(["demo", "--sessions", "40", "--no-pause"])
    said = capsys.readouterr().out
    assert left.value.code == 0, said
    assert "simulated" in said
    assert "compiles for about a minute" in said
    assert "40 of 40" in said
    assert "frozen at half time" in said
    assert "0 answers had not seen it" in said
    assert "midstream import" in said
    assert said.count("recommended before") == 3
    assert "midstream, with the trained model" in said
    assert "was trained at half time" in said
    questions = re.search(r"with the trained model, 0\.\d+ without, same (\d+) questions", said)
    assert questions is not None, said
    assert int(questions[1]) > 20
    assert "lift" in said.split("same", 1)[1]


@pytest.mark.parametrize("refusal, hint", [("time_max of 45 s is over", True), ("no clicks", False)])
def test_a_training_whose_time_is_over_may_be_one_that_compiled(monkeypatch, tmp_path, refusal, hint):
    """Whoever starts the demo for the first time is told that a second one trains."""

    def refuse(*_: object) -> None:
        raise StoreUnavailable(refusal)

    monkeypatch.setattr(training, "train_and_promote", refuse)
    said = str(training.train_beside(tmp_path, Config()))
    assert said.startswith(f"No model was trained: {refusal}")
    assert said.endswith("run the demo again") == hint


def test_a_slow_start_leaves_time_for_sessions(monkeypatch, capsys):
    """Where the start, and the training then, took all of the time the demo still goes on, and without a model too."""
    monkeypatch.setattr(demo, "REPLAY_S_MIN", 2.0)

    def train_too_long(*_: object) -> training.Training:
        time.sleep(2.5)
        return training.Training(2.5, None, "its time is over")

    monkeypatch.setattr(demo_replay, "train_beside", train_too_long)
    monkeypatch.setattr(demo, "TOTAL_S", -10.0)
    monkeypatch.setattr(demo_replay, "SECOND_HALF_S_MIN", PATIENCE_S)
    with pytest.raises(SystemExit) as left:
        main(["demo", "--sessions", "20", "--no-pause"])
    said = capsys.readouterr().out
    assert left.value.code == 0, said
    assert "20 of 20" in said
    assert "No model was trained: its time is over" in said
    assert "nothing can be said of a lift" in said


def test_import_goes_through_the_server_that_has_the_folder(tmp_path):
    """An import beside a running server is recorded by it, once; the server's folder has every event."""
    file = tmp_path / "a.csv"
    file.write_text("type,user_id,item_id\n" + "".join(f"view,u{n},i{n % 7}\n" for n in range(1_200)))
    with running_server(tmp_path, lambda _: None) as url:
        first = import_file(tmp_path, Config(), file)
        assert (first.recorded, first.through) == (1_200, url)
        again = import_file(tmp_path, Config(), file)
        assert (again.recorded, again.known) == (0, 1_200)
    assert LogView(tmp_path).end == 1_200
    assert not (tmp_path / "data" / "server.url").exists()


def test_a_server_that_does_not_start_says_why(tmp_path):
    """What it said last is in the error."""
    (tmp_path / "midstream.toml").write_text("nonsense = 1\n")
    with pytest.raises(StoreUnavailable, match="nonsense"), running_server(tmp_path, lambda _: None):
        pytest.fail("it started")
