"""All inputs of a server: started and stopped together, found by name, shown in metrics and health."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from midstream.core.errors import NotFound
from midstream.core.nearest import nearest
from midstream.engine.inputs.broker_input import BrokerInput
from midstream.engine.lease import Lease
from midstream.engine.listeners import Listener
from midstream.engine.types import InputView
from midstream.monitoring.input_gauges import InputState
from midstream.monitoring.metrics import Metrics


class InputGroup:
    """Inputs of one engine. A service that runs beside it."""

    def __init__(self, inputs: Sequence[BrokerInput], metrics: Metrics) -> None:
        """Hold ``inputs``, none of them started."""
        self._inputs = {each.name: each for each in inputs}
        self._metrics = metrics

    def share(self, lease: Callable[[str], Lease], topic_id: str) -> None:
        """Have each read while this node has its lease alone, and none the topic that is the log; before the start."""
        for name, each in self._inputs.items():
            each.lease, each.shared_topic_id = lease(f"input {name}"), topic_id

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self._inputs)

    @property
    def listener(self) -> Listener:
        """What the engine calls for health and metrics."""
        return Listener(name="inputs", gauges=self._set_gauges, inputs=self.views)

    def start(self) -> None:
        """Begin on the running event loop."""
        for each in self._inputs.values():
            each.start()

    async def stop(self) -> None:
        """End all at once: each waits for a consumer that is in a call."""
        await asyncio.gather(*(each.stop() for each in self._inputs.values()))

    def views(self) -> tuple[InputView, ...]:
        """Return how each of them stands."""
        return tuple(each.view() for each in self._inputs.values())

    @property
    def is_at_end(self) -> bool:
        """Whether each of them has read what its topic had."""
        return all(each.is_at_end for each in self._inputs.values())

    def is_idle(self, name: str) -> bool:
        """Return whether one has nothing left that it can read."""
        return self._named(name).is_idle

    def view(self, name: str) -> InputView:
        """Return how one stands.

        Raises:
            NotFound: There is none of that name.
        """
        return self._named(name).view()

    async def move(self, name: str, positions: Mapping[str, str] | str) -> InputView:
        """Have one read on from other positions; see ``BrokerInput.move``.

        Raises:
            NotFound: There is none of that name.
            MidstreamError: As ``BrokerInput.move`` does.
        """
        return await self._named(name).move(positions)

    def _named(self, name: str) -> BrokerInput:
        if name not in self._inputs:
            message = f'"{name[:64]}" is no input of midstream.toml.{nearest(name, self._inputs)}'
            raise NotFound(message)
        return self._inputs[name]

    def _set_gauges(self) -> None:
        for each in self.views():
            lag = {part.partition: part.lag for part in each.partitions if part.lag is not None}
            self._metrics.inputs.set(each.name, InputState(lag, each.reads, is_stopped=each.state == "stopped"))
