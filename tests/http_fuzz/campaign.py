"""HTTP fuzz campaign: valid requests with one mutation each against a real server of several processes.

``.venv/bin/python -m tests.http_fuzz.campaign --requests 1000000`` runs it long; a short one is a test. What must
hold: no answer above 499, no hang, no answer that cannot be read or that nobody asked for; every event that was
acknowledged is in the log once, no event that was refused or hidden is; the server's memory and what other clients
wait stay bounded.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import midstream
from midstream.app.opening import DATA_NAME
from midstream.app.server_address import read_address
from tests.http_fuzz.exchange import Exchange, exchange
from tests.http_fuzz.grammar import Grammar, Request, wire
from tests.http_fuzz.mutations import MUTATIONS, Mutation, flip_bytes
from tests.support.dice import Dice
from tests.support.patience import PATIENCE_S, wait_until

CONFIG = """
[events.types]
view = {}
cart = { weight = 3.0 }
purchase = { weight = 8.0 }
dismiss = { weight = -2.0 }
[items.attributes]
price = "number"
[server]
answer_wait_max = "60s"
bulk_streams_max = 32
body_wait_max = "2s"
head_wait_max = "2s"
[snapshots]
interval = "20s"
[limits]
users_max = 5_000
items_max = 5_000
click_items_max = 2_000
sessions_max = 5_000
index_sessions_max = 5_000
event_ids_max = 4_000_000
requests_max = 20_000
document_bytes_max = 1_000_000
[[features]]
name = "mine"
kind = "count"
scope = "user"
actions = ["view"]
[[placements]]
name = "home"
deadline = "2s"
features = ["mine"]
"""
CONNECTIONS = 8
REQUESTS_MAX = 6
"""Over one connection."""
HTTP_SERVER_ERROR = 500
SUCCESS = range(200, 300)


@dataclass
class Verdict:
    """What a campaign saw."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Ids of events that must be in the log, and what was sent with them."""
    refused: dict[str, str] = field(default_factory=dict)
    """Ids of events that must not be in the log, and what was sent with them."""


@dataclass
class Session:
    """Requests over one connection, the last of them mutated."""

    requests: list[Request]
    mutation: str
    is_framed: bool
    """Whether the server must see as many requests as were sent, all framed as they say."""
    pieces: list[bytes]


class Campaign:
    """One seed's sessions against one address."""

    def __init__(self, address: tuple[str, int], seed: int) -> None:
        """Prepare the dice."""
        self.verdict = Verdict()
        self._address = address
        self._dice = Dice(seed, 1)
        self._grammar = Grammar(Dice(seed, 2), f"127.0.0.1:{address[1]}", f"e{seed}")

    async def run(self, requests: int) -> Verdict:
        """Send so many requests, over several connections at once."""

        async def client() -> None:
            while self.verdict.requests < requests and len(self.verdict.faults) < FAULTS_MAX:
                session = self._session()
                self.verdict.requests += len(session.requests)
                methods = [each.method for each in session.requests]
                half_close = self._dice.chance(0.02)
                found = await exchange(self._address, session.pieces, methods, half_close=half_close)
                self._judge(session, found)
                unanswered = len(session.requests) - 1 - len(found.statuses)
                if unanswered > 0 and not half_close:
                    where = f"{session.mutation} {session.pieces!r}"[-SHOWN_BYTES:]
                    self.verdict.faults.append(f"{unanswered} valid requests without an answer at {where}")

        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
        return self.verdict

    def _session(self) -> Session:
        dice = self._dice
        valid = [self._grammar.request() for _ in range(dice.few(REQUESTS_MAX))]
        mutation: Mutation = dice.weighted(MUTATIONS)
        last = mutation(self._grammar.request(), dice)
        parts = [*(wire(each, dice) for each in valid), wire(last, dice)]
        if mutation is flip_bytes:
            parts[-1] = flipped(parts[-1], dice)
        name = getattr(mutation, "__name__", "")
        is_framed = name not in {"flip_bytes", "two_framings", "bad_chunks", "spoil_header", "mutate_method"}
        return Session([*valid, last], name, is_framed, self._cut(b"".join(parts)))

    def _cut(self, whole: bytes) -> list[bytes]:
        """Cut bytes into the pieces in which they are sent: mostly one."""
        dice = self._dice
        if dice.chance(0.7):
            return [whole]
        places = sorted({dice.below(len(whole)) for _ in range(1 + dice.few(6))})
        return [whole[begin:end] for begin, end in zip([0, *places], [*places, len(whole)], strict=True)]

    def _judge(self, session: Session, found: Exchange) -> None:
        verdict = self.verdict
        verdict.statuses.update(found.statuses)
        where = f"{session.mutation}: {session.requests[-1].method} {session.requests[-1].target[:60]}"
        if found.fault and (session.is_framed or found.fault == "hang"):
            verdict.faults.append(f"{found.fault} at {where} {b''.join(session.pieces)[-1_500:]!r}")
        verdict.faults += [
            f"{status} at {where}: {body[:200]!r}"
            for status, body in zip(found.statuses, found.bodies, strict=True)
            if status >= HTTP_SERVER_ERROR
        ]
        sent = b"".join(session.pieces)[-SHOWN_BYTES:]
        for number, request in enumerate(session.requests):
            is_last = number == len(session.requests) - 1
            status = found.statuses[number] if number < len(found.statuses) else 0
            if not is_last and status and status not in request.statuses:
                detail = found.bodies[number][:200]
                verdict.faults.append(f"{status} to a valid {request.method} {request.target}: {detail!r}")
            if not is_last and status in SUCCESS:
                verdict.acknowledged.update(dict.fromkeys(request.event_ids, f"{found.statuses} {sent!r}"))
            verdict.refused.update(dict.fromkeys(request.hidden_ids, f"{found.statuses} {sent!r}"))
            if is_last and request.must_be_refused:
                verdict.refused.update(dict.fromkeys(request.event_ids, f"{found.statuses} {sent!r}"))
                if status in SUCCESS:
                    verdict.faults.append(f"{status} to what must be refused at {where} {request.headers}")


