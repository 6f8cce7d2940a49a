"""``online`` of a model: how it goes on learning from outcomes."""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from midstream.core.durations import Duration
from midstream.core.field_bounds import Between
from midstream.core.kinds import IMPRESSION
from midstream.state.settings import OnlineModel

_DEFAULT: Final = OnlineModel("", ())


class Online(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model goes on learning."""

    wait: Annotated[Duration, Between("0s", "30d")] = _DEFAULT.wait
    slates_max: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = _DEFAULT.slates_max
    items_max: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = _DEFAULT.items_max


def online_model(name: str, online: Online, worth: Mapping[str, float]) -> OnlineModel:
    """Return a model that goes on learning, as the state has it.

    Args:
        name: Of the model.
        online: How it learns.
        worth: What each action is worth; those above 0 are clicks.
    """
    clicks = tuple(sorted(each for each, weight in worth.items() if weight > 0 and each != IMPRESSION))
    return OnlineModel(name, clicks, online.wait, online.slates_max, online.items_max)
