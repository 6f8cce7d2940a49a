"""Export of a slate for each of many users to a file: for e-mails and other uses ahead of a visit.

By default each slate is logged as served, since the recipient sees it: clicks are joined by its ``request_id``,
exploration learns from it, and ``exclude.served`` counts it. The server that has the folder open makes them, if there
is one. Unlogged slates come from the log alone and leave no trace.

All slates of a file are made first (``slates_begun``), so that an interrupted export continues, in any format.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import quote

import msgspec

from midstream.app.config.schema import Config
from midstream.app.export.events import require_folder_of
from midstream.app.export.resume import Begun, MadeWith
from midstream.app.export.writers import WRITERS, ExportedSlate
from midstream.app.inspect.folder_view import LogView, answering_of, state_of
from midstream.app.inspect.query_offline import served_at_rest
from midstream.app.inspect.user_ids import known_users, listed_users, matches
from midstream.app.opening import DATA_NAME, Outside, open_shop
from midstream.app.server_address import server_of
from midstream.app.server_refusals import answers, refusal_of, server_client
from midstream.core.errors import Fault, FolderLocked, Invalid
from midstream.engine.answer.query_mapping import answer_of
from midstream.engine.folder import DataFolder
from midstream.engine.models.standing_models import CHAMPION
from midstream.engine.recommender import Recommender
from midstream.engine.stores.connector import closing_runner
from midstream.engine.tokens import position_token
from midstream.engine.types import AnswerItem, Ask
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import read_identity
from midstream.events.whole_file import OPEN_MODE, WholeFile
from midstream.ranking.fetch_cache import FetchCache
from midstream.state.fold import Fold
from midstream.state.structures.hashing import id_hash

if TYPE_CHECKING:
    import httpx

DEADLINE_MS = 10_000
"""Of one slate: no visitor waits for it."""
_PAGE = "/docs/cli.md"


@dataclass(frozen=True, slots=True)
class SlateOptions:
    """Which slates are written, and how."""

    placement: str
    n: int | None = None
    """Items of a slate; None = the placement's."""
    fields: tuple[str, ...] = ()
    """Item attributes with each item."""
    users: tuple[str, ...] = ()
    """These users; none, and no file of them = all that are known."""
    users_file: Path | None = None
    having: tuple[tuple[str, str], ...] = ()
    """Only users whose profile has these values."""
    format: str = "ndjson"
    is_logged: bool = True
    """Each slate is logged as served."""
    anew: bool = False
    """Discard the slates of an interrupted export to the same file."""


@dataclass(frozen=True, slots=True)
class SlateSummary:
    """Result of an export of slates."""

    users: int
    """Users with a slate."""
    empty: int
    """Users for whom no item may be served: they are not in the file."""
    items: int
    logged: bool
    through: str
    """URL of the server that answered; empty = this process did."""
    log_position: str = ""
    """Where the state stood when this began."""
    kept: int = 0
    """Users whose slates an interrupted export had made."""
    kept_log_position: str = ""
    """Where the state stood when that one began; empty = there was none."""


class AnswerSource(Protocol):
    """Answers for one user after another."""

    @property
    def fold(self) -> Fold:
        """The state, for the list of users."""
        ...

    @property
    def through(self) -> str:
        """URL of the server that answers, empty = none."""
        ...

    def slate(self, user_id: str) -> ExportedSlate:
        """Return the slate of one user."""
        ...

    def is_logged(self, request_id: str) -> bool:
        """Return whether a slate is in the log."""
        ...


