"""The configuration file: defaults, faults in four parts, all of them together."""

import tomllib
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midstream.app.config.effective import drafted
from midstream.app.config.reader import parse_config, told_config
from midstream.app.config.schema import Config, Placement
from midstream.app.config.template import template
from midstream.app.opening import config_of
from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, Fault
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending
from midstream.state.settings import FoldSettings

TWO_HALF_LIVES = """
[trending]
segment = "user.country"
[[placements]]
sources = [{ kind = "popular", half_life = "1h" }, { kind = "trending", by_segment = true }]
"""


VIEWS = '[[features]]\nname = "views"\nkind = "count"\nactions = ["view"]'
"""A feature that counts views of an item."""


def faults_of(text: str) -> dict[str, str]:
    """Where → the whole fault as text."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(text)
    return {fault.where: str(fault) for fault in caught.value.faults}


def test_an_empty_file_and_no_file_are_the_default(tmp_path: Path):
    """A working engine with one placement."""
    assert parse_config("") == Config() == config_of(tmp_path)
    assert [placement.name for placement in Config().placements] == ["default"]
    assert Config().fold_settings() == FoldSettings()


def test_the_template_reads_back_as_the_default():
    """What init writes changes nothing."""
    assert parse_config(template()) == Config()


def test_the_template_states_every_setting():
    """Each setting stands in the file with its default; those without one stand in a comment, as do tables of which
    there is none.
    """

    def stated(told: object, default: object, where: str) -> None:
        if isinstance(default, dict):
            assert isinstance(told, dict), where
            for key, each in default.items():
                if each is None:
                    assert f"{key} = " in template(), f"{where}.{key}"
                elif each == [] and where == "$":
                    assert f"\n# [[{key}]]\n" in template(), f"{where}.{key}"
                else:
                    assert key in told, f"{where}.{key}"
                    stated(told[key], each, f"{where}.{key}")
        elif isinstance(default, list):
            for number, each in enumerate(default):
                stated(told[number], each, f"{where}[{number}]")  # type: ignore[index]

    stated(tomllib.loads(template()), msgspec.json.decode(msgspec.json.encode(Config(), enc_hook=str)), "$")


def test_the_example_of_the_template_can_be_used():
    """The declaration that stands there as a comment is one, and a placement reads it."""
    example = template().partition("# [[features]]")[2].partition("\n\n")[0].replace("\n# ", "\n")
    placement = '[[placements]]\nfeatures = ["item_purchase_rate"]\nlog_features = 0.01\n'
    config = parse_config(f"[[features]]{example}\n{placement}")
    assert [each.name for each in config.features] == ["item_purchase_rate"]
    assert {cell.scope for cell in config.fold_settings().cells} == {"item", "global"}


def test_every_setting_of_the_template_has_a_comment():
    """A line that says what a setting does stands above each, its own or its table's."""
    lines = template().splitlines()
    for number, line in enumerate(lines):
        if " = " in line and not line.startswith(("#", "view", "click", "cart", "purchase", "dismiss")):
            assert lines[number - 1].startswith(("#", "[")), line


def test_the_example_of_an_error():
    """A wrong source is one fault of four parts with the nearest name."""
    found = faults_of('[[placements]]\nsources = [{ kind = "trending" }, { kind = "sesion_knn" }]')
    assert found == {
        "midstream.toml: $.placements[0].sources[1].kind": (
            "midstream.toml: $.placements[0].sources[1].kind\n"
            '  "sesion_knn" is not a source. Nearest: "session_knn".\n'
            "  Sources: als, content, covisitation, custom, ease, editorial, graph, hybrid, nearest, popular, "
            "recent_items, recently_viewed, repeat, sequence, session_knn, similar, similar_users_items, "
            "text_search, trending, two_tower\n"
            "  midstream docs sources"
        )
    }


