"""Rankers trained again by another release, and asked the same questions about the same log.

``log`` writes a folder: acts of a data set, or of a simulated shop, in time order. The first part is acts alone. In the
second and the third each act but the first of its session is preceded by a slate of five that is read on by its cursor
until the item is found, at most four slates; what was read is an impression, and the act names the slate it came from.
``measure`` trains on the second part, with whatever release is on the path: rankers from a replay of a placement that
asks a model source (``als``, trained on the first part and in service when questions are asked), rankers from what was
served, and trees from a replay that read how often an item was shown. Questions are the third part's acts, each on the
state of the first slate before it: in which place is the item among the candidates of the placement?
``compare`` prints both releases side by side, with the paired test over sessions.

    python benchmarks/retraining.py log FOLDER eshop-clothing-2008
    PYTHONPATH=OTHER/src python benchmarks/retraining.py measure FOLDER before.npz
    python benchmarks/retraining.py measure FOLDER after.npz
    python benchmarks/retraining.py compare before.npz after.npz
"""

import argparse
import asyncio
import json
import os
import re
import time
from pathlib import Path

import numpy as np
from simulated_reranking import CONFIG as SIMULATED
from simulated_reranking import acts_of

from benchmarks.quality.data_folder import data_folder
from benchmarks.quality.shops import SHOPS, ShopData
from midstream.app.config.reader import parse_config
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import Outside, config_of, open_running
from midstream.app.point_in_time.lookup import Past
from midstream.app.training.fit import Fitting, fit_and_publish, model_named, question_of
from midstream.app.training.ranker_data import ranker_rows
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, Models, Query, TimestampMs
from midstream.engine.engine import EngineOptions
from midstream.engine.types import Ask
from midstream.evaluation.metrics.metrics import discounted_gain, hit
from midstream.evaluation.metrics.statistics import Resampling, difference, estimate
from midstream.evaluation.replay import rows_asked
from midstream.events.schema import Event, build
from midstream.features.kinds.kinds import Count
from midstream.models.kinds import ROW_KINDS
from midstream.models.model import QUIET
from midstream.ranking.boundary import Account
from midstream.ranking.candidate_generation import scored_candidates
from midstream.ranking.frame import FeatureReader, ranks_of
from midstream.ranking.plan_run import PlanRun
from midstream.simulation.audience import AudienceOptions
from midstream.simulation.season import SeasonOptions
from midstream.training.registry import Registry

K, EACH, PAGES = 20, 5, 4
FADES = "half_life" if "half_life" in Count.__struct_fields__ else "half_lives"
"""What the configuration calls the half-lives of a count: another name in releases of before."""
BATCH = 1_000
SETTINGS = Path(__file__).parents[1] / "tests" / "quality" / "rankers"
SHOWN = f"""
[[features]]
name = "shown"
kind = "count"
scope = "user_item"
actions = ["impression"]
{FADES} = ["3d"]

[[features]]
name = "shown_since"
kind = "since"
actions = ["impression"]

"""
KINDS = {
    "trees": ("trees", {"trees_max": 100, "leaves_max": 15, "leaf_rows_min": 50}),
    "logistic": ("logistic_regression", {}),
    "ftrl": ("ftrl", {}),
}
"""Name to kind and options."""
TRAINED = {
    "replay": ("replay", "default", [*KINDS]),
    "served": ("served", "default", [*KINDS]),
    "shown": ("replay", "shown", ["trees"]),
}
"""Rows to examples, placement and which kinds are fitted on them."""


def features_of(name: str) -> tuple[str, list[str]]:
    """Return what is declared for a data set, and the features that do not depend on other candidates."""
    text = SIMULATED if name == "simulated" else (SETTINGS / name / "midstream.toml").read_text()
    # One column each: the release before could not train on a feature of several.
    declared = re.sub(r"half_(?:life|lives) = \[.*", f'{FADES} = ["3d"]', re.sub(r"windows = .*\n", "", text))
    declared = declared.split("[[placements]]")[0]
    names = [each.name for each in parse_config(declared).features if each.name != "price_diversity"]
    return declared, names