def export_slates(
    folder: Path,
    config: Config,
    target: BinaryIO | Path,
    options: SlateOptions,
    notify: Callable[[int, int], None] | None = None,
) -> SlateSummary:
    """Write the slate of each user.

    Args:
        folder: Holds ``midstream.toml`` and ``data``.
        config: Of that folder.
        target: A file, which appears under its name when it is whole, and goes on where one was broken off; or where
            bytes go.
        options: Placement, users, format.
        notify: Told how many users were answered, of how many.

    Raises:
        Invalid: There is no such format, the file of users cannot be read, or another export writes this file.
        NotFound: The placement is not configured.
        RequestInvalid: The size cannot be used.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server does not answer.
        Overloaded: It had no room for a minute.

    Cost: that of an answer a user, and what one row group takes: memory does not grow with the users but by 60 bytes
    for each id, and 100 more where it goes to a file.
    """
    if options.format not in WRITERS:
        raise Invalid((Fault("--format", f"{options.format!r}", f"One of {', '.join(WRITERS)}.", _PAGE),))
    notify = notify or (lambda _done, _all: None)
    with ExitStack() as stack:
        if isinstance(target, Path):
            require_folder_of(target)
        answers = stack.enter_context(_answers(folder, config, options))
        users = _users(folder, answers.fold, options)
        made_with, position = _made_with(folder, config, answers.fold, options)
        about = SlateSummary(0, 0, 0, options.is_logged, answers.through, position)
        if not isinstance(target, Path):
            return _written(target, _told(map(answers.slate, users), len(users), 0, notify), options, about)
        begun = stack.enter_context(Begun(target, made_with, Outside().clock(), position, anew=options.anew))
        begun.forget_unlogged(answers.is_logged)
        left = [user_id for user_id in users if user_id not in begun.kept]
        if kept := len(users) - len(left):
            about = replace(about, kept=kept, kept_log_position=begun.log_position)
        for slate in _told(map(answers.slate, left), len(users), kept, notify):
            begun.add(slate)
        with WholeFile(target, OPEN_MODE) as file:
            return _written(file, begun.slates(users), options, about)


def _told(
    slates: Iterator[ExportedSlate], count: int, done: int, notify: Callable[[int, int], None]
) -> Iterator[ExportedSlate]:
    """Yield slates and tell of each that it was made, where ``done`` of ``count`` were before."""
    for number, slate in enumerate(slates, done + 1):
        yield slate
        notify(number, count)


def _written(
    file: BinaryIO, slates: Iterator[ExportedSlate], options: SlateOptions, about: SlateSummary
) -> SlateSummary:
    """Write slates that have items; return what is said of them, with how many there were."""
    written = empty = items = 0
    writer = WRITERS[options.format](file, options.fields)
    for slate in slates:
        if slate.items:
            writer.write(slate)
        written, empty = written + bool(slate.items), empty + (not slate.items)
        items += len(slate.items)
    writer.close()
    return replace(about, users=written, empty=empty, items=items)


def _made_with(folder: Path, config: Config, fold: Fold, options: SlateOptions) -> tuple[MadeWith, str]:
    """Return what slates depend on, and where the state stands."""
    log = DataFolder(folder / DATA_NAME).log
    identity = read_identity(log, RealDisk()) if log.is_dir() else None
    said = [config.config_hash, *((each.name, each.content) for each in fold.placements.current)]
    models = [(row.model, row.alias, row.version) for row in fold.promotions.rows if row.alias == CHAMPION]
    made_with = MadeWith(
        log_name="" if identity is None else identity.public_name,
        config=sha256(msgspec.json.encode([said, models])).hexdigest()[:16],
        placement=options.placement,
        n=options.n,
        fields=options.fields,
        is_logged=options.is_logged,
    )
    return made_with, position_token(0 if identity is None else identity.generation, fold.log_position)


def _users(folder: Path, fold: Fold, options: SlateOptions) -> list[str]:
    """Return the users who are to get a slate, each once."""
    listed = list(options.users)
    if options.users_file is not None:
        listed.extend(listed_users(options.users_file))
    found: Iterator[str] | list[str] = (
        list(dict.fromkeys(listed)) if listed or options.users_file else known_users(fold, LogView(folder))
    )
    return [user for user in found if matches(fold, user, options.having)]


@contextmanager
def _answers(folder: Path, config: Config, options: SlateOptions) -> Generator[AnswerSource]:
    """Give who answers: this process with the log alone or with the folder open, or the server that has it open."""
    if not options.is_logged:
        with closing_runner() as runner:
            yield _FromLog(folder, config, options, runner)
        return
    with ExitStack() as stack:
        try:
            shop = stack.enter_context(open_shop(folder, config))
        except FolderLocked:
            url = server_of(DataFolder(folder / DATA_NAME))
            if not url:
                raise
            client = stack.enter_context(server_client(url))
            yield _FromServer(client, state_of(folder, config, LogView(folder)).fold, options)
        else:
            yield _FromShop(shop, options)


