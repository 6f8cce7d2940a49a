"""Operations of an operator's program on dead letters: rejected events that the server keeps with their reasons.

A second copy of a request changes nothing: an event of a letter is recorded at most once, and a letter that the first
copy removed comes back in ``missing``.
"""

from collections.abc import Sequence
from typing import Unpack

from midstream.client.bound_operations import Page, listing, operation
from midstream.client.exchange import ClientSession, Exchange, HttpRequest, answer_to
from midstream.client.fields import LetterFields, LetterListFields, RetryFields
from midstream.client.requests import path_of, posted, sent, target
from midstream.core.answers.letters import DeadLetter, LetterPage, RemovedLetters, RetriedLetters

LETTERS = "dead-letters"


class LetterOperations:
    """What a client does with dead letters, in terms of exchanges."""

    session: ClientSession

    @listing
    def dead_letters(self, cursor: str | None, **wanted: Unpack[LetterListFields]) -> Exchange[Page[DeadLetter]]:
        """Yield the dead letters, the newest first, each with the beginning of its event."""
        path = target("v1", LETTERS, query={**wanted, "after": cursor})
        page = yield from answer_to(self.session, HttpRequest("GET", path), LetterPage)
        return page.letters, None if page.next is None else str(page.next)

    @operation
    def dead_letter(self, number: int) -> Exchange[DeadLetter]:
        """Return one dead letter with its whole event."""
        return answer_to(self.session, HttpRequest("GET", path_of(LETTERS, str(number))), DeadLetter)

    @operation
    def retry_dead_letters(
        self, numbers: Sequence[int] = (), **wanted: Unpack[RetryFields]
    ) -> Exchange[RetriedLetters]:
        """Send up to 1,000 dead letters again; each one whose event is recorded now, or was before, is removed.

        Args:
            numbers: Of the letters; none with ``all``.
            wanted: ``all`` with ``after``; or ``event``, which is sent in place of that of the one letter.
        """
        body = {"numbers": numbers, **sent(wanted)}
        return answer_to(self.session, posted(target("v1", LETTERS, "retry"), body), RetriedLetters)

    @operation
    def remove_dead_letters(
        self, numbers: Sequence[int] = (), **wanted: Unpack[LetterFields]
    ) -> Exchange[RemovedLetters]:
        """Remove up to 1,000 dead letters for good; their events are not sent any more.

        Args:
            numbers: Of the letters; none with ``all``.
            wanted: ``all`` with ``after``.
        """
        body = {"numbers": numbers, **sent(wanted)}
        return answer_to(self.session, posted(target("v1", LETTERS, "remove"), body), RemovedLetters)