def test_a_number_out_of_bounds_hides_nothing():
    """Bounds of types and of relations, unknown names and what goes together are told at once, each once."""
    text = """
        [snapshots]
        keep = 1
        [[features]]
        name = "seen"
        kind = "count"
        actions = ["veiw"]
        [[placements]]
        slate_size = 0
        filter = "item.prise > 3"
        weights = { trendign = 1.0 }
        caps = [{ attribute = "brand", max = 200 }, { attribute = "brnad", max = 0 }]
        diversity = { attribute = "brand", weight = 0 }
        rules = [{ kind = "boost", name = "new", where = "item.prise < 3", factor = 5000 }]
        """
    with pytest.raises(ConfigInvalid) as refused:
        parse_config(text)
    wheres = [each.where.removeprefix("midstream.toml: ") for each in refused.value.faults]
    for where in (
        "$.placements[0].caps[0].max",
        "$.placements[0].caps[1].max",
        "$.placements[0].diversity.weight",
        "$.placements[0].rules[0].factor",
        "$.placements[0].slate_size",
        "$.placements[0].filter",
        "$.placements[0].rules[0].where",
        "$.placements[0].weights.trendign",
        "$.snapshots.keep",
        "$.features[0].actions[0]",
    ):
        assert wheres.count(where) == 1, (where, wheres)


def test_sources_of_a_placement_are_named_once():
    """Where a weight names none of them, though a source is there by default and in the file."""
    text = """
        [[placements]]
        sources = [{ kind = "covisitation" }, { kind = "trending" }]
        weights = { trendign = 1.0 }
        """
    (fault,) = faults_of(text).values()
    (right,) = (line for line in fault.splitlines() if "Sources: " in line)
    names = right.strip().removeprefix("Sources: ").removesuffix(".").split(", ")
    assert len(names) == len(set(names))
    assert {"covisitation", "trending"} <= set(names)


def test_all_faults_are_reported_together():
    """Each wrong value anywhere in the file is named at once."""
    found = faults_of(
        """
        unheard = 1
        [events.types]
        view = { wight = 2.0 }
        [items.attributes]
        price = "numbr"
        look = "vector:1025"
        shape = "vector:0"
        style = "vector:8\\n"
        size = 8
        [sessions]
        gap = "30"
        [limits]
        users_max = "many"
        [snapshots]
        mode = "while_servin"
        [[placements]]
        name = 3
        sources = [{ kind = "session_knn", neighbours_max = 0 }, { limit = 3 }, "popular"]
        selector = { kind = "topk" }
        """
    )
    assert [where.removeprefix("midstream.toml: ") for where in found] == [
        "$.unheard",
        "$.events.types.view.wight",
        *(f"$.items.attributes.{name}" for name in ("price", "look", "shape", "style", "size")),
        "$.sessions.gap",
        "$.limits.users_max",
        "$.snapshots.mode",
        "$.placements[0].name",
        "$.placements[0].sources[0].neighbours_max",
        "$.placements[0].sources[1]",
        "$.placements[0].sources[2]",
        "$.placements[0].selector.kind",
    ]
    text = "\n".join(found.values())
    for says in (
        'Nearest: "weight"',
        'Nearest: "number"',
        "One of: number, category, tags, boolean, vector:8; a vector has 1 to 1024 numbers.",
        'A duration such as "30m"',
        "A whole number from 1 to 2,147,483,647.",
        'Nearest: "while_serving"',
        "A text.",
        "A whole number from 1 to 1,000.",
        'Nearest: "top_k"',
    ):
        assert says in text


RECENT = '[[placements]]\nrepeats = "any"\nsources = [{ kind = "recently_viewed", actions = ["view"] }]\n'