FAULTS_MAX = 20
SHOWN_BYTES = 2_000


def flipped(whole: bytes, dice: Dice) -> bytes:
    """Return bytes of which a few are others, gone or doubled."""
    made = bytearray(whole)
    for _ in range(1 + dice.few(5)):
        at = dice.below(len(made))
        match dice.below(3):
            case 0:
                made[at] ^= 1 << dice.below(8)
            case 1:
                del made[at]
            case _:
                made[at:at] = made[at : at + 1 + dice.below(20)]
        if not made:
            break
    return bytes(made)


@contextmanager
def served(folder: Path, followers: int):
    """Serve a new shop with followers; yield the process and its address; it must stop in order.

    Raises:
        RuntimeError: It did not start, or ended with an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "midstream.toml").write_text(CONFIG)
    command = [sys.executable, "-P", "-m", "midstream", "serve", "-f", str(folder), "--port", "0"]
    with (folder / "stderr.txt").open("w") as said:
        process = subprocess.Popen([*command, "--followers", str(followers)], stdout=subprocess.DEVNULL, stderr=said)
    with process:
        try:
            wait_until(lambda: process.poll() is not None or read_address(folder / DATA_NAME))
            published = read_address(folder / DATA_NAME)
            if published is None:
                raise RuntimeError((folder / "stderr.txt").read_text())
            address = ("127.0.0.1", int(published.url.rpartition(":")[2]))
            wait_until(lambda: asyncio.run(is_ready(address, followers)))
            yield process, address
            process.terminate()
            if process.wait(PATIENCE_S):
                message = f"exit status {process.returncode}: {(folder / 'stderr.txt').read_text()[-SHOWN_BYTES:]}"
                raise RuntimeError(message)
        finally:
            process.kill()


async def is_ready(address: tuple[str, int], followers: int) -> bool:
    """Return whether all processes serve."""
    head = b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    found = await exchange(address, [head], ["GET"], half_close=False)
    if found.statuses != [200]:
        return False
    return [each["state"] for each in json.loads(found.bodies[0])["followers"]] == ["serving"] * followers


def logged(folder: Path) -> Counter[str]:
    """Return how often each event id stands in the log."""
    found: Counter[str] = Counter()
    for table in midstream.stream_events(folder):
        found.update(each for each in table.column("event_id").to_pylist() if each)
    return found


def resident_mib(process: "subprocess.Popen[bytes]") -> float:
    """Return the resident memory of a process and its children, MiB."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    total = 0
    for pid in (str(process.pid), *children):
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
    return total / 1024


def conclude(verdict: Verdict, in_log: Counter[str]) -> list[str]:
    """Return every fault: those that were seen, and what the log has too little or too much of."""
    return [
        *verdict.faults,
        *(
            f"lost: {each} of {verdict.acknowledged[each]}"
            for each in sorted(verdict.acknowledged.keys() - in_log.keys())[:5]
        ),
        *(f"double: {each}" for each, count in in_log.items() if each and count > 1),
        *(
            f"recorded, though refused: {each} of {verdict.refused[each]}"
            for each in sorted(verdict.refused.keys() & in_log.keys())[:5]
        ),
    ]


def main() -> int:
    """Run a campaign; print figures; return 1 when a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--followers", type=int, default=1)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with served(folder, told.followers) as (process, address):
            before = resident_mib(process)
            with probing(address) as waits_ms:
                verdict = asyncio.run(Campaign(address, told.seed).run(told.requests))
            after = resident_mib(process)
        faults = conclude(verdict, logged(folder))
        errors = (folder / "stderr.txt").stat().st_size
    waits = sorted(waits_ms)
    sys.stdout.write(
        f"{verdict.requests} requests, statuses {dict(sorted(verdict.statuses.items()))}\n"
        f"{len(verdict.acknowledged)} events acknowledged, {len(verdict.refused)} that must not be there\n"
        f"memory {before:.0f} MiB before, {after:.0f} MiB after; standard error {errors} bytes\n"
        f"another client: {len(waits)} requests, p50 {waits[len(waits) // 2]:.1f} ms, "
        f"p99 {waits[int(len(waits) * 0.99)]:.1f} ms, max {waits[-1]:.1f} ms\n"
    )
    sys.stdout.write("\n".join([*faults[:50], f"{len(faults)} faults", ""]))
    return min(len(faults), 1)


@contextmanager
def probing(address: tuple[str, int]):
    """Ask for health and slates from a process of its own until the block ends; give the waits in ms afterwards."""
    waits: list[float] = []
    command = [sys.executable, "-m", "tests.http_fuzz.probe", str(address[1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield waits
        finally:
            told, _ = process.communicate("", PATIENCE_S)
            waits += json.loads(told)


if __name__ == "__main__":
    sys.exit(main())