class _FromLog:
    """Slates of the state and the plan that the log gives; nothing is logged."""

    through = ""

    def __init__(self, folder: Path, config: Config, options: SlateOptions, runner: asyncio.Runner) -> None:
        view = answering_of(folder, config, LogView(folder), options.placement)
        self.fold, self._plan, self._options = view.fold, view.plans[options.placement], options
        self._fetched, self._runner = FetchCache(), runner

    def slate(self, user_id: str) -> ExportedSlate:
        """Answer for one user: the same each time, as what is left to chance follows from the user's id."""
        ask = Ask(self._plan.name, user_id=user_id, n=self._options.n, fields=self._options.fields)
        seed = id_hash(user_id, self.fold.vocabulary.id_key) >> 1
        served = served_at_rest(self.fold, self._plan, ask, seed, self._fetched, self._runner)
        found = answer_of(served, ask, self.fold, "", read_your_writes=None)
        return ExportedSlate(user_id, found.placement, None, found.tier, _items(found.items))

    def is_logged(self, request_id: str) -> bool:
        """Return False: none is."""
        return False


class _FromShop:
    """Slates of the open folder, each logged as served."""

    through = ""

    def __init__(self, shop: Recommender, options: SlateOptions) -> None:
        self._shop = shop
        self._options = options

    @property
    def fold(self) -> Fold:
        """The state in service, which nothing but what is asked here changes."""
        return self._shop.running.engine.fold

    def slate(self, user_id: str) -> ExportedSlate:
        """Answer for one user."""
        options = self._options
        asked: dict[str, Any] = {"n": options.n, "fields": options.fields, "deadline_ms": DEADLINE_MS}
        found = self._shop.recommend(options.placement, user_id=user_id, **asked)
        return ExportedSlate(user_id, found.placement, found.request_id, found.tier, _items(found.items))

    def is_logged(self, request_id: str) -> bool:
        """Return whether the state knows of it."""
        return self._shop.running.engine.served(request_id) is not None


class _FromServer:
    """Slates of the server that has the folder open, each logged as served."""

    def __init__(self, client: "httpx.Client", fold: Fold, options: SlateOptions) -> None:
        self._client = client
        self._options = options
        self.fold = fold
        self.through = str(client.base_url)

    def slate(self, user_id: str) -> ExportedSlate:
        """Ask for one user, again while the server is overloaded."""
        options = self._options
        body = {"placement": options.placement, "user_id": user_id, "fields": options.fields, "deadline": "10s"}
        found = self._posted(body if options.n is None else {**body, "n": options.n})
        return ExportedSlate(user_id, options.placement, found["request_id"], found["tier"], found["items"])

    def is_logged(self, request_id: str) -> bool:
        """Ask the server whether it knows of it, again while it is overloaded: only a 404 says that it does not."""
        address = f"/v1/requests/{quote(request_id, safe='')}"
        answer = self._answered(lambda: self._client.get(address))
        if answer.is_success or answer.status_code == HTTPStatus.NOT_FOUND:
            return answer.is_success
        raise refusal_of(answer, self.through)

    def _posted(self, body: Mapping[str, object]) -> dict[str, Any]:
        answer = self._answered(lambda: self._client.post("/v1/recommendations", json=body))
        if not answer.is_success:
            raise refusal_of(answer, self.through)
        found: dict[str, Any] = answer.json()
        return found

    def _answered(self, send: "Callable[[], httpx.Response]") -> "httpx.Response":
        """Return what the server answers once it has room."""
        *_, answer = answers(send, self.through)
        return answer


def _items(items: Sequence[AnswerItem]) -> list[dict[str, Any]]:
    """Return items as an answer over HTTP has them."""
    found: list[dict[str, Any]] = []
    for each in items:
        own: dict[str, Any] = {"id": each.id, "score": float(f"{each.score:.7g}"), "position": each.position}
        found.append(own if each.fields is None else {**own, "fields": each.fields})
    return found
