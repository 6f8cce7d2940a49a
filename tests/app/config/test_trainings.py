"""Tables ``[[trainings]]``: each fault has its place and says what would be right."""

import re
from pathlib import Path

import msgspec
import pytest

from midstream.app.config.reader import parse_config
from midstream.core.durations import Duration, parse_duration_ms
from midstream.core.errors import ConfigInvalid
from midstream.training.gates.options import WORSE_MAX, WORSE_MAX_BEFORE_CANARY, GateOptions
from midstream.training.options import CanaryOptions

DOCS = Path(__file__).parents[3] / "docs" / "continuous-training.md"

MODELS = """
[[models]]
name = "taste"
kind = "als"

[[models]]
name = "seen"
kind = "popular"

[[models]]
name = "elsewhere"
kind = "onnx_items"

[[trainings]]
"""
RANKER = """
[items.attributes]
price = "number"

[[features]]
name = "price"
kind = "number"
scope = "item"
attribute = "price"

[[placements]]
name = "home"
features = ["price"]

[[models]]
name = "ranker"
kind = "ftrl"
placement = "home"

[[trainings]]
model = "ranker"
calibration = true
"""


def test_a_table_has_defaults_and_its_bounds() -> None:
    """Six hours, gates and canary as they are by default; milliseconds as the schedule takes them."""
    (told,) = parse_config(MODELS + 'model = "taste"\nevery = "6h"\ngates = { age_max = "2d" }').trainings
    assert (told.rule.every_ms, told.rule.events, told.rule.rest_ms) == (6 * 3_600_000, 0, 3_600_000)
    assert (told.promote, told.watch_ms, told.canary_ms) == ("auto", 86_400_000, (86_400_000, 7 * 86_400_000))
    assert (told.gates.age_max.ms, told.gates.worse_max) == (2 * 86_400_000, None)


@pytest.mark.parametrize(
    "lines, where, right",
    [
        ('model = "tast"', "$.trainings[0].model", "One of [[models]]: elsewhere, seen, taste."),
        ('model = "elsewhere"', "$.trainings[0].model", "A model that midstream train fits."),
        ('model = "seen"\nwarm_start = true', "$.trainings[0].warm_start", "false; als and ftrl go on"),
        ('model = "taste"\ncalibration = true', "$.trainings[0].calibration", "false; a ranker: "),
        ('model = "taste"\nwhole_every = "1d"', "$.trainings[0].whole_every", "warm_start = true"),
        ('model = "taste"\nwarm_start = true\nwhole_every = "1s"', "$.trainings[0].whole_every", 'from "1m" to "365d"'),
        ('model = "taste"\nevery = ""', "$.trainings[0].every", 'such as every = "6h"'),
        ('model = "taste"\nevery = "6 h"', "$.trainings[0].every", "A length of time"),
        ('model = "taste"\nevery = "1s"', "$.trainings[0].every", 'from "1m" to "365d"'),
        ('model = "taste"\nrest = ""', "$.trainings[0].rest", "A length of time"),
        ('model = "taste"\nevents = 10', "$.trainings[0].events", "1,000 and more, or 0."),
        ('model = "taste"\ndrift = true', "$.trainings[0].drift", "A baseline"),
        ('model = "taste"\ncanary = { at_most = "1h" }', "$.trainings[0].canary.at_most", "not shorter"),
        ('model = "taste"\ncanary = { placement = "x" }', "$.trainings[0].canary.placement", "A canary answers one of"),
        ('model = "taste"\ncanary = { share = 0.6 }', "$.trainings[0].canary.share", "0.5"),
        ('model = "taste"\ngates = { worse_max = 2 }', "$.trainings[0].gates.worse_max", "1"),
        ('model = "taste"\ngates = { wurse_max = 1 }', "$.trainings[0].gates.wurse_max", ""),
        ('model = "taste"\ngates = { age_max = "1s" }', "$.trainings[0].gates.age_max", "from 1m to 365d"),
        ('model = "taste"\npromote = "never"', "$.trainings[0].promote", "ask"),
        ('model = "taste"\ngates = { shadow_wait = "1s" }', "$.trainings[0].gates.shadow_wait", "from 1m to 30d"),
    ],
)
def test_faults_are_named(lines: str, where: str, right: str) -> None:
    """In their place, with what would be right."""
    every = "" if lines.count("every") > lines.count("whole_every") else '\nevery = "6h"'
    with pytest.raises(ConfigInvalid) as raised:
        parse_config(f"{MODELS}{lines}{every}")
    found = {each.where.removeprefix("midstream.toml: "): each.right for each in raised.value.faults}
    assert right in found[where]