def config_text(
    name: str, marks: tuple[int, int], ranker: tuple[str, str] | None = None, *, reads_shown: bool = True
) -> str:
    """Return the configuration: the placements, the model source, and a ranker's examples and placement."""
    declared, names = features_of(name)
    sources = (
        'sources = [{ kind = "session_knn" }, { kind = "covisitation" }, { kind = "trending" }, '
        '{ kind = "als", model = "taste" }]'
    )
    text = f'[feedback]\nwindow = "30m"\n\n{declared}\n{SHOWN}'
    for placement in ("default", "shown"):
        own = [*names, "shown", "shown_since"] if placement == "shown" and reads_shown else names
        text += f'[[placements]]\nname = "{placement}"\n{sources}\nfeatures = {json.dumps(own)}\n\n'
    text += '[[models]]\nname = "taste"\nkind = "als"\nvalidation = 0.0\noptions = { factors = 32, iterations = 8 }\n'
    text += f"until = {marks[0]}\n"
    if ranker is not None:
        examples, placement = ranker
        text += f'\n[[models]]\nname = "ranker"\nkind = "ftrl"\nplacement = "{placement}"\n'
        text += f'examples = "{examples}"\nsince = {marks[0]}\nuntil = {marks[1]}\n'
    return text


def shop_of(name: str, people: int) -> ShopData:
    """Return acts and a catalogue."""
    if name == "simulated":
        return asyncio.run(acts_of(SeasonOptions(1, 14, audience=AudienceOptions(person_count=people))))
    at = data_folder(os.environ, Path.cwd())
    if at is None:
        raise SystemExit("MIDSTREAM_DATA names the folder of data sets")
    return SHOPS[name](at)


def write(folder: Path, name: str, shop: ShopData, sizes: tuple[int, int, int]) -> None:
    """Write the log, and the questions beside it."""
    folder.mkdir(parents=True)
    (folder / "midstream.toml").write_text(config_text(name, (0, 0)))
    said = asyncio.run(recorded(folder, shop, sizes))
    (folder / "questions.json").write_text(json.dumps({"name": name, "rows": sizes, **said}))
    print(f"{name}: {sum(sizes)} acts, {said['slates']} slates, {len(said['questions'])} questions")


async def recorded(folder: Path, shop: ShopData, sizes: tuple[int, int, int]) -> dict[str, object]:
    """Record acts, slates and impressions; return where the parts end, and the questions."""
    now = [int(shop.rows.time_ms[0])]
    clock = Outside(clock=lambda: TimestampMs(now[0]))
    running = open_running(folder, config_of(folder), EngineOptions(keeps_event_time=True), clock)
    rows, engine = shop.rows, running.engine
    asked = set(rows_asked(rows, sizes[0]).tolist())
    marks, questions, served = [0, 0], [], 0
    await running.start()
    try:
        await engine.record(shop.opening())
        for begin in range(0, sizes[0], BATCH):
            await engine.record(build([act_of(shop, row) for row in range(begin, min(sizes[0], begin + BATCH))]))
        marks[0] = int(engine.fold.log_position)
        for row in range(sizes[0], min(len(rows), sum(sizes))):
            if row == sizes[0] + sizes[1]:
                marks[1] = int(engine.fold.log_position)
            now[0] = int(rows.time_ms[row])
            if row not in asked:
                await engine.record(build([act_of(shop, row)]))
                continue
            who = {"user_id": str(rows.user_id[row]) or None, "session_id": str(rows.session_id[row])}
            told = {**who, "position": int(engine.fold.log_position), "time": now[0], "item_id": str(rows.item_id[row])}
            events, request, count = await looked_at(engine, shop, row)
            served += count
            await engine.record(build([*events, act_of(shop, row, request)]))
            if row >= sizes[0] + sizes[1]:
                questions.append(told)
    finally:
        await running.stop()
    return {"marks": marks, "slates": served, "questions": questions}


def act_of(shop: ShopData, row: int, request: str = "") -> Event:
    """Return an act, with the slate that it came from."""
    rows, time_ms = shop.rows, int(shop.rows.time_ms[row])
    return Event(
        Kind.INTERACTION,
        event_id=f"act{row}",
        action=str(rows.action[row]),
        user_id=str(rows.user_id[row]),
        session_id=str(rows.session_id[row]),
        item_id=str(rows.item_id[row]),
        request_id=request,
        event_time_ms=time_ms,
        log_time_ms=time_ms,
    )


