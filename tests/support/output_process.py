"""A process that records events in a folder and delivers its outputs, until it is killed or told to end.

``python -m tests.support.output_process FOLDER SEED``: a line on the standard output when it began, one when all is
delivered; ``end`` on the standard input stops the events.
"""

import asyncio
import random
import sys
from pathlib import Path

from midstream.app.opening import DATA_NAME, config_of, open_running
from midstream.app.output_services import with_outputs
from midstream.core.kinds import Kind
from midstream.engine.folder import DataFolder
from midstream.events.schema import Event, build

BATCH_MAX = 40


async def deliver(folder: Path, seed: int) -> None:
    """Record and deliver."""
    chance = random.Random(seed)  # noqa: S311  no secret
    data = DataFolder(folder / DATA_NAME)
    running, outputs = with_outputs(open_running(folder, config_of(folder)), data)
    await running.start()
    print("began", flush=True)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    while not ended.done():
        await running.engine.record(acts(chance, chance.randrange(1, BATCH_MAX)))
        await asyncio.sleep(chance.random() * 0.01)
    while any(each.lag_events for each in outputs.views()):  # noqa: ASYNC110  it sets no event
        await asyncio.sleep(0.01)
    await running.stop()
    print(*(each.delivered for each in outputs.views()), flush=True)


def acts(chance: random.Random, count: int):
    """Return views of some users."""
    return build(
        [
            Event(
                Kind.INTERACTION,
                event_id=f"{chance.getrandbits(80):x}",
                action="view",
                user_id=f"u{chance.randrange(50)}",
                item_id=f"i{chance.randrange(90)}",
            )
            for _ in range(count)
        ]
    )


if __name__ == "__main__":
    asyncio.run(deliver(Path(sys.argv[1]), int(sys.argv[2])))