@pytest.mark.parametrize(
    "text, where, says",
    [
        ('[[placements]]\nname = "a"\n[[placements]]\nname = "a"', "placements[1].name", "there already"),
        ('[[placements]]\nsources = [{kind="trending"},{kind="trending"}]', "placements[0].sources[1].name", "there"),
        (
            '[[placements]]\nsources = [{ kind = "repeat" }]',
            "placements[0].repeats",
            '"not_last" removes items of the session that the source repeat proposes.\n  repeats = "any"',
        ),
        (
            '[[placements]]\nrepeats = "any"\nexclude = { purchase = "8d" }\n[[placements.sources]]\nkind = "repeat"',
            "placements[0].exclude.purchase",
            'An age of at most its min_gap, such as "1d", or nothing.',
        ),
        (
            '[[placements]]\nrepeats = "any"\nsources = [{ kind = "repeat" }]\nexclude = { purchase = 3 }',
            "placements[0].exclude.purchase",
            "3 removes what the source repeat proposes",
        ),
        (
            '[[placements]]\nsources = [{ kind = "recently_viewed" }]',
            "placements[0].repeats",
            '"not_last" removes items of the session that the source recently_viewed proposes.\n  repeats = "any"',
        ),
        (
            '[[placements]]\nrepeats = "any"\nsources = [{ kind = "recently_viewed", actions = ["viw"] }]',
            "placements[0].sources[0].actions[0]",
            'Nearest: "view"',
        ),
        (
            RECENT + 'exclude = { view = "90d" }',
            "placements[0].exclude.view",
            'An age below its max_age, "90d", a count of at least 2, or nothing.',
        ),
        (
            RECENT + "exclude = { view = 1 }",
            "placements[0].exclude.view",
            "1 removes what the source recently_viewed proposes",
        ),
        (
            '[[placements]]\nsources = [{ kind = "similar_users_items", entries_max = 501 }]',
            "placements[0].sources[0].entries_max",
            "From 1 to 500",
        ),
        (
            '[[placements]]\nsources = [{ kind = "similar_users_items", neighbour_items_max = 51 }]',
            "placements[0].sources[0].neighbour_items_max",
            "From 1 to 50",
        ),
        (
            '[[placements]]\nsources = [{ kind = "similar_users_items", last_items_max = 3, overlap_min = 4 }]',
            "placements[0].sources[0].overlap_min",
            "From 1 to 3",
        ),
        (
            '[[placements]]\nsources = [{ kind = "similar_users_items", neighbours_max = 2 }]',
            "placements[0].sources[0].users_min",
            "From 1 to 2",
        ),
        (
            '[[placements]]\nsources = [{ kind = "similar_users_items", actions = ["viw"] }]',
            "placements[0].sources[0].actions[0]",
            'Nearest: "view"',
        ),
        (
            '[[placements]]\nrepeats = "any"\nsources = [{ kind = "repeat", actions = ["view", "purchse"] }]',
            "placements[0].sources[0].actions[1]",
            'Nearest: "purchase"',
        ),
        (
            '[[placements]]\nrepeats = "any"\nsources = [{ kind = "repeat", actions = [] }]',
            "placements[0].sources[0].actions",
            "Some of: cart",
        ),
        (
            '[[placements]]\nsources = [{ kind = "recent_items", limit = 1001 }]',
            "placements[0].sources[0].limit",
            "From 1 to 1,000",
        ),
        (
            '[[placements]]\nsources = [{ kind = "recent_items", half_life = "366d" }]',
            "placements[0].sources[0].half_life",
            "from 1m to 365d",
        ),
        ('[trending]\nsegment = "country"', "trending.segment", "names no attribute of a user or a context"),
        ('[trending]\nsegment = "item.country"', "trending.segment", 'such as "user.country"'),
        ('[trending]\nsegment = "user."', "trending.segment", 'such as "user.country"'),
        ("[limits]\nsegment_values_max = 32767", "limits.segment_values_max", "from 1 to 32,766"),
        (
            '[[placements]]\nsources = [{ kind = "trending", by_segment = true }]',
            "placements[0].sources[0].by_segment",
            "There is no [trending] segment.",
        ),
        (
            '[[placements]]\nsources = [{ kind = "trending", segment_prior = 0.5 }]',
            "placements[0].sources[0].segment_prior",
            "from 1 to 1,000,000",
        ),
        (
            TWO_HALF_LIVES,
            "placements[0].sources[1].half_life",
            '"1h", or no shorter one elsewhere',
        ),
        ("[[placements]]\nslate_size = 30\nslate_size_max = 20", "placements[0].slate_size", "slate_size_max, 20"),
        ("[[placements]]\nslate_size_max = 101", "placements[0].slate_size_max", "from 1 to 100"),
        ("[[placements]]\ncandidates_max = 99", "placements[0].candidates_max", "from 100 to 500"),
        ("[[placements]]\ncandidates_max = 501", "placements[0].candidates_max", "from 100 to 500"),
        ("[[placements]]\nweights = { trendng = 1.0 }", "placements[0].weights.trendng", 'Nearest: "trending"'),
        ("[[placements]]\nweights = { trending = nan }", "placements[0].weights.trending", "from 0 to 1,000,000"),
        ("[[placements]]\nweights = { trending = -1.0 }", "placements[0].weights.trending", "from 0 to 1,000,000"),
        ("[[placements]]\nweights = { trending = 1e300 }", "placements[0].weights.trending", "from 0 to 1,000,000"),
        ('[[placements]]\nexclude = { purchse = "30d" }', "placements[0].exclude.purchse", 'Nearest: "purchase"'),
        ('[[placements]]\nexclude = { purchase = "30" }', "placements[0].exclude.purchase", 'An age such as "30d"'),
        ("[[placements]]\nexclude = { impression = 0 }", "placements[0].exclude.impression", "From 1"),
        ("[[placements]]\nexclude = { view = 51 }", "placements[0].exclude.view", "From 1 to 50"),
        (
            '[items.attributes]\nb = "category"\n[[placements]]\ncaps = [{ attribute = "b", max = 5, within = "8d" }]',
            "placements[0].caps[0].within",
            '[feedback] window, "7d"',
        ),
        (
            (
                '[items.attributes]\nb = "category"\n[[placements]]\n'
                'caps = [{ attribute = "b", max = 2, within = "1d" }, { attribute = "b", max = 5, within = "1d" }]'
            ),
            "placements[0].caps[1].attribute",
            "once for each time",
        ),
        ('[[placements]]\nexclude = { served = "8d" }', "placements[0].exclude.served", '[feedback] window, "7d"'),
        ('[[placements]]\nexclude = { served = "soon" }', "placements[0].exclude.served", 'An age such as "24h"'),
        ("[[placements]]\nexclude = { served_anywhere = 0 }", "placements[0].exclude.served_anywhere", "From 1 to 100"),
        ('[[placements]]\nexclude = { servd = "1h" }', "placements[0].exclude.servd", 'Nearest: "served"'),
        (
            '[events.types]\nserved_anywhere = {}\n[[placements]]\nexclude = { served_anywhere = "1h" }',
            "placements[0].exclude.served_anywhere",
            "Another name for the interaction",
        ),
        ("[[placements]]\nexclude = { impression = 65536 }", "placements[0].exclude.impression", "65,535"),
        ('[[placements]]\nfilter = "item.prize < 3"', "placements[0].filter", "column 1"),
        ('[[placements]]\nsources = [{kind="popular", limit=1001}]', "placements[0].sources[0].limit", "1,000"),
        (
            '[[placements]]\nsources = [{kind="session_knn", entries_max=501}]',
            "placements[0].sources[0].entries_max",
            "500",
        ),
        ('[[placements]]\ndeadline = "0ms"', "placements[0].deadline", "from 1ms to 1m"),
        ("placements = []", "placements", "From 1"),
        ("[server]\nbody_bytes_max = 0", "server.body_bytes_max", "from 1,024"),
        ("[server]\nconnections_max = 0", "server.connections_max", "from 1 to 65,535"),
        ("[server]\nbulk_decodes_max = -1", "server.bulk_decodes_max", "from 1 to 10,000"),
        ('[server]\ncommit_wait_max = "0ms"', "server.commit_wait_max", "from 1ms to 1h"),
        ('[server]\nkeep_alive = "500ms"', "server.keep_alive", "from 1s to 1h"),
        ("[events.types]\nserved = {}", "events.types.served", "another kind of event"),
        ("[events.types]\nItem = {}", "events.types.Item", "another kind of event"),
        ("[events.types]\nUSER = {}", "events.types.USER", "another kind of event"),
        (f'[events.types]\n"{33 * "é"}" = {{}}', f"events.types.{33 * 'é'}", "66 bytes"),
        ("[events.types]\nview = { weight = nan }", "events.types.view.weight", "nan came"),
        ('[items.attributes]\navailable = "boolean"', "items.attributes.available", "always there"),
        ('[items.attributes]\nclass = "category"', "items.attributes.class", "cannot be written in a filter"),
        ('[items.attributes]\n"a-b" = "category"', "items.attributes.a-b", "cannot be written in a filter"),
        ("[snapshots]\nkeep = 1", "snapshots.keep", "from 2 to 100"),
        ("[limits]\nclick_items_max = 300000", "limits.click_items_max", "items_max"),
        ("[limits]\nusers_max = 0", "limits.users_max", "from 1 to 2,147,483,647"),
        ("[limits]\nindex_items_max = 256", "limits.index_items_max", "from 1 to 255"),
        (
            "[limits]\nusers_max = 2147483647\nsessions_max = 2147483647\nevent_ids_max = 2147483647",
            "limits",
            "GiB of them users",
        ),
        (f"{VIEWS}\n{VIEWS}", "features[1].name", '"views"'),
        ('[[features]]\nname = "a"\nkind = "cuont"\nactions = ["view"]', "features[0].kind", 'Nearest: "count"'),
        ('[[features]]\nname = "a"\nkind = "count"\nactions = "view"', "features[0].actions", 'A list: ["view"].'),
        (VIEWS.replace("view", "vieew"), "features[0].actions[0]", 'Nearest: "view"'),
        (f'{VIEWS}\nscope = "itm"', "features[0].scope", 'Nearest: "item"'),
        (f'{VIEWS}\nscop = "item"', "features[0].scop", 'Nearest: "scope"'),
        (f'{VIEWS}\nwindows = ["24"]', "features[0].windows[0]", 'A duration such as "30m"'),
        (f'{VIEWS}\nscope = "attribute"\nattribute = "brand"', "features[0].attribute", "brand"),
        (f'{VIEWS}\n[[placements]]\nfeatures = ["views", "vews"]', "placements[0].features[1]", 'Nearest: "views"'),
        (f'{VIEWS}\n[[placements]]\nfeatures = ["views", "views"]', "placements[0].features[1]", "there already"),
        ('[[placements]]\nfeatures = ["views"]', "placements[0].features[0]", "there is none"),
        (f"{VIEWS}\n[[placements]]\nlog_features = 0.1", "placements[0].log_features", "reads no features"),
        (
            f'{VIEWS}\n[[placements]]\nfeatures = ["views"]\nlog_features = 1.5',
            "placements[0].log_features",
            "from 0 to 1",
        ),
        (
            f'{VIEWS}\nscope = "user_item"\n[limits]\nfeature_user_items_max = 2147483647',
            "limits",
            "What 1 [[features]] count takes",
        ),
        ("[server]\nport = 70000", "server.port", "from 0 to 65,535"),
    ],
)
def test_relations_between_values_are_checked(text, where, says):
    """What no single value can say is a fault of four parts as well."""
    (fault,) = [each for place, each in faults_of(text).items() if place == f"midstream.toml: $.{where}"]
    assert says in fault
    assert fault.splitlines()[-1].startswith("  midstream docs ")


