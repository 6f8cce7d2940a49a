"""``POST /v1/recommendations/batch``: the same request for many users, for newsletters and prefetching.

The users are answered one after another, each usual question by its compiled plan, and each answer is encoded in the
turn that made it. Between two of them every other request has its turn, so a batch delays only itself.
"""

from typing import TYPE_CHECKING

import msgspec

from midstream.core.answers.slates import UserSlate
from midstream.core.errors import MidstreamError, NotFound
from midstream.engine.answer.compiled_slates import EncodedSlate
from midstream.engine.requests.schema import BatchBody, read_deadline
from midstream.engine.types import Answer
from midstream.serving.http.parsing import decode_json
from midstream.serving.http.problems import problem_of
from midstream.serving.http.responses import NO_STORE, Reply
from midstream.serving.slates.recommendations import OnlyPlacement, encoded_reply, placement_unknown, slate_of

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


_decoder = msgspec.json.Decoder(BatchBody, dec_hook=read_deadline)
_encode = msgspec.json.Encoder().encode


class Batches:
    """Answers many users at once; holds the engine."""

    def __init__(self, engine: "Engine") -> None:
        """Answer with ``engine``."""
        self._engine = engine
        self._unnamed = OnlyPlacement(engine)

    async def from_body(self, body: bytes) -> Reply:
        """Answer ``POST``.

        Raises:
            RequestInvalid: The body or something it names cannot be used.
            Overloaded: Too many requests wait for a log position.
        """
        question = decode_json(_decoder, body)
        placement = question.placement or self._unnamed.name()
        users, answers = iter(question.users), list[bytes]()
        try:
            async for found in self._engine.encoded_slates(question, placement):
                answers.append(_encoded(next(users), found))
        except NotFound as error:
            raise placement_unknown(self._engine, placement) from error
        return Reply(200, b'{"answers":[%b]}' % b",".join(answers), headers=NO_STORE)


def _encoded(user_id: str, found: EncodedSlate | Answer | MidstreamError) -> bytes:
    """Return the bytes of a ``UserSlate``."""
    if isinstance(found, EncodedSlate):
        return b'{"user_id":%b,"slate":%b}' % (_encode(user_id), encoded_reply(found))
    if isinstance(found, Answer):
        return _encode(UserSlate(user_id, slate_of(found, None)))
    return _encode(UserSlate(user_id, problem=problem_of(found)))
