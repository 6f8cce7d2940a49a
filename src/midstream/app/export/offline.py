"""Slates for one user after another from a folder's log alone, leaving nothing: also beside a running server."""

import asyncio
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, answering_of
from midstream.app.inspect.query_offline import DEADLINE_S
from midstream.app.opening import Outside
from midstream.engine.answer.query_mapping import answer_of, query_of
from midstream.engine.types import Answer, Ask
from midstream.ranking.pipeline import recommend
from midstream.state.structures.hashing import id_hash


class Unlogged:
    """One state and one plan, at rest."""

    def __init__(self, folder: Path, config: Config, placement: str, n: int | None) -> None:
        """Read the log.

        Raises:
            NotFound: The placement is not configured.
            ConfigInvalid: A component of one's own cannot be loaded.
            LogDamaged: The log cannot be trusted.
        """
        view = answering_of(folder, config, LogView(folder), placement)
        self.fold, self._plan = view.fold, view.plans[placement]
        self._ask = Ask(placement, n=n)

    def answer(self, user_id: str, fields: tuple[str, ...]) -> Answer:
        """Answer for one user: the same each time, as what is left to chance follows from the user's id.

        Raises:
            RequestInvalid: The size cannot be used.
        """
        fold, plan, ask = self.fold, self._plan, msgspec.structs.replace(self._ask, user_id=user_id, fields=fields)
        query = query_of(ask, plan, "", id_hash(user_id, fold.vocabulary.id_key) >> 1, Outside().clock())
        served = asyncio.run(recommend(plan, lambda each: fold.moment(each, plan.models), query, lambda: DEADLINE_S))
        return answer_of(served, ask, fold, "", read_your_writes=None)