@pytest.mark.parametrize(
    "kind, option, value, right",
    [
        ("similar", "evidence", "0.0", "from 0.001 to 1,000,000"),
        ("similar", "evidence", "-1.0", "from 0.001 to 1,000,000"),
        ("similar", "evidence", "nan", "from 0.001 to 1,000,000"),
        ("similar", "limit", "0", "from 1 to 1,000"),
        ("similar", "limit", "1001", "from 1 to 1,000"),
        ("similar", "pairs_min", "-1", "from 0 to 1,000"),
        ("similar", "pairs_min", "1001", "from 0 to 1,000"),
        ("recently_viewed", "limit", "0", "from 1 to 1,000"),
        ("recently_viewed", "limit", "1001", "from 1 to 1,000"),
        ("similar_users_items", "limit", "1001", "from 1 to 1,000"),
        ("similar_users_items", "last_items_max", "51", "from 1 to 50"),
        ("similar_users_items", "neighbours_max", "201", "from 1 to 200"),
        ("similar_users_items", "neighbours_max", "0", "from 1 to 200"),
        ("repeat", "limit", "0", "from 1 to 1,000"),
        ("repeat", "limit", "1001", "from 1 to 1,000"),
        ("repeat", "early", "-0.1", "from 0 to 1"),
        ("repeat", "early", "1.1", "from 0 to 1"),
        ("repeat", "early", "nan", "from 0 to 1"),
    ],
)
def test_the_options_of_a_source_are_bounded(kind, option, value, right):
    """What it could not answer with, as an evidence of 0 that it would divide by, is refused where it stands."""
    text = f'[[placements]]\nrepeats = "any"\nsources = [{{ kind = "{kind}", {option} = {value} }}]'
    (fault,) = [
        each
        for place, each in faults_of(text).items()
        if place == f"midstream.toml: $.placements[0].sources[0].{option}"
    ]
    assert f"{value} came" in fault
    assert right in fault