async def looked_at(engine, shop: ShopData, row: int) -> tuple[list[Event], str, int]:
    """Return the impressions of the slates up to the one with the item, its request, and how many slates there are."""
    rows, wanted = shop.rows, str(shop.rows.item_id[row])
    user, session = str(rows.user_id[row]), str(rows.session_id[row])
    time_ms = int(rows.time_ms[row])
    answer = await engine.recommend(Ask("default", user or None, session, EACH, cursor=True, deadline_ms=60_000))
    seen: list[Event] = []
    for page in range(PAGES):
        for place, item in enumerate(answer.items):
            told = {"user_id": user, "item_id": item.id, "request_id": answer.request_id}
            times = {"event_time_ms": time_ms, "log_time_ms": time_ms}
            seen.append(Event(Kind.IMPRESSION, event_id=f"seen{row}-{page}-{place}", **told, **times))
        if any(item.id == wanted for item in answer.items):
            return seen, answer.request_id, page + 1
        if page == PAGES - 1 or not answer.cursor:
            return seen, "", page + 1
        answer = await engine.recommend(Ask("", cursor=answer.cursor, n=EACH, deadline_ms=60_000))
    return seen, "", PAGES


def taste_of(folder: Path, name: str, marks: tuple[int, int]):
    """Return the model that the source asks, fitted on the first part."""
    (folder / "midstream.toml").write_text(config_text(name, marks))
    done = fit_and_publish(Fitting(folder, config_of(folder), "taste", made_ms=1), QUIET)
    return Registry(folder / "data" / "models").load("taste", done.version).model


def fitted(folder: Path, text: str, kinds: list[str]):
    """Return rankers of some kinds, fitted on the same rows, and what is to be said of these."""
    (folder / "midstream.toml").write_text(text)
    config, began = config_of(folder), time.monotonic()
    model = model_named(config, "ranker")
    question = question_of(Fitting(folder, config, "ranker", made_ms=1), model, LogView(folder))
    found = ranker_rows(Past(folder, config), question)
    rows = found.examples
    counts = f"{len(rows)} rows of {len(rows.time_ms)} requests, left out {dict(found.left_out)}"
    print(f"{counts}, {time.monotonic() - began:.0f} s", flush=True)
    models = {}
    for name in kinds:
        kind = ROW_KINDS[KINDS[name][0]]
        models[name] = kind.fit(rows, kind.decoded(KINDS[name][1]), QUIET)
    return models, counts


def measure(folder: Path, out: Path) -> None:
    """Train each ranker and write the place of the right item of each question by each."""
    told = json.loads((folder / "questions.json").read_text())
    name, marks, questions = told["name"], tuple(told["marks"]), told["questions"]
    taste = taste_of(folder, name, marks)
    rankers, notes = {}, {}
    for group, (examples, placement, kinds) in TRAINED.items():
        note = ""
        try:
            models, counts = fitted(folder, config_text(name, marks, (examples, placement)), kinds)
        except ConfigInvalid as error:
            note = f"refused, trained without these features ({error.faults[0].where}); "
            text = config_text(name, marks, (examples, placement), reads_shown=False)
            models, counts = fitted(folder, text, kinds)
        rankers |= {f"{group}.{kind}": model for kind, model in models.items()}
        notes[group] = note + counts
    places = asked(folder, (name, marks), (taste, rankers), questions)
    session = np.unique([each["session_id"] for each in questions], return_inverse=True)[1]
    np.savez(out, session=session, notes=np.array(json.dumps({"name": name, **notes})), **places)


