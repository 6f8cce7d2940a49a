"""Placements of a folder: through the server that has it open, else read from the log and changed in this process."""

import sys
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, served_of
from midstream.app.opening import DATA_NAME
from midstream.app.operate.folder_orders import ANSWER_S_MAX, by_engine, changed
from midstream.app.placement_parts import placement_parts
from midstream.app.server_address import server_of
from midstream.app.server_refusals import faults_of, problem_of, refusal_of, server_answer
from midstream.core.answers.placements import PlacementDetail, PlacementList
from midstream.core.answers.slates import PreviewSlates
from midstream.core.errors import (
    ConfigInvalid,
    Fault,
    MidstreamError,
    NotFound,
    PlacementChanged,
    RebuildRunning,
    RequestInvalid,
    StoreUnavailable,
)
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.placements.control_changes import PAGE, Said
from midstream.engine.placements.placing import KnownPlacements
from midstream.engine.replication.topic_position import read_topic_position
from midstream.engine.requests.faults import field_refusal, path_of, reading
from midstream.engine.requests.schema import read_deadline
from midstream.engine.tokens import position_token
from midstream.serving.slates.recommendations import RecommendationBody, slate_of

if TYPE_CHECKING:
    import httpx

FILE_BYTES_MAX = 262_144
"""Four times what a placement may have as canonical JSON."""
STANDARD_INPUT = "-"
_PLACEMENT = "/placement"
"""Where the placement stands in what is sent to a server."""


PLACEMENT_FILE = "The settings of one placement as TOML, without [[placements]], or one JSON object."


