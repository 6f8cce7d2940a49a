"""Types that a command names are held against the configuration, and what is proposed instead means the same."""

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.ingest.type_names import require_types
from midstream.app.opening import accept_of
from midstream.cli.data.import_file import options_of, types_named
from midstream.core.errors import ConfigInvalid
from midstream.core.nearest import nearest_name
from midstream.events.json.decode import decode_objects

CONFIG = parse_config("[events.types]\nview = { weight = 1.0 }\nlike = { weight = 2.0 }\ndismiss = { weight = -1.0 }\n")


def test_types_of_options_are_judged_before_a_row_is_read():
    """Each option and each type once; what an export has may be imported again."""
    columns = options_of(None, ["type=clik"], ["a=view", "b=veiw", "c=veiw", "d=item", "e=served"], "auto")
    with pytest.raises(ConfigInvalid) as raised:
        require_types(CONFIG, types_named(columns))
    assert [(each.where, each.came) for each in raised.value.faults] == [
        ("--type", '"clik" is not a type of this shop.'),
        ("--types", '"veiw" is not a type of this shop. Nearest: "view".'),
    ]
    assert all("[events.types] of midstream.toml" in each.right for each in raised.value.faults)
    require_types(CONFIG, [("--type", "dismiss"), ("--type", "impression"), ("--types", "tick"), ("--type", "Item")])


@pytest.mark.parametrize("name", ["wishlist", "dismis", "dismissed", "unlike", "dislike", "xyz"])
def test_no_act_against_an_item_is_proposed(name):
    """Nor one of the opposite sense: whoever follows the advice records what was meant."""
    accept = accept_of(CONFIG)
    refused = decode_objects([{"type": name, "user_id": "ann", "item_id": "lamp"}], accept).rejected
    assert "Nearest" not in str(refused[0].fault)
    with pytest.raises(ConfigInvalid) as raised:
        require_types(CONFIG, [("--type", name)])
    assert "Nearest" not in str(raised.value)


@pytest.mark.parametrize(
    "name, known, found",
    [
        ("viewed", ["view"], "view"),
        ("veiw", ["view"], "view"),
        ("sesion_knn", ["popular", "session_knn"], "session_knn"),
        ("wishlist", ["dismiss", "purchase"], ""),
        ("unsubscribe", ["subscribe"], ""),
        ("remove_cart", ["cart"], ""),
        ("x", ["y"], ""),
        ("include", ["exclude"], ""),
        ("exclude_item", ["include_item"], ""),
        ("users_min", ["users_max"], ""),
        ("min_users", ["max_users"], ""),
        ("users_max_s", ["users_min_s"], ""),
        ("increase", ["decrease"], ""),
        ("unsubscribe", ["subscribed"], ""),
        ("unsubscribed", ["subscribe"], ""),
        ("dislikes", ["liked"], ""),
        ("usres_min", ["users_max", "users_min"], "users_min"),
        ("exlude", ["include", "exclude"], "exclude"),
        ("unit_cost", ["unit_costs"], "unit_costs"),
        ("increse", ["increase"], "increase"),
        ("index", ["indexes"], "indexes"),
        ("unsubscibe", ["unsubscribe", "subscribe"], "unsubscribe"),
        ("user_min", ["users_min"], "users_min"),
        ("impresion", ["impression"], "impression"),
        ("cart", ["chat", "carts"], "carts"),
        ("a" * 1_000, ["a" * 64], "a" * 64),
    ],
)
def test_a_near_name_is_one_slip_in_three_characters_away(name, known, found):
    """One letter too many, too few, another, or two that changed places; of several the nearest."""
    assert nearest_name(name, known) == found