def test_what_repeat_and_exclude_agree_on_is_no_fault():
    """Bought in the last week: not yet; before that: again."""
    config = parse_config(
        '[[placements]]\nrepeats = "any"\nsources = [{ kind = "repeat", min_gap = "7d" }]\n'
        'exclude = { purchase = "7d", view = 3, impression = 5 }'
    )
    assert len(config.placements[0].exclude) == 3


def test_what_recently_viewed_and_exclude_agree_on_is_no_fault():
    """Viewed in the last hour: not yet; bought: not at all, where views alone are proposed or any act is."""
    for actions in ('actions = ["view"]', "actions = []"):
        config = parse_config(
            '[[placements]]\nrepeats = "any"\nexclude = { view = "1h", purchase = 1 }\n'
            f'[[placements.sources]]\nkind = "recently_viewed"\n{actions}'
        )
        assert len(config.placements[0].exclude) == 2


@pytest.mark.parametrize("text", ["[", "a = ", b"\xff", "a = 1\na = 2"])
def test_what_is_not_toml_is_one_fault(text):
    """With what the parser says of it."""
    with pytest.raises(ConfigInvalid, match="It is not TOML"):
        parse_config(text)


def test_a_half_life_in_use_gets_its_list():
    """Lists are kept for the default half-lives and for all in use, whatever the order of the file."""
    text = '[[placements]]\nsources = [{kind="trending", half_life="1h"}, {kind="popular", half_life="30d"}]'
    expected = tuple(Duration(each) for each in ("1h", "6h", "7d", "30d"))
    assert parse_config(text).fold_settings().half_lives == expected


