"""Known data sets by name, each under the protocol that its published figures have."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.quality.data_folder import CHECKOUT, known_folder
from benchmarks.quality.item_sets import ITEM_SETS, WITH_VALIDATION
from benchmarks.quality.session_sets import NEXT_ITEM_SETS, REPLAY_SETS
from benchmarks.quality.shops import SHOPS, ShopData
from midstream.app.evaluation.item_models import item_data_of
from midstream.core.errors import Fault, Invalid, NotFound
from midstream.core.nearest import nearest
from midstream.evaluation.data.interactions import InteractionData
from midstream.evaluation.data.session_data import NextItemData
from midstream.evaluation.full_ranking import ItemData

SETTINGS_FOLDER = CHECKOUT / "tests" / "quality" / "settings"
"""Options that were chosen on the validation parts."""
PAGE = "/docs/quality.md"


def session_set(name: str) -> NextItemData:
    """Return a set for the next-item protocol.

    Raises:
        NotFound: There is none of that name, or it is not at hand.
    """
    return NEXT_ITEM_SETS[name](_folder_of(name, NEXT_ITEM_SETS))


def interaction_set(name: str) -> InteractionData:
    """Return a set whose interactions have times.

    Raises:
        NotFound: There is none of that name, or it is not at hand.
    """
    folder = _folder_of(name, REPLAY_SETS)
    return InteractionData(name, lambda: REPLAY_SETS[name](folder))


def shop_set(name: str) -> ShopData:
    """Return a set with a catalogue.

    Raises:
        NotFound: There is none of that name, or it is not at hand.
    """
    return SHOPS[name](_folder_of(name, SHOPS))


def item_set(name: str, protocol: str = "temporal") -> ItemData:
    """Return a set for item models: under its own protocol, or, where it has times, under the one that is named.

    Raises:
        NotFound: There is none of that name, or it is not at hand.
        Invalid: There is no such protocol.
    """
    if name in ITEM_SETS:
        return ITEM_SETS[name](known_folder(name))
    if name not in REPLAY_SETS:
        raise _unknown(name, {**ITEM_SETS, **REPLAY_SETS})
    return item_data_of(interaction_set(name), protocol)


def with_validation(name: str) -> ItemData:
    """Return a set under leave-one-out with its validation items learned before the test.

    Raises:
        Invalid: Under its protocol they are learned anyway, or there are none.
    """
    if name not in WITH_VALIDATION:
        right = "one of " + ", ".join(WITH_VALIDATION)
        raise Invalid((Fault("--learn-validation", f"{name!r} is not under leave-one-out", right, PAGE),))
    return WITH_VALIDATION[name](known_folder(name))


def _folder_of(name: str, known: Mapping[str, object]) -> Path:
    if name not in known:
        raise _unknown(name, known)
    return known_folder(name)


def _unknown(name: str, known: Mapping[str, object]) -> NotFound:
    return NotFound(f"{name!r} is no known set.{nearest(name, known)} Sets: {', '.join(known)}")
