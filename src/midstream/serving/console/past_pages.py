"""Fragments of the pages of an item and a user: features as of a past moment, which a process beside the server reads.

The page is there at once, and asks for the fragment until the values are. Where the log is too long for that, it has
the command that reads any number of events.
"""

import csv
import io
import re
import shlex
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlencode

from midstream.serving.console.api_reader import ApiAnswer, ApiReader
from midstream.serving.console.page_address import ConsolePage, PageAddress

AS_OF: Final = "as_of"
"""Query field: the moment, UTC where it has no zone."""
ITEMS: Final = "items"
"""Query field: ids with spaces between."""
WAIT: Final = "100ms"
"""Of one look at the result."""
LAST_ITEMS: Final = 5
"""Items of a user that are read where none is named: those of the newest acts."""
_PLAIN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?", re.ASCII)


async def item_as_of(api: ApiReader, at: PageAddress) -> ConsolePage:
    """Features of one item as of a moment."""
    return await _as_of(api, at, None, [unquote(at.steps["item_id"])])


async def user_as_of(api: ApiReader, at: PageAddress) -> ConsolePage:
    """Features of some items for a user as of a moment; unless they are named, of those that were acted on last."""
    items = at.query.get(ITEMS, "").split()
    if not items:
        found = await api.get(f"/v1/users/{at.steps['user_id']}")
        items = last_items(found)
    return await _as_of(api, at, unquote(at.steps["user_id"]), items)


def last_items(user: ApiAnswer) -> list[str]:
    """Return the items of a user's newest acts, the newest first."""
    if not user.is_good:
        return []
    return list(dict.fromkeys(each["item_id"] for each in reversed(user.body["recent"])))[:LAST_ITEMS]


async def _as_of(api: ApiReader, at: PageAddress, user_id: str | None, items: Sequence[str]) -> ConsolePage:
    moment = moment_of(at.query.get(AS_OF, ""))
    if not moment:
        return ConsolePage("as_of.html", {"found": None})
    fields = {"time": moment, "item": items, "wait": WAIT, **({"user_id": user_id} if user_id else {})}
    found = await api.get("/v1/features/as-of", urlencode(fields, doseq=True))
    values = {"found": found, "moment": moment, "command": command(moment, user_id, items)}
    return ConsolePage("as_of.html", values, 200 if found.is_good else found.status)


def moment_of(text: str) -> str:
    """Return a moment as the route takes it.

    Example:
        >>> moment_of("2026-01-31T12:30"), moment_of("2026-01-31T12:30:05"), moment_of("1767225600000")
        ('2026-01-31T12:30:00Z', '2026-01-31T12:30:05Z', '1767225600000')
    """
    found = _PLAIN.fullmatch(text.strip())
    if found is None:
        return text.strip()
    return f"{found[0]}{'' if found[1] else ':00'}Z"


def command(moment: str, user_id: str | None, items: Sequence[str]) -> str:
    r"""Return the commands that read the same in a folder, whatever the log's length.

    Example:
        >>> print(command("2026-01-31T12:30:00Z", "ann", ["a,b"]))
        printf '%s\n' time,user_id,item_id '2026-01-31T12:30:00Z,ann,"a,b"' > questions.csv
        midstream features as-of questions.csv --out values.csv
    """
    rows = [("time", "user_id", "item_id"), *((moment, user_id or "", each) for each in items)]
    lines: list[str] = []
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(row)
        lines.append(shlex.quote(line.getvalue()))
    return f"printf '%s\\n' {' '.join(lines)} > questions.csv\nmidstream features as-of questions.csv --out values.csv"