def test_the_hash_is_of_the_effective_configuration():
    """A default that is spelled out changes nothing, another value does."""
    assert parse_config(template()).config_hash == Config().config_hash
    assert parse_config('[sessions]\ngap = "1800s"').config_hash == Config().config_hash
    assert parse_config('[sessions]\ngap = "31m"').config_hash != Config().config_hash
    assert parse_config("[[placements]]\nslate_size = 9").fold_settings() == Config().fold_settings()


def test_options_reach_the_component():
    """What the file says is what the component holds."""
    text = '[[placements]]\nsources = [{kind="session_knn", limit=50, sharpness="1"}, {kind="trending", name="hot"}]'
    assert parse_config(text).placements == (
        Placement(sources=(SessionKnn(limit=50, sharpness="1"), Trending(name="hot"))),
    )


@pytest.mark.parametrize(
    "text,wheres",
    [
        ("slate_size = 50\nslate_size_max = 0", ["slate_size_max"]),
        ("slate_size = 500\nslate_size_max = 0", ["slate_size", "slate_size_max"]),
        ('selector = { kind = "plackett_luce", pool = 0, keep = 5 }', ["selector.pool"]),
        ('selector = { kind = "plackett_luce", pool = 10, keep = -1 }', ["selector.keep"]),
    ],
)
def test_a_number_out_of_bounds_makes_no_fault_of_another(text, wheres):
    """What is wrong only beside the number that stands in for it is not told: nobody wrote that number."""
    found = faults_of(f"[[placements]]\n{text}")
    assert list(found) == [f"midstream.toml: $.placements[0].{each}" for each in wheres]


