"""Traits of components."""

from typing import get_args

import pytest

from midstream.app.config.schema import AnyScorer, AnySelector, AnySource, Custom
from midstream.core.traits import PROPOSES, UNDECLARED, Traits, traits_of
from midstream.integrations.model_servers.remote_scorer import RemoteScorer
from midstream.retrieval.popular import Popular


class Own(Popular, frozen=True, tag="own"):
    """A source of one's own that is made of a built-in one."""


class Declared(Popular, frozen=True, tag="declared"):
    """One that says of itself what it is."""

    traits = PROPOSES


class Wrong:
    """Says something, and no traits."""

    traits = "pure"


def test_of_a_component_that_says_nothing_nothing_is_assumed():
    """Not of one whose parent declared something either: what it overrides may wait."""
    assert Traits(waits=True, pure=False, bounded=False, reads_served=False) == UNDECLARED
    assert [traits_of(each) for each in (Own(), Wrong(), object(), lambda: None)] == [UNDECLARED] * 4
    assert traits_of(Declared()) == traits_of(Popular()) == PROPOSES


@pytest.mark.parametrize("kinds, is_pure", [(AnySource, True), (AnyScorer, False), (AnySelector, False)])
def test_the_engine_s_own_declare_theirs(kinds, is_pure):
    """No built-in part waits or is without a bound, but the one that asks a server; pages ask equal sources once."""
    for kind in {*get_args(kinds)} - {Custom, RemoteScorer}:
        traits = vars(kind)["traits"]
        assert (traits.waits, traits.pure, traits.bounded) == (False, is_pure, True), kind


def test_a_scorer_that_asks_a_server_says_that_it_waits():
    """So it runs under a timer, and its columns are read-only."""
    assert traits_of(RemoteScorer(protocol="oip", url="http://triton:8000", model="ranker")) == UNDECLARED
