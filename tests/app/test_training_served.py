"""From the log to the answer: a model is trained and promoted, answers, and goes by the click that came after it."""

from pathlib import Path

import numpy as np
import pytest

from midstream.app.opening import config_of, open_shop
from midstream.app.operate.model_registry import promote
from midstream.app.training.run import train
from midstream.cli.app import main
from midstream.engine.recommender import Recommender
from tests.support.libraries import library
from tests.support.patience import wait_until

GROUPS, IN_GROUP = 4, 6
KINDS = [
    ("als", "als"),
    ("als", "bpr"),
    ("ease", "ease"),
    ("ease", "rp3beta"),
    ("graph", "graph_filter"),
    pytest.param("sequence", "sasrec", marks=pytest.mark.integration),
    pytest.param("two_tower", "two_tower", marks=pytest.mark.integration),
    ("hybrid", "blend"),
]
OPTIONS = {
    "ease": "options = { regularization = 2.0 }",
    # So few acts take many epochs; what came last is what it goes by.
    "sasrec": "options = { factors = 16, epochs = 60, learning_rate = 0.01, dropout = 0.1, threads = 1 }",
}


def toml(source: str, kind: str) -> str:
    """A shop with one model, and a placement that it answers."""
    return f"""
[[models]]
name = "taste"
kind = "{kind}"
{OPTIONS.get(kind, "")}

[[placements]]
name = "home"
sources = [{{ kind = "{source}", model = "taste" }}]
"""


def fill(shop: Recommender) -> None:
    """Let users each act on items of one of four groups."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        acts = [
            {"type": "view", "user_id": f"u{user}", "item_id": f"g{user % GROUPS}-{rng.integers(IN_GROUP)}"}
            for user in range(40)
        ]
        shop.record(acts)


def by_model(shop: Recommender, source: str, user: str) -> tuple[dict[str, str], str]:
    """Return the versions that an answer names, and the group of its best item that the source proposed, "" = none."""
    answer = shop.recommend("home", user_id=user, n=5, deadline_ms=5_000)
    assert answer.tier == "full"
    assert answer.failures == ()
    # The served event is appended some milliseconds after the answer.
    wait_until(lambda: shop.running.engine.served(answer.request_id))
    record = shop.running.engine.served(answer.request_id)
    assert record is not None
    proposed = [each.id[:2] for each in record.items if source in each.sources]
    return dict(answer.models), proposed[0] if proposed else ""


@pytest.mark.parametrize("source, kind", KINDS)
def test_a_model_of_yesterday_answers_the_last_click(tmp_path: Path, source: str, kind: str) -> None:
    """Untrained it proposes nothing and fails nothing; promoted it is named; a new click changes it untrained."""
    if kind in {"sasrec", "two_tower"}:
        for each in ("torch", "onnx", "onnxscript"):
            library(each)
    (tmp_path / "midstream.toml").write_text(toml(source, kind))
    with open_shop(tmp_path) as shop:
        fill(shop)
        assert by_model(shop, source, "u1") == ({}, "")
    config = config_of(tmp_path)
    version = train(tmp_path, config, "taste").version
    assert (tmp_path / f"data/models/taste/{version}/network.onnx").is_file() == (kind == "sasrec")
    promote(tmp_path, config, "taste", version)
    with open_shop(tmp_path) as shop:
        shop.record({"type": "view", "user_id": "newcomer", "item_id": "g2-0"})
        models, group = by_model(shop, source, "newcomer")
        assert models == {"taste": version}
        assert group == "g2"
        # Three, as BPR reads no weights: of one act in each of two groups either may come first.
        shop.record([{"type": "purchase", "user_id": "newcomer", "item_id": f"g3-{each}"} for each in (1, 3, 4)])
        models, group = by_model(shop, source, "newcomer")
        assert models == {"taste": version}
        assert group == "g3"


def test_one_command_trains_and_lets_the_model_answer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What it fitted and what that is worth is printed."""
    (tmp_path / "midstream.toml").write_text(toml("ease", "ease"))
    with open_shop(tmp_path) as shop:
        fill(shop)
    with pytest.raises(SystemExit) as left:
        main(["train", "taste", "--promote", "-f", str(tmp_path)])
    said = capfd.readouterr()
    assert left.value.code == 0, said.err
    assert "NDCG@20" in said.out
    with open_shop(tmp_path) as shop:
        models, group = by_model(shop, "ease", "u1")
        assert models["taste"] in said.out
        assert group == "g1"
    with pytest.raises(SystemExit) as left:
        main(["train", "tast", "-f", str(tmp_path)])
    assert left.value.code == 1
    assert "taste" in capfd.readouterr().err


CONTENT = """
[items.attributes]
colour = "category"

[[models]]
name = "alike"
kind = "content"

[[placements]]
name = "home"
sources = [{ kind = "content", model = "alike" }]
"""


def put(item: str, colour: str) -> dict[str, object]:
    """Return an item of a colour."""
    return {"type": "item", "operation": "put", "item_id": item, "attributes": {"colour": colour, "price": 3}}


def test_content_finds_what_nobody_has_acted_on(tmp_path: Path) -> None:
    """Trained by name; an item that came after the training is proposed at once, to who acted on one like it."""
    (tmp_path / "midstream.toml").write_text(CONTENT)
    config = config_of(tmp_path)
    colours = ("red", "blue", "green")
    with open_shop(tmp_path) as shop:
        shop.record([put(f"{colour}-{number}", colour) for colour in colours for number in range(3)])
        shop.record([{"type": "view", "user_id": "ann", "item_id": f"{colour}-0"} for colour in colours])
    promote(tmp_path, config, "alike", train(tmp_path, config, "alike").version)

    def proposed(shop: Recommender) -> set[str]:
        answer = shop.recommend("home", user_id="bob", n=20, deadline_ms=5_000)
        assert (answer.tier, answer.failures) == ("full", ())
        # The served event is appended some milliseconds after the answer.
        wait_until(lambda: shop.running.engine.served(answer.request_id))
        record = shop.running.engine.served(answer.request_id)
        assert record is not None
        return {each.id for each in record.items if "content" in each.sources}

    with open_shop(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "bob", "item_id": "blue-1"}, put("blue-new", "blue")])
        assert proposed(shop) == {"blue-0", "blue-2", "blue-new"}
    promote(tmp_path, config, "alike", train(tmp_path, config, "alike").version)
    with open_shop(tmp_path) as shop:
        assert proposed(shop) == {"blue-0", "blue-2", "blue-new"}
