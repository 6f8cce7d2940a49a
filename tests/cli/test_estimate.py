"""``midstream estimate`` prints values, or why there are none; a starter shop explores, so that there are some."""

import json

import pytest

from midstream.app.opening import config_of, open_shop
from midstream.cli.app import main
from midstream.ranking.selectors.plackett_luce import PlackettLuce


@pytest.fixture
def run(capfd):
    """Return a function that runs a command and gives its exit status, standard output and standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(each) for each in arguments])
        said = capfd.readouterr()
        return left.value.code, said.out, said.err

    return call


def test_a_new_shop_explores_below_two_places_and_says_what_for(tmp_path, run):
    """The sentence stands above the selector, and the other settings are as the template has them."""
    assert run("init", tmp_path)[0] == 0
    first = config_of(tmp_path).placements[0]
    assert first.selector == PlackettLuce(temperature=0.1, keep=2)
    text = (tmp_path / "midstream.toml").read_text("utf-8")
    assert "# It costs a little order there, and buys that `midstream estimate`" in text
    assert 'selector = { kind = "top_k" }' not in text


def test_an_estimate_of_a_shop(tmp_path, run):
    """Slates of 250 visitors who click on the first item: the same placement is worth a click a slate, one that puts
    other items first cannot be estimated, and wrong rewards are refused.
    """
    assert run("init", tmp_path)[0] == 0
    assert run("import", tmp_path / "example.ndjson", "-f", tmp_path)[0] == 0
    with open_shop(tmp_path, config_of(tmp_path)) as shop:
        for user in range(250):
            slate = shop.recommend("default", user_id=f"new-{user}", n=4)
            act = {"type": "click", "user_id": f"new-{user}", "item_id": slate.items[0].id}
            shop.record({**act, "request_id": slate.request_id})
    status, out, err = run("estimate", "default", "-f", tmp_path, "--reward", "click=1", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert (found["slates"], found["left_out"], found.get("reason")) == (250, {}, None)
    assert found["report"]["logged"]["value"] == 1.0
    status, out, err = run("estimate", "default", "-f", tmp_path, "--reward", "click=1")
    assert (status, "snrips" in out, "1.0000" in out) == (0, True, True)
    assert "250 slates of default run again, 250 users" in err
    assert "go by cascade_dr" in err
    assert "reward model: distinguishes" in err
    places_and_names = ("--places", "1", "--estimator", "dr", "--estimator", "dm", "--estimator", "snipw")
    status, out, err = run("estimate", "default", "-f", tmp_path, "--reward", "click=1", *places_and_names)
    assert (status, "go by dr" in err) == (0, True)
    assert [line.split("│")[1].strip() for line in out.splitlines() if "│" in line] == [
        "dr", "dm", "snipw", "as logged",
    ]  # fmt: skip
    assert "dm: its error is its model's" in err
    status, out, _ = run("estimate", "default", "-f", tmp_path, "--reward", "click=1", "--estimator", "all")
    assert status == 0
    assert "dr_os: cannot be estimated: it is of single choices" in out
    names = ["sips", "rips", "snrips", "rips_clipped", "cascade_dr", "as logged"]
    assert [line.split("│")[1].strip() for line in out.splitlines() if "│" in line] == names  # no line is wrapped
    for name in ("iips", "dm", "rips_clipped"):
        status, _, err = run("estimate", "default", "-f", tmp_path, "--reward", "click=1", "--estimator", name)
        assert (status, "nothing to go by" in err, f"go by {name}" in err) == (0, True, False)
    status, _, err = run("estimate", "default", "-f", tmp_path, "--estimator", "casade_dr")
    assert (status, 'Nearest: "cascade_dr"' in err) == (2, True)
    status, _, err = run("estimate", "default", "-f", tmp_path, "--reward", "click=nan")
    assert (status, "nan came" in err) == (2, True)
    file = tmp_path / "other.toml"
    file.write_text('sources = [{ kind = "recent_items" }]\n', "utf-8")
    status, out, _ = run("estimate", "default", file, "-f", tmp_path)
    assert status == 0
    assert out.startswith("default cannot be estimated: ")
    status, _, err = run("estimate", "default", "-f", tmp_path, "--reward", "click")
    assert (status, "ACTION=NUMBER" in err) == (2, True)
    assert run("estimate", "nowhere", "-f", tmp_path)[0] == 1


def test_a_placement_that_is_not_there_is_told_from_those_that_are(tmp_path, run):
    """An estimate names them; a history without decisions says so and is no fault."""
    assert run("init", tmp_path)[0] == 0
    status, _, said = run("estimate", "hom", "-f", tmp_path)
    assert status == 1
    assert "Placements: default" in said
    status, told, said = run("training", "history", "-f", tmp_path)
    assert (status, "no decision is kept" in told + said) == (0, True)
    assert json.loads(run("training", "history", "--json", "-f", tmp_path)[1]) == {"decisions": []}