def test_an_alarm_trains_where_outcomes_are_soon_known() -> None:
    """Within a day, or at once, as in a replay; a week later the alarm is long over."""
    is_replay = RANKER.replace('"ftrl"', '"ftrl"\nexamples = "replay"')
    for text in (f'{RANKER}[feedback]\nwindow = "1d"', is_replay):
        assert parse_config(text).trainings[0].rule.on_calibration
    with pytest.raises(ConfigInvalid) as raised:
        parse_config(RANKER)
    (found,) = raised.value.faults
    assert (found.where, found.came[:31]) == (
        "midstream.toml: $.trainings[0].calibration",
        "true came, and ranker learns by",
    )
    assert found.right == 'false; [feedback] window = "1d" at most; or examples = "replay".'


def test_whole_fits_between_warm_starts_are_told_to_the_schedule() -> None:
    """Both settings; without them every fit is whole."""
    warm = 'model = "taste"\nevery = "6h"\nwarm_start = true\nwhole_every = "24h"'
    rules = [parse_config(MODELS + each).trainings[0].rule for each in (warm, 'model = "taste"\nevery = "6h"')]
    assert [(each.is_warm, each.whole_every_ms) for each in rules] == [(True, 24 * 3_600_000), (False, 0)]


def test_a_model_is_trained_by_one_table() -> None:
    """Two would train it by turns."""
    table = '[[trainings]]\nmodel = "taste"\nevery = "6h"\n'
    with pytest.raises(ConfigInvalid, match="is there already"):
        parse_config(MODELS.removesuffix("[[trainings]]\n") + table + table)


def test_a_model_has_one_table_and_no_canary_where_a_version_is_pinned() -> None:
    """Two tables would train it in turns; at a pinned version nobody is answered by the champion."""
    table = '[[trainings]]\nmodel = "taste"\nevery = "6h"\ncanary = { placement = "home" }\n'
    home = '[[placements]]\nname = "home"\nsources = [{ kind = "als", model = "taste" }]\n'
    models = MODELS.removesuffix("[[trainings]]\n")
    parse_config(f"{models}{table}{home}")
    with pytest.raises(ConfigInvalid) as raised:
        parse_config(f"{models}{table}{table}{home}")
    assert [each.where for each in raised.value.faults] == ["midstream.toml: $.trainings[1].model"]
    with pytest.raises(ConfigInvalid) as raised:
        parse_config(f"{models}{table}{home}models = {{ taste = '3' }}\n")
    (found,) = raised.value.faults
    assert found.where == "midstream.toml: $.trainings[0].canary.placement"
    assert "home pins version 3 of taste" in found.came


def _told(default: object) -> str:
    """Return a default as the page has it, times in milliseconds."""
    if isinstance(default, (str, Duration)):
        return str(parse_duration_ms(str(default)))
    if isinstance(default, int) and default >= 1 << 30:
        return f"{default >> 30} GiB"
    return f"{default:,g}"


@pytest.mark.parametrize("options", [GateOptions, CanaryOptions])
def test_the_page_has_the_defaults_of_the_code(options: type[msgspec.Struct]) -> None:
    """Each bound has its default behind its name; no name has two."""
    told = dict[str, set[str]]()
    for name, default in re.findall(r"`(\w+)` \((`\"[^)]+|\d[^)]*)\)", DOCS.read_text()):
        told.setdefault(name, set()).add(_told(default.strip('`"')) if default.startswith("`") else default)
    chosen = msgspec.structs.asdict(options())
    wanted = {
        name: {_told(default)}
        for name, default in chosen.items()
        if not isinstance(default, (bool, type(None))) and default not in {"", "off", "refuse"}
    }
    if "worse_max" in chosen:
        wanted["worse_max"] = {f"{WORSE_MAX_BEFORE_CANARY}; {WORSE_MAX} where no canary follows"}
    assert {name: told.get(name, set()) for name in wanted} == wanted
