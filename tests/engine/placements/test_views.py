"""What the list of placements says: the parts that answer, where each comes from, what of the file is not in force."""

from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.core.errors import Fault
from midstream.engine.placements.views import aside_views, document_of, placement_views
from midstream.state.control.placements import PlacementVersion
from midstream.state.fold import Fold

CONFIG = parse_config('[[placements]]\nname = "home"\n[[placements]]\nname = "shelf"\n[[placements]]\nname = "page"\n')
OWN = frozenset({"home", "shelf"})


def version_of(name, content="{}", number=3):
    """What was said of a placement last."""
    return PlacementVersion(name, number, content, "0" * 64, "ann", "why", 7, 1_750_000_000_000)


def test_each_placement_has_its_origin_and_what_it_covers():
    """Of the file; set, over one of the file; set alone; given back; set and aside; and the one that is built in."""
    found, fold = plans(CONFIG), Fold(CONFIG.fold_settings())
    views = placement_views(found, {}, OWN, frozenset(), fold)
    assert [(each.placement, each.origin, each.covers_file) for each in views] == [
        ("home", "file", False),
        ("page", "built_in", False),
        ("shelf", "file", False),
        ("similar", "built_in", False),
    ]
    assert {(each.version, each.author, each.changed_ms) for each in views} == {(None, None, None)}
    assert views[0].sources == [each.name for each in (*found["home"].sources, *found["home"].floor)]
    said = {name: version_of(name) for name in ("home", "page", "shelf")}
    views = placement_views(found, said, OWN, frozenset({"shelf"}), fold)
    assert [(each.placement, each.origin, each.covers_file, each.version) for each in views] == [
        ("home", "api", True, 3),
        ("page", "api", False, 3),
        ("shelf", "file", False, 3),
        ("similar", "built_in", False, None),
    ]
    (back, *_) = placement_views(found, {"home": version_of("home", "")}, OWN, frozenset(), fold)
    assert (back.origin, back.covers_file, back.version, back.author) == ("file", False, 3, "ann")


def test_each_placement_says_whether_it_is_compiled():
    """Or which of its parts is the reason: behind the cut, before it, or in what the state has."""
    config = parse_config(
        '[items.attributes]\ntags = "tags"\ncategory = "category"\n[[placements]]\nname = "plain"\n'
        '[[placements]]\nname = "capped"\ncaps = [{ attribute = "category", max = 2 }]\n'
        '[[placements]]\nname = "tagged"\ncaps = [{ attribute = "tags", max = 2 }]\n'
        '[[placements]]\nname = "drawn"\nselector = { kind = "plackett_luce" }\n'
        '[[placements]]\nname = "both"\nselector = { kind = "plackett_luce" }\n'
        'caps = [{ attribute = "category", max = 2 }]\n'
        '[[placements]]\nname = "newest"\nsources = [{ kind = "recent_items" }]\n'
    )
    views = placement_views(plans(config), {}, frozenset(), frozenset(), Fold(config.fold_settings()))
    assert {each.placement: each.not_compiled for each in views} == {
        "plain": "",
        "capped": "",
        "tagged": "",
        "drawn": "",
        "both": "",
        "newest": "source recent_items",
        "similar": "source similar",
    }


def test_what_is_aside_has_a_row_for_each_fault():
    """With the version that was set; a name that nothing was said of has none."""
    faults = (Fault("$.a", "came", "right", "page"), Fault("$.b", "came", "right", "page"))
    views = aside_views({"shelf": faults, "gone": faults}, {"shelf": version_of("shelf", number=9)})
    assert [(each.placement, each.version, each.where) for each in views] == [("shelf", 9, "$.a"), ("shelf", 9, "$.b")]


def test_a_content_that_is_no_object_is_none():
    """As is an empty one, which is a placement that was given back."""
    assert document_of('{"a": 1}') == {"a": 1}
    assert [document_of(each) for each in ("", "[1]", "{", "[" * 100_000)] == [None] * 4