@pytest.mark.parametrize(
    "text, where",
    [
        ('[trending]\nhalf_lives = ["1h"]', "$.trending.half_lives"),
        (
            '[[features]]\nname = "views"\nkind = "count"\nactions = ["view"]\nhalf_lives = ["1h"]',
            "$.features[0].half_lives",
        ),
    ],
)
def test_a_half_life_has_one_name(text, where):
    """Whether there may be one or several of them; by another name it is no setting, and the right one is said."""
    with pytest.raises(ConfigInvalid) as raised:
        parse_config(text)
    (found,) = raised.value.faults
    assert found.where.endswith(where)
    assert 'Nearest: "half_life"' in found.came
    assert isinstance(parse_config(text.replace("half_lives", "half_life")), Config)


@pytest.mark.parametrize("half_life,kept", [('"5x"', '"7h", "8h"'), ("7", '"7h", "8h"'), ('"1s"', '"7h"')])
def test_a_wrong_half_life_hides_nothing_of_the_file(half_life, kept):
    """Neither of its own placement nor of others, nor of other sections; one that is none is not one too many."""
    found = faults_of(
        f"""
        [trending]
        half_life = ["1h", "2h", "3h", "4h", {kept}]
        [snapshots]
        keep = 1
        [pairs]
        half_life = "soon"
        [[placements]]
        sources = [{{ kind = "trending", half_life = {half_life}, by_segment = true }}]
        weights = {{ "7" = 1.0 }}
        [[placements]]
        name = "other"
        slate_size = 50
        slate_size_max = 20
        caps = [{{ attribute = "brnad", max = 1, within = "long" }}]
        """
    )
    wheres = [
        "pairs.half_life",
        "placements[0].sources[0].half_life",
        "placements[0].sources[0].by_segment",
        "placements[0].weights.7",
        "placements[1].caps[0].attribute",
        "placements[1].caps[0].within",
        "placements[1].slate_size",
        "snapshots.keep",
    ]
    assert sorted(found) == sorted(f"midstream.toml: $.{each}" for each in wheres)


