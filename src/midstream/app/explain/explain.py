"""Explanation of a logged request: rerun on the state of its log position, comparison with the record, reasons.

``midstream explain`` runs it in its own process, a server in a child, by the same function.
"""

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import msgspec

from midstream.app.explain.reruns import Rerun, Reruns, find_request
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import config_to_read
from midstream.app.server_address import server_headers
from midstream.app.server_refusals import refusal_of
from midstream.core.answers.explanations import Explained
from midstream.core.errors import NotFound, StoreUnavailable
from midstream.core.types import LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.engine.explain.explainer import JOB_S_MAX, WAITING_MAX
from midstream.events.schema import event_at
from midstream.ranking.explain.why_not import explain_with

ANSWER_S_MAX = 30
"""Interval of polling a server; it returns the reason when it gives up, after minutes."""
TURNS_MAX = int((WAITING_MAX + 2) * JOB_S_MAX // ANSWER_S_MAX)
"""Number of polls: queued jobs, the running one and its own, each of maximal time: 100 turns, 50 min."""


def explain_request(folder: Path, request_id: str, items: Sequence[str] = (), notify: Notify = nobody) -> Explained:
    """Return the explanation of a request, from a folder's log. A server may have the folder open.

    Args:
        folder: Of the configuration file and the data.
        request_id: As the answer had it.
        items: Further items to explain, in the slate or not.
        notify: Receives the progress of the fold.

    Raises:
        NotFound: The log has no such request, or its user was erased.
        ConfigInvalid: The configuration of the folder cannot be used.
        LogDamaged: The log cannot be trusted.
    """
    body = find_request(LogView(folder), config_to_read(folder), request_id)
    return explained(Reruns(folder, notify).again(body), items)


def explain_at(folder: Path, position: LogPosition, request_id: str, items: Sequence[str], notify: Notify) -> Explained:
    """Return the explanation of the request whose served event is at a log position.

    Raises:
        NotFound: It is another event.
        LogDamaged: The log cannot be trusted.
    """
    reruns = Reruns(folder, notify)
    ((_, batch), *_) = reruns.log.read(position, 1, LogPosition(position + 1))
    event = event_at(batch, 0)
    if event.request_id != request_id:
        message = f"the request {request_id[:64]!r} does not stand at log position {position} any more"
        raise NotFound(message)
    return explained(reruns.again(event.body), items)


def explain_through(url: str, request_id: str, items: Sequence[str] = ()) -> Explained:
    """Return a server's explanation of one of its requests; polls ``TURNS_MAX`` times at most.

    Raises:
        StoreUnavailable: It does not answer, or cannot explain it; the text has the reason.
        RequestInvalid: It refuses the items; each fault is named.
    """
    import httpx

    path = f"/v1/requests/{quote(request_id, safe='')}/explanation"
    try:
        with httpx.Client(base_url=url, headers=server_headers(url), timeout=2 * ANSWER_S_MAX) as client:
            for _ in range(TURNS_MAX):
                answer = client.get(path, params={"item": list(items), "wait": f"{ANSWER_S_MAX}s"})
                if answer.status_code == HTTPStatus.OK:
                    return msgspec.json.decode(answer.content, type=Explained)
                if answer.status_code != HTTPStatus.ACCEPTED:
                    raise refusal_of(answer, url)
            message = f"{url} had not made it after it was asked {TURNS_MAX} times"
            raise StoreUnavailable(message)
    except httpx.TransportError as error:
        message = f"{url} does not answer: {error}"
        raise StoreUnavailable(message) from error


def explained(again: Rerun, items: Sequence[str] = ()) -> Explained:
    """Return the explanation of a request that was run again."""
    logged = again.logged
    told = Explained(
        request_id=logged.request_id,
        identical=again.is_identical,
        differences=again.differences,
        slate=logged.ids,
        continues=logged.continues,
        took_us=logged.took_us,
    )
    if again.served is None or again.plan is None or again.moment is None:
        return told
    if again.served.query.continues:  # nothing was proposed or scored for it: the request that it continues says why
        return told
    served, plan, moment = again.served, again.plan, again.moment
    slate = explain_with(served, plan, moment, items)
    return msgspec.structs.replace(told, why=slate)
