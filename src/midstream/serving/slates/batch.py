"""``POST /v1/recommendations/batch``: the same request for many users, for newsletters and prefetching.

The users are answered one after another, and between two of them every other request has its turn, so a batch delays
only itself.
"""

from typing import TYPE_CHECKING

import msgspec

from midstream.core.answers.slates import Batch, UserSlate
from midstream.core.errors import MidstreamError, NotFound
from midstream.engine.requests.schema import BatchBody, read_deadline
from midstream.engine.types import Answer
from midstream.serving.http.parsing import decode_json
from midstream.serving.http.problems import problem_of
from midstream.serving.http.responses import NO_STORE, Reply
from midstream.serving.slates.recommendations import only_placement, placement_unknown, slate_of

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


_decoder = msgspec.json.Decoder(BatchBody, dec_hook=read_deadline)
_encode = msgspec.json.Encoder().encode


class Batches:
    """Answers many users at once; holds the engine."""

    def __init__(self, engine: "Engine") -> None:
        """Answer with ``engine``."""
        self._engine = engine

    async def from_body(self, body: bytes) -> Reply:
        """Answer ``POST``.

        Raises:
            RequestInvalid: The body or something it names cannot be used.
            Overloaded: Too many requests wait for a log position.
        """
        question = decode_json(_decoder, body)
        placement = question.placement or only_placement(self._engine)
        try:
            answers = await self._engine.recommend_many(question.asks(placement))
        except NotFound as error:
            raise placement_unknown(self._engine, placement) from error
        found = [_told(*each) for each in zip(question.users, answers, strict=True)]
        return Reply(200, _encode(Batch(found)), headers=NO_STORE)


def _told(user_id: str, answer: Answer | MidstreamError) -> UserSlate:
    if isinstance(answer, Answer):
        return UserSlate(user_id, slate_of(answer, None))
    return UserSlate(user_id, problem=problem_of(answer))
