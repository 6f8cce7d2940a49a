"""Goodput: answers within the deadline at one, two and four times what the server can answer, and how it comes back.

Serves a folder of the named size with the real server pinned to one core, and asks it with the compiled generator on
the other: open loop, from 512 connections, so what is asked does not depend on what is answered. Every load runs
several times in turn; the table has medians, the lowest and the highest, and what else the machine had to do. Prints
one table, and JSON with ``--json``. Needs a C compiler. About 4 minutes at full size, one of them for the state.
"""

import os
import tempfile
from pathlib import Path

from serving import (
    Row,
    Server,
    arguments,
    asks,
    compiled,
    load,
    prepare,
    report,
    request,
    serving,
    spread,
    world_of,
    write_requests,
)

DEADLINE_MS = 50
CONNECTIONS = 512
LOADS = (1, 2, 4)
BACK_S = 10


def main() -> None:
    """Run what was asked for and print it."""
    parser = arguments(__doc__, seconds=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    world = world_of(options)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        generator = compiled()
        rows = list(prepare(root, world))[-1:]
        requests = [request("/v1/recommendations", ask) for ask in asks(world, 20_000, 1)]
        file = write_requests(root / "slates", requests)
        with serving(root) as server:
            rows += overload(server, generator, file, options.seconds, options.repeats)
    report(rows, options.json)


def overload(server: Server, generator: Path, file: Path, seconds: float, repeats: int) -> list[Row]:
    """Ask for what can be answered, for more, and for half of it again."""
    load(server, generator, file, 16, 0, 2, "single")
    found: dict[int, list[dict]] = {each: [] for each in LOADS}
    saturated, sent_away, refusals, back = [], [], [], []
    for _ in range(repeats):
        closed = load(server, generator, file, 16, 0, seconds / 2, "single", DEADLINE_MS)
        full, answer_s = closed["per_second"], closed["cpu_s"] / closed["count"]
        saturated.append(full)
        sent_away.append(closed["refused"] / (closed["refused"] + closed["count"]))
        for each in LOADS:
            run = asked(server, generator, file, each * full, seconds)
            found[each].append(run)
        last = found[LOADS[-1]][-1]
        if last["refused"]:
            # What an answer costs is known from saturation; the rest went into refusals.
            refusals.append((last["cpu_s"] - last["count"] * answer_s) / last["refused"] * 1e6)
        back.append(seconds_until_normal(server, generator, file, full / 2))
    rows = [Row("recommendations/s at saturation, 16 connections, closed loop", spread(saturated, "{:,.0f}"), "", "")]
    rows.append(Row("… refused of these", spread(sent_away, "{:.1%}"), "", ""))
    # Of the same minute: from one to the next the machine gives more or less.
    peaks = [max(run["good"] for run in turn) for turn in zip(*found.values(), strict=True)]
    targets = {1: "", 2: "90 % of peak", 4: "70 % of peak"}
    for each, runs in found.items():
        good = [run["good"] / seconds for run in runs]
        shares = [run["good"] / peak for run, peak in zip(runs, peaks, strict=True)]
        told = f"{spread(good, '{:,.0f}')}; of the peak {spread(shares, '{:.0%}')}"
        rows.append(
            Row(f"answers within {DEADLINE_MS} ms a second at {each} x that, open loop", told, targets[each], "")
        )
        let_in = [run["good"] / max(run["count"], 1) for run in runs]
        rows.append(Row("… share of what was let in that came in time", spread(let_in, "{:.1%}"), "", ""))
        times = f"{spread([run['p50_us'] / 1e3 for run in runs], '{:.0f}')} / "
        times += spread([run["p99_us"] / 1e3 for run in runs], "{:.0f}")
        rows.append(Row("… p50 / p99 ms of what was let in", times, "", ""))
        rows.append(Row("… errors", str(sum(run["errors"] for run in runs)), "0", ""))
    if refusals:
        rows.append(Row("CPU of a refusal, µs", spread(refusals, "{:.0f}"), "", ""))
    rows.append(
        Row("seconds until 99 % are answered in time at half of saturation again", spread(back, "{:.0f}"), "10", "")
    )
    rows.append(
        Row("load of the machine at the end, 1 / 5 minutes", "{:.1f} / {:.1f}".format(*os.getloadavg()), "", "")
    )
    return rows


def asked(server: Server, generator: Path, file: Path, rate_s: float, seconds: float) -> dict:
    """Ask at a rate; refusals are no errors."""
    return load(server, generator, file, CONNECTIONS, rate_s, seconds, "single", DEADLINE_MS)


def seconds_until_normal(server: Server, generator: Path, file: Path, rate_s: float) -> float:
    """Return the seconds until nearly all of a second are answered in time, ``BACK_S`` + 1 = it was longer."""
    for second in range(1, BACK_S + 1):
        run = asked(server, generator, file, rate_s, 1.0)
        if run["good"] >= 0.99 * (run["count"] + run["refused"] + run["unsent"]):
            return second
    return BACK_S + 1


if __name__ == "__main__":
    main()