def asked(folder: Path, named, models, questions) -> dict[str, np.ndarray]:
    """Return for each order the place of the right item, -1 = it is no candidate, and what its best ten come from."""
    (name, marks), (taste, rankers) = named, models
    (folder / "midstream.toml").write_text(config_text(name, marks))
    past = Past(folder, config_of(folder))
    loaded = Models({"taste": taste})
    plan = plans(past.config, folder, models=loaded, settings=past.eras.current)["shown"]
    cursor = past.cursor(LogPosition(marks[1]), everything=True)
    found = {key: np.full(len(questions), -1, dtype=np.int32) for key in ("blend", *rankers)}
    alone = {f"model_share.{key}": np.full(len(questions), np.nan) for key in ("blend", *rankers)}
    for number, each in enumerate(questions):
        cursor.to_position(LogPosition(each["position"]))
        fold = cursor.fold
        now_ms = TimestampMs(each["time"])
        query = Query("", "shown", each["user_id"], each["session_id"], 100, now_ms, each["position"])
        moment = fold.moment(query, loaded)
        run = PlanRun(plan, moment, Account())
        candidates = scored_candidates(run)
        frame = FeatureReader(moment, run.account, plan.declared).frame(plan.features, candidates)
        if run.account.failures or not len(candidates):
            raise SystemExit(f"question {number}: {run.account.failures or 'no candidates'}")
        blend = plan.scorers[-1].sum_of(candidates.source_names, ranks_of(candidates))
        wanted = np.flatnonzero(candidates.item_index == fold.vocabulary.item_index(each["item_id"]))
        is_models = ~np.isnan(frame.values[:, frame.names.index("rank.als")])
        scores = {"blend": blend}
        for key, model in rankers.items():
            columns = [frame.names.index(input_name) for input_name in model.inputs]
            scores[key] = model.score(np.ascontiguousarray(frame.values[:, columns]))
        for key, score in scores.items():
            order = np.argsort(-score, kind="stable")
            alone[f"model_share.{key}"][number] = is_models[order[:10]].mean()
            if len(wanted):
                found[key][number] = int(np.flatnonzero(order == wanted[0])[0])
    return {**found, **alone}


def compare(before: Path, after: Path) -> None:
    """Print what each release reached, and what parts them."""
    old, new = np.load(before), np.load(after)
    drawn, session = Resampling(resamples=1_000), new["session"]
    notes = json.loads(str(new["notes"])), json.loads(str(old["notes"]))
    print(f"{notes[0].pop('name')}: {len(session)} questions of {len(np.unique(session))} sessions, NDCG@{K}")
    print("| ranker | before | after | after less before | HR@20 | share of the first ten that the model proposes |")
    print("|---|---|---|---|---|---|")
    for key in ("blend", *(f"{group}.{kind}" for group, (_, _, kinds) in TRAINED.items() for kind in kinds)):
        first, second = discounted_gain(old[key], K), discounted_gain(new[key], K)
        hits = [f"{hit(each[key], K).mean():.4f}" for each in (old, new)]
        share = [f"{np.nanmean(each[f'model_share.{key}']):.3f}" for each in (old, new)]
        parts = difference(second, first, session, drawn)
        print(
            f"| {key} | {estimate(first, session, drawn)} | {estimate(second, session, drawn)} | {parts} | "
            f"{', '.join(hits)} | {', '.join(share)} |"
        )
    for group in TRAINED:
        print(f"{group}, before: {notes[1].get(group)}\n{group}, after: {notes[0].get(group)}")


def main() -> None:
    """Write a log, measure a release, or compare two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    log = commands.add_parser("log")
    log.add_argument("folder", type=Path)
    log.add_argument("data", choices=(*SHOPS, "simulated"))
    log.add_argument("--acts", type=int, nargs=3, default=(6_000, 1_500, 800), help="Of the three parts.")
    log.add_argument("--people", type=int, default=500, help="Of the simulated shop.")
    for name, paths in (("measure", ("folder", "out")), ("compare", ("before", "after"))):
        part = commands.add_parser(name)
        for path in paths:
            part.add_argument(path, type=Path)
    chosen = parser.parse_args()
    if chosen.command == "log":
        shop = shop_of(chosen.data, chosen.people)
        write(chosen.folder, chosen.data, shop, tuple(chosen.acts))
    elif chosen.command == "measure":
        measure(chosen.folder, chosen.out)
    else:
        compare(chosen.before, chosen.after)


if __name__ == "__main__":
    main()
