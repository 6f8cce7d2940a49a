"""Versions of models that placements are told to pin: loaded before such a placement is drafted and tried.

A placement may name a version by its number or first digits, as commands do. What is kept names it whole, so that it
means the same in every process and for ever.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.paths import step
from midstream.engine.models.champions import PAGE, Champions
from midstream.engine.models.standing_models import REFUSALS
from midstream.models.pins import PINS_MAX


@asynccontextmanager
async def holding(
    champions: Champions, told: Sequence[object], where: Callable[[int, str], str] = lambda _, place: place
) -> AsyncGenerator[list[Any]]:
    """Have the versions loaded that some placements pin, while the block makes, tries and sets them.

    Args:
        champions: Has the models.
        told: Contents of placements; what is malformed is left to their draft.
        where: Returns the pointer of faults, of the number of a placement and a place in it.

    Yields:
        The contents, each version with its whole name.

    Raises:
        ConfigInvalid: A version is not there, or is refused; each is named.
    """
    whole = list[Any](told)
    faults: list[Fault] = []
    held: list[tuple[str, str]] = []
    try:
        for number, each in enumerate(told):
            found: dict[str, str] = {}
            for name, wanted in told_pins(each).items():
                try:
                    found[name] = await champions.hold(name, wanted)
                    held.append((name, found[name]))
                except REFUSALS as error:
                    right = f"A version of {name} that can be loaded, as midstream models show {name} lists them."
                    faults.append(Fault(where(number, f"$.models{step(name)}"), f"{error}.", right, PAGE))
            if found:
                whole[number] = {**whole[number], "models": {**whole[number]["models"], **found}}
        if faults:
            raise ConfigInvalid(tuple(faults))
        yield whole
    finally:
        champions.let_go(held)


def told_pins(told: object) -> Mapping[str, str]:
    """Return the versions that a placement is told to pin; none where that is malformed.

    Example:
        >>> told_pins({"models": {"taste": "7"}, "slate_size": 3})
        {'taste': '7'}
        >>> told_pins({"models": 7})
        {}
    """
    named = cast("Mapping[str, object]", told).get("models") if isinstance(told, Mapping) else None
    if not isinstance(named, Mapping) or len(cast("Mapping[object, object]", named)) > PINS_MAX:
        return {}
    pins = cast("Mapping[object, object]", named)
    return {name: version for name, version in pins.items() if isinstance(name, str) and isinstance(version, str)}