def read_file(path: str, right: str = PLACEMENT_FILE, page: str = PAGE) -> Any:  # noqa: ANN401  what TOML or JSON says
    """Return the placement, or another order, of a file: TOML, or JSON where it begins with a brace.

    Args:
        path: ``-`` = standard input.
        right: What the file should have, for a refusal.
        page: Of the documentation, for a refusal.

    Raises:
        ConfigInvalid: It is neither, too long, or cannot be read.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    try:
        if path == STANDARD_INPUT:
            content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigInvalid((Fault(name, f"It cannot be read: {error.strerror}.", right, page),)) from error
    if len(content) > FILE_BYTES_MAX:
        raise ConfigInvalid((Fault(name, "It is too long.", f"At most {FILE_BYTES_MAX:,} bytes.", page),))
    try:
        if content.lstrip()[:1] == b"{":
            return msgspec.json.decode(content)
        return tomllib.loads(content.decode())
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        why = f"byte {error.start} is no UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ConfigInvalid((Fault(name, f"It cannot be read: {why}.", right, page),)) from error


def question_of(
    user: str | None, session: str | None, items: Sequence[str], n: int | None, item_filter: str | None
) -> RecommendationBody:
    """Return the question that a command line asks.

    Raises:
        RequestInvalid: A value is out of bounds.
    """
    told = {"user_id": user, "session_id": session, "items": tuple(items), "n": n, "filter": item_filter}
    try:
        return msgspec.convert(told, RecommendationBody, dec_hook=read_deadline)
    except msgspec.ValidationError as error:
        raise field_refusal(error, told, RecommendationBody, reading(read_deadline)) from error


def list_placements(folder: Path, config: Config) -> PlacementList:
    """Return every placement with its components and its origin.

    Cost: without a server that of the newest snapshot and the log after it.

    Raises:
        ConfigInvalid: A custom component cannot be loaded.
        LogDamaged: The log cannot be trusted.
        StoreUnavailable: A server has the folder open and does not answer.
    """
    told = _asked(folder, "GET", "")
    if told is not None:
        return msgspec.json.decode(told, type=PlacementList)
    known = _known(folder, config)
    return PlacementList(known.views(), known.aside())


def show_placement(folder: Path, config: Config, name: str) -> PlacementDetail:
    """Return all that is known of one placement, as ``list_placements`` does.

    Raises:
        NotFound: There is none of that name, and never was.
    """
    told = _asked(folder, "GET", f"/{quote(name, safe='')}")
    return _known(folder, config).view(name) if told is None else msgspec.json.decode(told, type=PlacementDetail)


def set_placement(folder: Path, config: Config, name: str, told: object, said: Said) -> PlacementDetail:
    """Set a placement; through the server that has the folder open, if there is one.

    Raises:
        ConfigInvalid: It cannot be used; every fault is named, and nothing was changed. So with all that follow.
        PlacementChanged: Somebody else changed it after ``said.if_version``.
        RebuildRunning: The server is about to have another configuration.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has it open refused or did not answer.
    """

    async def work(running: Instance) -> PlacementDetail:
        return await running.placing.put(name, told, said)

    body = {"placement": told, "author": said.author, "note": said.note, "if_version": said.if_version}
    return _changed(folder, config, work, lambda: _asked(folder, "PUT", f"/{quote(name, safe='')}", json=body))


def remove_placement(folder: Path, config: Config, name: str, said: Said) -> PlacementDetail:
    """Give a placement back to the file; raises as ``set_placement`` does.

    Raises:
        NotFound: It is not set.
    """

    async def work(running: Instance) -> PlacementDetail:
        return await running.placing.remove(name, said)

    query = {"author": said.author, "note": said.note, "if_version": said.if_version}
    query = {key: value for key, value in query.items() if value not in {None, ""}}
    return _changed(folder, config, work, lambda: _asked(folder, "DELETE", f"/{quote(name, safe='')}", params=query))


def preview_placement(
    folder: Path, config: Config, name: str, told: object, question: RecommendationBody
) -> PreviewSlates:
    """Answer a question with a placement that is not set, and with today's; nothing is logged or kept.

    Raises:
        ConfigInvalid: It cannot be used; every fault is named.
        RequestInvalid: The filter or the size cannot be used.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has it open refused or did not answer.
    """
    asked = {key: value for key, value in msgspec.to_builtins(question).items() if value not in (None, [], {})}
    body = {"placement": told, "question": asked}
    sent = _asked(folder, "POST", f"/{quote(name, safe='')}/preview", json=body)
    if sent is not None:
        return msgspec.json.decode(sent, type=PreviewSlates)

    async def work(running: Instance) -> PreviewSlates:
        found = await running.placing.preview(name, told, question.ask(name))
        today = None if found.today is None else slate_of(found.today, None)
        return PreviewSlates(slate_of(found.answer, None), today)

    return by_engine(folder, config, work)


def _known(folder: Path, config: Config) -> KnownPlacements:
    log = LogView(folder)
    service, fold = served_of(folder, config, log)
    data = DataFolder(folder / DATA_NAME)
    parts = placement_parts(folder, data)
    known = read_topic_position(data.topic_position)
    generation = log.identity.generation if known is None else known.token_generation
    return KnownPlacements(service, service.plans, fold, parts, lambda at: position_token(generation, at))


def _changed(
    folder: Path,
    config: Config,
    work: Callable[[Instance], Awaitable[PlacementDetail]],
    ask: Callable[[], bytes | None],
) -> PlacementDetail:
    return changed((folder, config), work, ask, lambda told: msgspec.json.decode(told, type=PlacementDetail))


def _asked(folder: Path, method: str, path: str, **sent: Any) -> bytes | None:  # noqa: ANN401  as httpx takes it
    """Return what the server of a folder answers, None = there is none."""
    return server_answer(
        server_of(DataFolder(folder / DATA_NAME)),
        ANSWER_S_MAX,
        lambda client: client.request(method, f"/v1/placements{path}", **sent),
        lambda answer, url: _refusal(answer, url, sent.get("json", {}).get("placement")),
    )


def _where(pointer: str, placement: object) -> str:
    """Return where something is wrong as it is said without a server: in the placement, or in the question."""
    if pointer == _PLACEMENT or pointer.startswith(f"{_PLACEMENT}/"):
        return path_of(pointer.removeprefix(_PLACEMENT), placement)
    if pointer == "name":
        return "$.name"
    return pointer.removeprefix("/question")


def _refusal(answer: "httpx.Response", url: str, placement: object) -> MidstreamError:
    """Return what a server refuses as what it is here; ``placement`` is what was sent of one."""
    problem = problem_of(answer)
    if problem is None:
        return refusal_of(answer, url)
    faults = tuple(replace(each, where=_where(each.where, placement)) for each in faults_of(problem))
    if answer.status_code == HTTPStatus.CONFLICT:
        return PlacementChanged(faults) if faults else RebuildRunning(problem.detail)
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return NotFound(problem.detail)
    if faults:
        return (ConfigInvalid if faults[0].where[:1] == "$" else RequestInvalid)(faults)
    return StoreUnavailable(f"{url} answered {answer.status_code}: {problem.detail}")
