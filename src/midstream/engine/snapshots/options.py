"""Options of snapshots: their times, how many stay, and the place where nodes that join find them."""

from typing import Annotated, Literal

import msgspec

from midstream.core.durations import Duration
from midstream.core.field_bounds import Between, Length
from midstream.engine.snapshots.retention import Hourly

PLACE_CHARACTERS_MAX = 512


class SnapshotsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[snapshots]``."""

    interval: Annotated[Duration, Between("1s", "7d")] = Duration("10m")
    """Time between two."""
    keep: Annotated[int, msgspec.Meta(ge=2, le=100)] = 2
    """Newest ones kept, 2 at least, in case one is damaged."""
    mode: Literal["while_serving", "at_stop", "off"] = "while_serving"
    """while_serving (a child process needs the state's memory once more), at_stop or off."""
    explain_days: Annotated[int, msgspec.Meta(ge=0, le=30)] = 2
    """Days for which one an hour stays, so that requests are explained in seconds (docs/explanations.md); 0 = none."""
    explain_bytes_max: Annotated[int, msgspec.Meta(ge=0, le=1 << 44)] = 10 << 30
    """Bytes of those on disk; where they are more one in two hours stays, then in four."""
    publish: Annotated[str, Length(0, PLACE_CHARACTERS_MAX, "characters")] = ""
    """Shared place to which each is copied for nodes that join: a folder, file:///shared/shop, or an address of an
    object storage such as s3://bucket/shop (extra storage); "" = none (docs/replicas.md)."""
    publish_keep: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    """Newest ones of each fold version that stay there."""

    @property
    def hourly(self) -> Hourly:
        """Which snapshots stay for explanations."""
        return Hourly(self.explain_days, self.explain_bytes_max)
