"""Maker of candidates beside a server: a child trains, another one measures, and nothing of the server is touched."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from midstream.app.config.schema import Config
from midstream.app.encoding.worker import ONE_THREAD
from midstream.app.golden_files import golden_of, golden_path
from midstream.app.opening import DATA_NAME
from midstream.core.errors import FitStopped, MidstreamError
from midstream.engine import child_process
from midstream.engine.folder import DataFolder
from midstream.engine.trainings.candidates import CandidateOrder, MadeCandidate, NotMeasured
from midstream.training.gates.decide import decide
from midstream.training.gates.evidence import GateEvidence, JudgedActs, ShadowAnswers

if TYPE_CHECKING:
    from midstream.app.training.fit import Trained
    from midstream.app.training.measuring import MeasuredPair
    from midstream.app.training.rerunning import Reran

MEASURE_S_MAX = 600.0
"""Reading and hashing two versions of 10 GB takes two minutes."""

RERUN_S_MAX = 3_600.0
"""A value of 20,000 slates takes two minutes, of a log that is folded from its beginning more."""


@dataclass(frozen=True, slots=True)
class ChildMaker:
    """Makes candidates of one folder in child processes."""

    folder: Path
    config: Callable[[], Config]
    """In service."""

    async def make(self, order: CandidateOrder) -> MadeCandidate:
        """Return a new version of a model and what it was seen to do.

        Raises:
            NotFound: No such model is configured any more.
            ConfigInvalid: The file of known answers cannot be used; nothing was fitted.
            Invalid: There is nothing to learn from.
            NotMeasured: A version was published, and a child that measures it failed or reached a limit.
            FitStopped: The fit failed or reached a limit; the text has the cause.
            OSError: The disk.
        """
        # What reads examples needs Arrow, which no start waits for.
        from midstream.app.training.run import TrainingOrigin, train_beside

        config, model = self.config(), order.table.model
        golden_of(order.table, self.folder)
        origin = TrainingOrigin(order.start, order.champion, order.since_ms)
        trained = await train_beside(self.folder, config, model, origin)
        try:
            return await self._judged(config, order, trained)
        except (MidstreamError, msgspec.MsgspecError, OSError) as error:
            raise NotMeasured(f"{type(error).__name__}: {error}", trained.version) from error

    async def shadow(self, order: CandidateOrder, candidate: str) -> ShadowAnswers:
        """Return how a version that was published answers the newest requests beside the champion.

        Raises:
            FitStopped: The child ended without an answer.
        """
        seen = await self._reran(self.config(), order, candidate, has_value=False)
        return seen.shadow or ShadowAnswers(why_not="it is off")

    async def _judged(self, config: Config, order: CandidateOrder, trained: "Trained") -> MadeCandidate:
        """Return a version that was published with all that gates judge it by."""
        pair = await self._measured(config, order, trained.version)
        judged = trained.judged or JudgedActs(why_not="it was not judged")
        evidence = GateEvidence(now_ms=order.now_ms, judged=judged, golden=pair.golden)
        made = MadeCandidate(pair.candidate, pair.champion, evidence)
        # Requests are run again for a version that all else speaks for: that takes longest.
        before = msgspec.structs.replace(order.table.gates, off_policy="off", shadow=False)
        if pair.champion is None or not decide(pair.candidate, pair.champion, evidence, before).passed:
            return made
        has_value = order.table.gates.off_policy != "off"
        seen = await self._reran(config, order, trained.version, has_value=has_value)
        return replace(made, evidence=msgspec.structs.replace(evidence, shadow=seen.shadow, value=seen.value))

    async def _reran(self, config: Config, order: CandidateOrder, version: str, *, has_value: bool) -> "Reran":
        """Return what the newest requests say of both versions.

        Raises:
            FitStopped: The child ended without an answer: what ends it would end whoever answers.
        """
        from midstream.app.training.rerunning import MODULE, Reran, RerunOrder

        gates = order.table.gates
        if not gates.shadow and not has_value:
            return Reran(None, None)
        wanted = RerunOrder(
            folder=str(self.folder.absolute()),
            config=msgspec.json.encode(config, enc_hook=str).decode(),
            model=order.table.model,
            candidate=version,
            champion=order.champion,
            slates=gates.slates,
            has_shadow=gates.shadow,
            has_value=has_value,
            placement=order.table.canary.placement,
        )
        ended = await child_process.run(MODULE, wanted, time_s_max=RERUN_S_MAX, variables=ONE_THREAD)
        if not ended.line:
            message = f"no request was run again with {version}: {ended.reason}"
            raise FitStopped(message)
        return msgspec.json.decode(ended.line, type=Reran)

    async def _measured(self, config: Config, order: CandidateOrder, version: str) -> "MeasuredPair":
        """Return what the new version and the one in service answer.

        Raises:
            FitStopped: The child ended without an answer.
        """
        from midstream.app.training.fit import model_named
        from midstream.app.training.measuring import MODULE, MeasuredPair, MeasureOrder

        wanted = MeasureOrder(
            folder=str(DataFolder(self.folder.absolute() / DATA_NAME).models),
            model=order.table.model,
            candidate=version,
            champion=order.champion,
            popular=order.popular,
            golden=str(golden_path(order.table, self.folder) or ""),
            version_bytes_max=config.registry.version_bytes_max,
            memory_bytes_max=model_named(config, order.table.model).memory_bytes_max,
        )
        ended = await child_process.run(MODULE, wanted, time_s_max=MEASURE_S_MAX, variables=ONE_THREAD)
        if not ended.line:
            message = f"{version} was not measured: {ended.reason}"
            raise FitStopped(message)
        return msgspec.json.decode(ended.line, type=MeasuredPair)
