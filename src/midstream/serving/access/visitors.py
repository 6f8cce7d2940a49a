"""Requests with browser keys: everybody has such a key, so each names a visitor that it can prove to be, or nobody.

A page speaks for the user of a signed token, or for an anonymous id that it drew itself and nobody can guess. An
anonymous id that was merged into a user is that user's, so it needs the user's token. What a page may ask is listed by
field: a field that is added later is closed to pages until it is listed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

from midstream.core.errors import Fault
from midstream.serving.access.api_keys import PAGE, ApiKey
from midstream.serving.access.questions import entries_of, events_within
from midstream.serving.access.user_tokens import HEADER, UserClaims, claims_of
from midstream.serving.http.problems import MediaTypeUnsupported, ScopeMissing
from midstream.serving.http.responses import JSON, Scope

PAGE_ORIGIN: Final = "midstream.page_origin"
"""Field of a scope: the origin of a page that is let in for the sake of a browser key."""
ROUTES: Final = frozenset(("/v1/events", "/v1/recommendations", "/v1/rank", "/v1/pages"))
MERGE_ROUTE: Final = "/v1/users/{user_id}/merge"
"""Route by which a page makes its anonymous id that of the user of its token. It needs the scope of events: a merge
moves acts, and changes no other profile than that of the token."""
FIELDS: Final = frozenset(
    (
        *("placement", "placements", "user_id", "session_id", "n", "items", "basket", "context", "exclude", "fields"),
        *("min_log_position", "reasons", "events"),
    )
)
"""Of a question. No filter, no explanation, no features of a caller, no cursor."""
SLATE_FIELDS: Final = frozenset(("placement", "n", "exclude", "fields"))
"""Of one placement of a page."""
_CONTEXT: Final = "context."
_ANONYMOUS = re.compile(r"anon-[A-Za-z0-9_-]{16,120}")
_RIGHT_ID: Final = (
    "The user of a token that the shop's server signed (header midstream-user-token), or an id of the page's own: "
    "anon- and at least 16 random letters and digits."
)
_RIGHT_USER: Final = "The user of a token that the shop's server signed (header midstream-user-token)."


class KnownUsers(Protocol):
    """Ids of users, as the state knows them."""

    def is_merged(self, user_id: str) -> bool:
        """Return whether an id stands for another user."""
        ...

    def is_known(self, user_id: str) -> bool:
        """Return whether an event named the user of an id."""
        ...

    def merged_count(self, user_id: str) -> int:
        """Return the number of ids that stand for a user."""
        ...

    def merged_max(self) -> int:
        """Return how many ids may stand for others before the oldest are forgotten."""
        ...


class NoUsers:
    """Ids of a port that has no users."""

    def is_merged(self, user_id: str) -> bool:
        """Return that no id stands for another user."""
        return False

    def is_known(self, user_id: str) -> bool:
        """Return that no event named it."""
        return False

    def merged_count(self, user_id: str) -> int:
        """Return that no id stands for it."""
        return 0

    def merged_max(self) -> int:
        """Return that none may."""
        return 0


class PageVisitor:
    """Who a page may speak for in one request."""

    def __init__(self, key: ApiKey, user_secrets: Iterable[str], scope: Scope, now_ms: int, users: KnownUsers) -> None:
        """Read the token of a request, which holds under one of ``user_secrets``.

        Raises:
            ScopeMissing: The page is not of the key's origins, or a token came that does not hold.
        """
        sent = dict(scope["headers"])
        origin = sent.get(b"origin", b"").decode("latin-1").lower()
        if origin not in key.origins:
            right = f"A page of: {', '.join(key.origins)}."
            raise ScopeMissing((Fault("origin", f'"{origin[:200]}" came with the key {key.id}.', right, PAGE),))
        self._is_merged = users.is_merged
        self._claims: UserClaims | None = None
        token = sent.get(HEADER)
        if token is not None:
            found = (claims_of(token, each, now_ms) for each in user_secrets)
            self._claims = next((each for each in found if each is not None), None)
            if self._claims is None:
                right = (
                    "A JSON Web Token (HS256) under the key's user secret, with sub and exp, valid for a day at most."
                )
                raise ScopeMissing((Fault(HEADER.decode(), "It does not hold, or is over.", right, PAGE),))

    def require_question(self, asked: Mapping[str, Any]) -> None:
        """Refuse a question that names another visitor, or a field that is not for pages.

        Raises:
            ScopeMissing: The field is named.
            RequestInvalid: Its events are no JSON.
        """
        _require_fields(asked, FIELDS, "")
        self.require_ids(asked, "")
        for place, each in enumerate(entries_of(asked.get("placements"))):
            if isinstance(each, dict):
                _require_fields(cast("dict[str, Any]", each), SLATE_FIELDS, f"/placements/{place}")
        if "events" in asked:
            self.require_events(asked["events"])

    def require_events(self, told: object) -> None:
        """Refuse events of another visitor.

        Raises:
            ScopeMissing: The event is named.
        """
        for place, each in enumerate(events_within(told)):
            self.require_ids(each, f"/{place}")

    def require_merge(self, path: str, told: object) -> tuple[str, str] | None:
        """Return the user of a merge and the id that becomes one of it, as a page may ask for it.

        Args:
            path: Path as it was sent.
            told: Decoded body; what is no object is left to the route, which refuses it.

        Returns:
            None for a body that the route refuses.

        Raises:
            ScopeMissing: The id is no anonymous one of the page's own, or the user is not the token's.
        """
        user_id = unquote(path.split("/")[3])
        if self._claims is None or self._claims.sub != user_id:
            raise ScopeMissing((Fault("user_id", f'"{user_id[:60]}" came without proof.', _RIGHT_USER, PAGE),))
        merged = cast("dict[str, Any]", told).get("user_id") if isinstance(told, dict) else None
        if not isinstance(merged, str):
            return None
        if not self._is_own(merged):
            raise _unproven("/user_id", merged)
        return user_id, merged

    def require_query(self, fields: Mapping[str, list[str]]) -> None:
        """Refuse a question in a query string, as one in a body.

        Raises:
            ScopeMissing: The field is named.
        """
        _require_fields([name for name in fields if not name.startswith(_CONTEXT)], FIELDS, "")
        for name in ("user_id", "session_id"):
            for value in fields.get(name, ()):
                self.require_ids({name: value}, "")

    def require_ids(self, told: Mapping[str, Any], where: str) -> None:
        """Refuse ids of another visitor.

        Raises:
            ScopeMissing: The id is named.
        """
        user_id, session_id, claims = told.get("user_id"), told.get("session_id"), self._claims
        is_proven = claims is not None and claims.sub == user_id
        if isinstance(user_id, str) and not is_proven and not self._is_own(user_id):
            raise _unproven(f"{where}/user_id", user_id)
        is_own = claims is not None and claims.sid == session_id
        if isinstance(session_id, str) and not is_own and not self._is_own_session(session_id, is_proven=is_proven):
            raise _unproven(f"{where}/session_id", session_id)

    def _is_own(self, user_id: str) -> bool:
        """Return whether a page may have drawn an id, and it is no other user's."""
        return _ANONYMOUS.fullmatch(user_id) is not None and not self._is_merged(user_id)

    def _is_own_session(self, session_id: str, *, is_proven: bool) -> bool:
        """Return whether a page may have drawn it; one that was merged into a user needs a proven user beside it."""
        return _ANONYMOUS.fullmatch(session_id) is not None and (is_proven or not self._is_merged(session_id))


def require_json(scope: Scope) -> None:
    """Refuse a body of another type: lines and tables are for servers.

    Raises:
        MediaTypeUnsupported: It is no JSON.
    """
    value = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if value.partition(b";")[0].strip().lower() != JSON:
        raise MediaTypeUnsupported((Fault("content-type", f"{value[:60]!r} came.", "application/json.", PAGE),))


def _require_fields(names: Iterable[str], allowed: frozenset[str], where: str) -> None:
    for name in names:
        if name not in allowed:
            came = f'"{name[:60]}" came with a browser key.'
            raise ScopeMissing((Fault(f"{where}/{name[:60]}", came, f"One of: {', '.join(sorted(allowed))}.", PAGE),))


def _unproven(where: str, value: str) -> ScopeMissing:
    return ScopeMissing((Fault(where, f'"{value[:60]}" came without proof.', _RIGHT_ID, PAGE),))
