"""Slates of experiments by the kernels of compiled plans: reply and record are the pipeline's, and name the variant."""

import json
from collections import Counter
from typing import Any

from midstream.app.config.schema import Config, Placement
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.answer.compiled_slates import EncodedSlate
from midstream.events.schema import Event, build
from midstream.experiments.documents import NewExperiment, NewVariant, RampStep, encode_document, started
from midstream.experiments.names import EXPERIMENT_PREFIX
from midstream.retrieval.popular import Popular
from midstream.serving.slates.recommendations import RecommendationBody, encoded_reply
from midstream.state.control.placements import encode_placement, placement_body
from tests.engine.answer.test_compiled_slates import Both, answered
from tests.support.rig import SMALL, view

SIZES = {"home": 5, "home@size.as-is": 5, "home@size.few": 2}
CONFIG = Config(
    limits=SMALL.limits,
    placements=tuple(Placement(name=name, sources=(Popular(),), slate_size=size) for name, size in SIZES.items()),
)
NEW = NewExperiment("size", "home", (NewVariant("as-is"), NewVariant("few")), "home", 10_000, (RampStep(0, 10_000),))


def begin(both: Both) -> None:
    """Fold some views and the start of an experiment, whose variants the configuration has."""
    engine = both.rig.engine
    views = both.rig.batch(*(view(f"i{n % 7}", f"u{n}", event_id=f"{n}") for n in range(40)))
    content = encode_document(started(NEW, ["0" * 64] * 2, 0, both.rig.now_ms))
    body = encode_placement(placement_body(f"{EXPERIMENT_PREFIX}size", 1, content, "ann", ""))
    engine.fold.apply(LogPosition(0), views)
    engine.fold.apply(engine.fold.log_position, build((Event(Kind.CONTROL, body=body),)))
    engine.swap(engine.fold, engine.plans)


def reply_of(both: Both, user_id: str | None = None) -> dict[str, Any]:
    """The reply of the kernels."""
    found = both.rig.engine.encoded_slate(RecommendationBody(placement="home", user_id=user_id), "home")
    assert isinstance(found, EncodedSlate)
    told: dict[str, Any] = json.loads(encoded_reply(found))
    return told


def test_the_kernel_answers_for_the_variant_as_the_pipeline_does() -> None:
    """Users are spread over both plans; each reply names experiment and variant, and its record the variant's plan."""

    async def work(both: Both) -> None:
        begin(both)
        ways: Counter[str] = Counter()
        for number in range(40):
            ways[await both.same(json.dumps({"placement": "home", "user_id": f"u{number}"}).encode())] += 1
        assert ways == {"compiled": 40}
        sizes: Counter[tuple[str, int]] = Counter()
        for number in range(40):
            reply = reply_of(both, f"u{number}")
            assert (reply["placement"], reply["experiment"]) == ("home", "size")
            sizes[reply["variant"], len(reply["items"])] += 1
        assert set(sizes) == {("as-is", 5), ("few", 2)}
        assert min(sizes.values()) > 8

    answered(CONFIG, work)


def test_a_request_without_a_unit_and_one_that_names_a_variant_are_not_assigned() -> None:
    """The first is answered by the placement; the second is refused, by the way that says why."""

    def work(both: Both) -> None:
        begin(both)
        assert not {"experiment", "variant"} & reply_of(both).keys()
        forced = RecommendationBody(placement="home@size.few", user_id="u1")
        assert both.rig.engine.encoded_slate(forced, "home@size.few") is None

    answered(CONFIG, work)
