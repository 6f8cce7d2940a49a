"""Reasons for people: from the source that says most, in their language, with the names that there are."""

import asyncio
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.schema import AnySource
from midstream.core.types import Failure, Models
from midstream.ranking.boundary import Account
from midstream.ranking.explain.reasons import SHOWN_CHARACTERS_MAX, reasons_for
from midstream.ranking.filters.available import Available
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.reason_texts import DEFAULTS, NO_REASONS, TEMPLATE_CHARACTERS_MAX, reasons_of, template_of
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.in_force import Ruling
from midstream.ranking.rules.pin import Pin, Pins
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from tests.support.frozen_shop import StillShop

KINDS = {"near": "covisitation", "popular": "popular"}
OWN = {"covisitation": "because you viewed {evidence.category} {{now}}", "popular": "{item.price} only"}


def shop_of() -> StillShop:
    """Return a shop in which b follows a, and c is popular."""
    shop = StillShop()
    shop.put("a", category="A lamp")
    shop.put("b", price=4.5)
    shop.put("c", price=7)
    for visitor in range(3):
        shop.act("view", f"v{visitor}", "a", "b", session_id=f"s{visitor}")
    shop.act("purchase", "bob", "c", "c", session_id="other")
    shop.wait(3_600_000)
    shop.act("view", "ann", "a")
    return shop


def told(
    shop: StillShop,
    language: str,
    configured=None,
    near=None,
    account: Account | None = None,
    pins: Pins | None = None,
    blend: Blend | None = None,
) -> dict[str, str | None]:
    """Return the reason of each item of ann's slate."""
    plan = Plan(
        name="default",
        config_hash="c0ffee",
        fetches=(),
        sources=(near or Covisitation(name="near", same_item=0.0),),
        floor=(Popular(),),
        fill=Catalogue(),
        filters=(Available(),),
        features=(),
        scorers=(blend or Blend(),),
        pins=pins,
        arrangement=None if pins is None else Arrangement(),
        selectors=(TopK(),),
        models=Models({}),
        reasons=reasons_of(configured or {}, KINDS),
    )
    query = replace(shop.query(), user_id="ann")
    moment = shop.fold.moment(query, plan.models)
    served = asyncio.run(recommend(plan, lambda _: moment, query, lambda: math.inf))
    ids = shop.ids(served.candidates.item_index[served.selection.chosen].tolist())
    run = PlanRun(plan, moment, account or Account())
    return dict(zip(ids, reasons_for(served, run, language), strict=True))


def test_the_strongest_source_says_why():
    """In English and in German there are texts that name nothing."""
    shop = shop_of()
    english, german = DEFAULTS["en"], DEFAULTS["de"]
    assert told(shop, "en") == {"b": english["covisitation"], "c": english["popular"], "a": english["popular"]}
    assert told(shop, "de")["b"] == german["covisitation"]
    assert set(told(shop, "eo").values()) == {None}


@pytest.mark.parametrize("pinned", ["pin", "b", "c"])
def test_what_a_rule_pinned_has_no_reason_of_a_source(pinned):
    """It stands there because the shop wants it: not because of what was viewed, whether that leads to it or not."""
    shop = shop_of()
    shop.put("pin", price=1)
    pins = Pins((Ruling(Pin(name="hero", items=(pinned,), positions=(0,)), 0, 2**62, None),))
    found = told(shop, "en", pins=pins)
    assert next(iter(found)) == pinned
    assert found[pinned] is None
    assert found["a"] == DEFAULTS["en"]["popular"]


def test_a_source_that_proposed_goes_before_one_that_did_not():
    """Whatever it weighs in the blend."""
    found = told(shop_of(), "en", blend=Blend(weights={"near": 1.0, "popular": 0.0}))
    assert found["c"] == DEFAULTS["en"]["popular"]


def test_a_template_names_attributes_of_the_item_and_of_what_led_there():
    """And braces that are meant."""
    found = told(shop_of(), "en", {"en": OWN})
    assert found["b"] == "because you viewed A lamp {now}"
    assert found["c"] == "7 only"


def test_a_source_that_fails_at_its_evidence_is_named():
    """Its items have the text that names none, and who asked hears which source failed, and at what."""

    class Broken(Covisitation, frozen=True, tag="broken"):
        def why(self, moment, item_index):
            message = "the file is gone"
            raise OSError(message)

    account = Account()
    texts = {"en": {"near": "because of {evidence.id}"}}
    shop = shop_of()
    fine = told(shop, "en", texts)
    assert any((text or "").startswith("because of") for text in fine.values())
    broken = told(shop, "en", texts, near=Broken(name="near", same_item=0.0), account=account)
    assert broken.keys() == fine.keys()
    assert not any((text or "").startswith("because of") for text in broken.values())
    assert account.failures == [Failure("near", "OSError: the file is gone")]


def test_the_plain_text_stands_in_for_what_is_not_known():
    """An item without the attribute says what the language says, and in a language without a text nothing."""
    shop = shop_of()
    assert told(shop, "en", {"en": OWN})["a"] == DEFAULTS["en"]["popular"]
    assert told(shop, "fr", {"fr": OWN}) == {"b": "because you viewed A lamp {now}", "c": "7 only", "a": None}
    shop.put("a", price=1)
    assert told(shop, "en", {"en": OWN})["b"] == DEFAULTS["en"]["covisitation"]


def test_a_name_of_a_source_goes_before_its_kind():
    """So two sources of one kind may speak differently."""
    assert told(shop_of(), "en", {"en": {**OWN, "near": "next to {evidence.id}"}})["b"] == "next to a"


def test_long_attributes_are_cut():
    """A description is no title."""
    shop = shop_of()
    shop.put("a", category="x" * 1_000)
    found = told(shop, "en", {"en": {"near": "{evidence.category}"}})["b"]
    assert found == "x" * SHOWN_CHARACTERS_MAX


def test_every_kind_of_source_has_a_text_in_each_language():
    """None is forgotten when a source is added."""
    kinds = {str(each.__struct_config__.tag) for each in AnySource.__args__} - {"custom"}
    assert set(DEFAULTS) == {"en", "de"}
    assert all(set(texts) == kinds for texts in DEFAULTS.values())
    assert NO_REASONS.languages == ()
    assert reasons_of({"fr": {}}, KINDS).languages == ("de", "en", "fr")


@pytest.mark.parametrize(
    "text", ["", "{x}", "{item}", "{item.}", "{user.name}", "{item.price!r}", "{item.price:d}", "{", "}", "{}", "{0.a}"]
)
def test_what_is_no_template(text):
    """Nothing but attributes of the item and of what led there may stand in braces."""
    with pytest.raises(ValueError, match=r"."):
        template_of(text)


@given(st.text(st.characters(exclude_characters="{}"), min_size=1, max_size=TEMPLATE_CHARACTERS_MAX))
def test_a_text_without_braces_is_itself(text):
    """Whatever characters are in it."""
    template = template_of(text)
    assert "".join(literal for literal, _, _ in template.parts) == text
    assert not template.fields