RICH = """
[components]
Shelf = "components:Shelf"
[events.types]
view = {}
buy = { weight = 8.0 }
[items]
unknown_items = "hold"
[items.attributes]
price = "number"
category = "category"
[[features]]
name = "bought"
kind = "rate"
scope = "item"
actions = ["buy"]
per = ["impression"]
half_life = "7d"
[[tables]]
name = "stock"
path = "stock.csv"
entity = "item"
id = "item_id"
columns = ["left"]
[reasons.de]
popular = "Beliebt"
[[models]]
name = "ease"
kind = "ease"
since = "2026-01-31"
options = { regularization = 100.0 }
[[placements]]
name = "home"
filter = "item.available and item.price <= context.budget"
exclude = { buy = "30d", impression = 5 }
features = ["bought"]
deadline = "50ms"
sources = [{ kind = "session_knn", limit = 200 }, { kind = "trending", half_life = "6h", limit = 50 },
  { kind = "ease", model = "ease" }, { kind = "editorial", items = ["lamp"] }]
selector = { kind = "epsilon_greedy", epsilon = 0.1, pool = 9 }
diversity = { attribute = "category", weight = 0.3 }
caps = [{ attribute = "category", max = 3 }]
editorial = ["lamp"]
[placements.weights]
popular = 2.0
[[placements.rules]]
name = "first"
kind = "pin"
items = ["lamp"]
positions = [0]
start = "2026-01-01T00:00:00Z"
[[placements.rules]]
name = "few"
kind = "boost"
where = "item.category == 'x'"
factor = 3
when = "context.page == 'x'"
"""
STRANGE: tuple[object, ...] = (
    None,
    True,
    [],
    {},
    "",
    0,
    -1,
    1.5,
    2**63,
    10**400,
    10**5_000,
    1e308,
    float("nan"),
    "\x00",
    "é" * 300,
    [[[]]],
    [{}],
    {"": 0},
)
STRANGE += ({"kind": {}}, {"kind": []}, {"kind": None}, ["kind"], "item.price <= (", "1d", "popular", {"a": "b"})


def places_of(told: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to each value in a document, its own first."""
    yield path
    if isinstance(told, dict):
        for key, each in told.items():
            yield from places_of(each, (*path, key))
    elif isinstance(told, list):
        for number, each in enumerate(told):
            yield from places_of(each, (*path, number))


def with_value(told: Any, path: tuple[str | int, ...], value: object) -> Any:
    """Return a document with another value in a place."""
    if not path:
        return value
    whole = deepcopy(told)
    reduce(getitem, path[:-1], whole)[path[-1]] = value
    return whole


def test_the_rich_document_is_a_configuration():
    """What follows would look at nothing in a place that is refused anyway."""
    assert told_config(tomllib.loads(RICH)).placements[0].name == "home"


def test_any_value_in_any_place_is_read_or_refused():
    """Of a file and, for a placement, over HTTP: no value of another kind is anything but a fault in four parts."""
    told = tomllib.loads(RICH)
    placement = told["placements"][0]
    refused = 0
    for path in places_of(told | {"placements": []}):
        for value in STRANGE:
            refused += is_refused(told_config, with_value(told, path, value))
    for path in places_of(placement):
        for value in STRANGE:
            if value == 10**5_000:  # no JSON has it
                continue
            refused += is_refused(partial(drafted, Config(), Config(), "home"), with_value(placement, path, value))
    assert refused > 1_000


def is_refused(read: Callable[[Any], object], told: object) -> bool:
    """Return whether a document is refused; each of its faults must have four parts."""
    faults: tuple[Fault, ...] = ()
    try:
        read(told)
    except ConfigInvalid as error:
        faults = error.faults
    assert all(each.where and each.came and each.right and each.page for each in faults), faults
    return bool(faults)


def test_a_key_that_could_be_read_as_several_is_quoted():
    """Where it is a setting, a source or an action, so that no two faults have one pointer."""
    found = faults_of(
        """
        [events.types]
        "view.it" = { weight = "much" }
        [[placements]]
        weights = { "a.b" = 1.0, "a[0]" = 1.0 }
        """
    )
    assert list(found) == ['midstream.toml: $.events.types["view.it"].weight']
    found = faults_of('[[placements]]\nweights = { "a.b" = 1.0, "a[0]" = 1.0 }\nexclude = { "c]" = 1 }')
    assert list(found) == [
        f"midstream.toml: $.placements[0].{each}" for each in ('weights["a.b"]', 'weights["a[0]"]', 'exclude["c]"]')
    ]
