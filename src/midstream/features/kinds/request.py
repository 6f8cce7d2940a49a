"""Feature kinds of the request: local time, device, referrer, position, and numbers of the caller for each item."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from midstream.features.readers import request_inputs as read
from midstream.features.readers.agents import REFERRERS, AgentPart, agent_classes
from midstream.features.readers.coding import coding_of
from midstream.features.readers.inputs import columns_from
from midstream.features.readers.request_inputs import OFFSET_MINUTES_MAX, TimePart
from midstream.state.expressions.program import Expression

Columns: TypeAlias = Mapping[str, Expression]
ClassForm: TypeAlias = Literal["one_hot", "index"]
Minutes = Annotated[int, msgspec.Meta(ge=-OFFSET_MINUTES_MAX, le=OFFSET_MINUTES_MAX)]


class LocalTime(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="local_time", kw_only=True
):
    """A part of the request's time where the visitor is, or the shop.

    ``hour`` 0 to 23, ``time_of_day`` in hours with their fraction, ``weekday`` 0 (Monday) to 6, ``day`` of the month
    and ``month`` from 1, ``year``.
    """

    name: str
    part: TimePart = "hour"
    utc_offset: Minutes = 0
    """Minutes that clocks there are ahead of UTC."""
    offset: str = ""
    """Name of a value of the context that has these minutes; one that was not sent leaves ``utc_offset``."""

    def expressions(self) -> Columns:
        """Return the part of now + offset."""
        return {self.name: columns_from(read.LocalTimeReader(self.part, self.utc_offset, self.offset))[0]}


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="device", kw_only=True):
    """Device class of the user agent: a column for each class, ``device_mobile``, or one with its position.

    ``platform``: bot, tv, tablet, mobile, desktop, other. ``os``: ios, android, windows, macos, chromeos, linux, other.
    ``browser``: edge, opera, samsung, firefox, chrome, safari, other. NaN without a user agent.
    """

    name: str
    part: AgentPart = "platform"
    context: str = "user_agent"
    """Name in the request's context."""
    form: ClassForm = "one_hot"

    def expressions(self) -> Columns:
        """Return the class of the first line of the table that fits."""
        coding = coding_of(self.form, agent_classes(self.part), 0)
        found = columns_from(read.Agent(self.context, self.part, coding))
        return dict(zip(coding.names(self.name), found, strict=True))


class Referrer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="referrer", kw_only=True):
    """Class of the referring address: search, social, direct, internal, other; a column each or one with its position.

    An empty address is direct. NaN without an address.
    """

    name: str
    context: str = "referrer"
    """Name in the request's context."""
    own_hosts: tuple[str, ...] = ()
    """Hosts that are internal, with all below them."""
    form: ClassForm = "one_hot"

    def expressions(self) -> Columns:
        """Return the class of the address's host."""
        coding = coding_of(self.form, REFERRERS, 0)
        hosts = tuple(each.lower() for each in self.own_hosts)
        found = columns_from(read.CameFrom(self.context, hosts, coding))
        return dict(zip(coding.names(self.name), found, strict=True))


class ItemField(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="item_field", kw_only=True
):
    """A number of the request for each item in ``item_fields``; NaN where it is missing."""

    name: str
    field: str = ""
    """Empty: the name of the feature."""

    def expressions(self) -> Columns:
        """Return the number as it was sent."""
        return {self.name: columns_from(read.ItemFieldReader(self.field or self.name))[0]}


class Relevancy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="relevancy", kw_only=True
):
    """The caller's own score of the item: its field ``relevancy`` in ``item_fields``; NaN where it sent none."""

    name: str

    def expressions(self) -> Columns:
        """Return the score as it was sent."""
        return {self.name: columns_from(read.ItemFieldReader("relevancy"))[0]}


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="position", kw_only=True):
    """Position of the item in the answer, 0 the first: with it a model learns the position bias.

    The field ``position`` in ``item_fields``, which examples fill from the slate; else the item's position among the
    request's own ``items``; else ``otherwise``, which is the value of all candidates while they are ranked.
    """

    name: str
    otherwise: float | None = None
    """Without it NaN."""

    def expressions(self) -> Columns:
        """Return the place."""
        otherwise = math.nan if self.otherwise is None else self.otherwise
        return {self.name: columns_from(read.PositionReader(otherwise))[0]}


class Random(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="random", kw_only=True):
    """A number from 0 to below 1 for each item, by the request's seed: new in each request, equal in a rerun."""

    name: str

    def expressions(self) -> Columns:
        """Return 24 bits of SplitMix64 of the seed, this name and the hash of the item's id."""
        return {self.name: columns_from(read.RandomReader(self.name))[0]}
