"""Names of placements that belong to an experiment: ``home@colour.blue`` is variant ``blue`` of ``colour`` on ``home``.

A variant is a placement of its own, so plans, served records, configurations and reruns need no other notion of it: the
record of an answer names placement, experiment and variant in one text. ``@`` is kept for these names: nobody sets such
a placement by hand, and no request names one.
"""

import re
from typing import NamedTuple

from midstream.state.outcomes.slate_groups import VARIANT_MARK

MARK = VARIANT_MARK
EXPERIMENT_PREFIX = "@experiment/"
"""Before the name of an experiment, in the table of control documents."""
HOLDOUT_NAME = "@holdout"
"""Of the one holdout, in the table of control documents."""
HOLDOUT = "holdout"
"""Experiment and variant of answers to held-out users; so no experiment has that name."""
DRAFT = "draft"
"""Variant of the answers to which all variants of an interleaving experiment contribute; so none of them has it."""
NAME_BYTES_MAX = 32
"""Of an experiment, a variant or a layer."""
PLACEMENT_BYTES_MAX = 64
"""Of the placement that is a variant, as of every other: placement, experiment and variant together."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Arm(NamedTuple):
    """Placement, experiment and variant of an answer."""

    placement: str
    """As requests name it."""
    experiment: str = ""
    """Empty = the placement itself answered."""
    variant: str = ""


NO_ARM = Arm("")
"""Of an answer by the placement itself."""


def is_name(text: str) -> bool:
    """Return whether a text can name an experiment, a variant or a layer."""
    return len(text) <= NAME_BYTES_MAX and _NAME.fullmatch(text) is not None


def variant_placement(placement: str, experiment: str, variant: str) -> str:
    """Return the name of the placement that is a variant.

    Example:
        >>> variant_placement("home", "colour", "blue")
        'home@colour.blue'
    """
    return f"{placement}{MARK}{experiment}.{variant}"


def arm_of(name: str) -> Arm:
    """Return what the name of a placement says.

    Example:
        >>> arm_of("home@colour.blue")
        Arm(placement='home', experiment='colour', variant='blue')
        >>> arm_of("home").experiment
        ''
    """
    placement, mark, rest = name.partition(MARK)
    if not mark:
        return Arm(name)
    experiment, _, variant = rest.partition(".")
    return Arm(placement, experiment, variant)


def is_document(name: str) -> bool:
    """Return whether a control document of this name is no placement, but an experiment, a holdout or a decision."""
    return name.startswith(MARK)
