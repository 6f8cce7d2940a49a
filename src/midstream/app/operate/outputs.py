"""Outputs of a folder: shown and moved through the server that has it open."""

from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from midstream.app.opening import DATA_NAME
from midstream.app.server_address import server_of
from midstream.app.server_refusals import refusal_of, server_answer
from midstream.core.errors import StoreUnavailable
from midstream.engine.folder import DataFolder
from midstream.engine.outbox.output_group import OutputView

ANSWER_S_MAX = 160.0
"""A move waits for two calls of the broker."""
T = TypeVar("T")


class _Outputs(msgspec.Struct, frozen=True):
    outputs: tuple[OutputView, ...]


def outputs_of_server(folder: Path) -> tuple[OutputView, ...]:
    """Return how each output of the server stands.

    Raises:
        StoreUnavailable: No server has the folder open, or it does not answer.
    """
    return _asked(folder, _Outputs, "GET", "/v1/outputs").outputs


def move_output(folder: Path, name: str, to: int | str) -> OutputView:
    """Have an output go on from a log position, from ``now`` or from the ``beginning``.

    Raises:
        StoreUnavailable: As ``outputs_of_server``; or the broker does not answer.
        NotFound: There is no output of that name.
        RequestInvalid: The log has no such position.
    """
    return _asked(folder, OutputView, "POST", f"/v1/outputs/{quote(name, safe='')}/position", json={"to": to})


def _asked(folder: Path, kind: type[T], method: str, path: str, **body: Any) -> T:  # noqa: ANN401  of the client
    found = server_answer(
        server_of(DataFolder(folder / DATA_NAME)),
        ANSWER_S_MAX,
        lambda client: client.request(method, path, **body),
        refusal_of,
    )
    if found is None:
        message = f"no server has {folder} open; outputs are delivered by `midstream serve`"
        raise StoreUnavailable(message)
    return msgspec.json.decode(found, type=kind)
