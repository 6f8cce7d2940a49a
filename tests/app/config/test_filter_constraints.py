"""Constraints of filters, in the list and under their short settings."""

import pytest

from midstream.app.config.reader import parse_config
from midstream.core.errors import ConfigInvalid

PLACEMENT = '[items.attributes]\nstock = "number"\n[[placements]]\n'


def faults_of(text: str) -> dict[str, str]:
    """Return the faults of a placement by place."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(PLACEMENT + text)
    return {each.where.removeprefix("midstream.toml: $.placements[0]."): str(each) for each in caught.value.faults}


@pytest.mark.parametrize(
    "text, where, says",
    [
        ('filters = [{ kind = "acted" }]', "filters[0].exclude", "It is missing."),
        ('filters = [{ kind = "acted", exclude = { buy = "3d" } }]', "filters[0].exclude.buy", "is not a configured"),
        (
            'filters = [{ kind = "acted", exclude = { served = "3d" } }]',
            "filters[0].exclude.served",
            "is not a configured",
        ),
        ('filters = [{ kind = "acted", exclude = { view = 51 } }]', "filters[0].exclude.view", "From 1 to 50"),
        ('filters = [{ kind = "acted", exclude = { view = "x" } }]', "filters[0].exclude.view", "An age such as"),
        ('exclude = { buy = "3d" }', "exclude.buy", "is not a configured"),
        (
            'filters = [{ kind = "served_lately", exclude = { view = 1 } }]',
            "filters[0].exclude.view",
            "served_anywhere",
        ),
        ('filters = [{ kind = "served_lately", exclude = { served = "9d" } }]', "filters[0].exclude.served", '"7d"'),
        ('filters = [{ kind = "expression", where = "item.stok > 0" }]', "filters[0].where", "stock"),
        ('filters = [{ kind = "expression" }]', "filters[0].where", "It is missing."),
        ('filters = [{ kind = "expression", name = "", where = "item.stock > 0" }]', "filters[0].name", "0 bytes"),
        ('filters = [{ kind = "repeats", allow = "all" }]', "filters[0].allow", "not_last"),
        ('filters = [{ kind = "expressions", where = "item.stock > 0" }]', "filters[0].kind", 'Nearest: "expression"'),
        ("filters = [" + '{ kind = "repeats" },' * 9 + "]", "filters", "At most 8"),
        (
            'filters = [{ kind = "acted", exclude.view = 1 }, { kind = "acted", exclude.click = 1 }]',
            "filters[1].name",
            "already",
        ),
        ('exclude.view = 1\nfilters = [{ kind = "acted", exclude.click = 1 }]', "filters[0].name", "already"),
        ('filters = [{ kind = "acted", exclude.served = 3 }]', "filters[0].exclude.served", "served_lately"),
        (
            'sources = [{ kind = "repeat" }]\nfilters = [{ kind = "repeats", allow = "none" }]',
            "filters[0].allow",
            "removes items of the session",
        ),
        (
            'sources = [{ kind = "repeat" }]\nrepeats = "any"\nfilters = [{ kind = "acted", exclude.purchase = 1 }]',
            "filters[0].exclude.purchase",
            "removes what the source repeat proposes",
        ),
    ],
)
def test_what_cannot_be_is_named_where_it_stands(text, where, says):
    """Each option with its pointer, on the page of filters."""
    fault = faults_of(text)[where]
    assert says in fault
    assert fault.splitlines()[-1].strip().startswith("midstream docs ")


def test_the_short_settings_and_the_list_say_the_same():
    """A short setting is the tagged part of a name of its own; a listed kind ``repeats`` takes the default's place."""
    short = 'filter = "item.stock > 0"\nexclude = { purchase = "30d", served = 3 }\nrepeats = "none"'
    listed = """
        filters = [
            { kind = "repeats", allow = "none" },
            { kind = "acted", exclude = { purchase = "30d" } },
            { kind = "served_lately", exclude = { served = 3 } },
            { kind = "expression", name = "filter", where = "item.stock > 0" },
        ]"""
    one, other = (parse_config(PLACEMENT + text).placements[0] for text in (short, listed))
    assert [part for _, part in one.filter_parts()] == [part for _, part in other.filter_parts()]
    assert [place for place, _ in one.filter_parts()] == ["repeats", "exclude", "exclude", "filter"]
    assert [place for place, _ in other.filter_parts()] == [f"filters[{number}]" for number in range(4)]
