"""``[[models]]`` and the sources that answer with them: what is wrong is said in four parts, where it is."""

import pytest

from midstream.app.config.model_constraints import options_of
from midstream.app.config.reader import parse_config
from midstream.app.training.fit import model_named
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid, Invalid
from midstream.models import kinds
from midstream.retrieval.item_model import SERVES, AnyItemModelSource, ItemModelSource
from tests.support.item_models import BESIDE, BesideOptions

ONE = """
[[models]]
name = "taste"
kind = "beside"
"""


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a kind of model."""
    monkeypatch.setitem(kinds.ITEM_KINDS, "beside", BESIDE)
    monkeypatch.setitem(kinds.ITEM_KINDS, "als", BESIDE)


def fault_of(text: str) -> tuple[str, str, str, str]:
    """Return the four parts of the one fault of a configuration."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(text)
    (fault,) = caught.value.faults
    return fault.where.partition(": ")[2], fault.came, fault.right, fault.page


@pytest.mark.parametrize(
    "line, where, came, right",
    [
        ('kind = "besides"', "kind", '"besides" is not a kind of model. Nearest: "beside".', "Kinds: als, beside"),
        (
            "options = { powr = 2.0 }",
            "options.powr",
            'is not an option. Nearest: "power".',
            "power, noise, seed",
        ),
        ('options = { power = "x" }', "options.power", '"x" came.', "A number"),
        ('last = "30 days"', "last", "30 days", '"30d"'),
        ('last = "30d"\nsince = 7', "last", "30d came beside since", "One or the other."),
        ('since = "yesterday"', "since", "'yesterday' came.", "A log position, or a time"),
        ("since = 7\nuntil = 7", "until", "7, and since is 7", "after since"),
        ('since = "2026-01-02"\nuntil = "2026-01-01T12:00:00+02:00"', "until", "no event lies between", "after since"),
        ("until = -1", "until", "-1 came.", "A log position, or a time"),
        ("actions = { vew = 1.0 }", "actions.vew", 'Nearest: "view".', "cart, click"),
        ("actions = { dismiss = -2.0 }", "actions.dismiss", "-2.0 came.", "above 0, at most 1,000,000"),
        ('placement = "default"', "placement", "learns from acts", "Leave it out."),
        ('examples = "replay"', "examples", "learns from acts", "Leave it out."),
        ("validation = 0.9", "validation", "0.9 came.", "from 0 to 0.5."),
        ("acts_max = 1", "acts_max", "1 came.", "from 2"),
        ("seed = -1", "seed", "-1 came.", "from 0"),
        ('time_max = "0s"', "time_max", "0s came.", "from 1s to 7d"),
        ("memory_bytes_max = 1", "memory_bytes_max", "1 came.", "from 67,108,864"),
    ],
)
def test_each_setting_is_checked(line: str, where: str, came: str, right: str) -> None:
    """One fault each, of that setting, on the page of models."""
    text = ONE.replace('kind = "beside"\n', "") + line if line.startswith("kind") else ONE + line
    found = fault_of(text)
    assert found[0] == f"$.models[0].{where}"
    assert came in found[1]
    assert right in found[2]
    assert found[3] == "/docs/models.md"


def test_names_are_those_of_folders_and_come_once() -> None:
    """Two models of one name would be versions of each other."""
    assert fault_of(ONE + ONE)[:2] == ("$.models[1].name", '"taste" is there already.')
    assert fault_of(ONE.replace("taste", "My model"))[0] == "$.models[0].name"
    assert fault_of('[[models]]\nkind = "beside"')[:2] == ("$.models[0].name", "It is missing.")


@pytest.mark.parametrize("kind", [str(each.__struct_config__.tag) for each in AnyItemModelSource.__args__])
def test_a_source_names_a_model_that_is_there(kind: str) -> None:
    """A misspelt one is found when the file is read; a model that no kind of source claims answers with any."""
    text = f'[[placements]]\nsources = [{{ kind = "{kind}", model = "tast" }}]'
    assert kind in SERVES
    assert fault_of(text)[:3] == (
        "$.placements[0].sources[0].model",
        '"tast" is not a model.',
        "One of [[models]]: there is none.",
    )
    assert fault_of(ONE + text)[1:3] == ('"tast" is not a model. Nearest: "taste".', "One of [[models]]: taste.")
    assert len(parse_config(ONE + text.replace("tast", "taste")).models) == 1
    assert fault_of(text.replace(', model = "tast"', ""))[1] == "It is missing."


def test_a_source_says_which_kind_of_model_it_answers_with() -> None:
    """The name in answers would be wrong otherwise."""
    text = ONE.replace("beside", "als") + '[[placements]]\nsources = [{ kind = "ease", model = "taste" }]'
    where, came, right, page = fault_of(text)
    assert (where, page) == ("$.placements[0].sources[0].kind", "/docs/sources.md")
    assert "is of kind als" in came
    assert right == 'kind = "als" answers with it.'


@pytest.mark.parametrize("line", ["limit = 0", "history_items_max = 51", "actions = { wave = 1.0 }"])
def test_options_of_a_source_are_checked(line: str) -> None:
    """As those of every source."""
    name = line.partition(" ")[0]
    text = f'{ONE}[[placements]]\nsources = [{{ kind = "als", model = "taste", {line} }}]'
    assert fault_of(text)[0].startswith(f"$.placements[0].sources[0].{name}")


def test_a_source_weighs_acts_as_the_training_did() -> None:
    """Unless it says otherwise."""
    text = """
    [[models]]
    name = "taste"
    kind = "beside"
    actions = { purchase = 2.0 }
    [[placements]]
    sources = [
        { kind = "als", model = "taste" },
        { kind = "als", model = "taste", name = "other", actions = { view = 1.0 } },
    ]
    """
    first, second = plans(parse_config(text))["default"].sources
    assert isinstance(first, ItemModelSource)
    assert isinstance(second, ItemModelSource)
    assert first.actions == {"purchase": 2.0}
    assert second.actions == {"view": 1.0}


def test_the_seed_of_a_model_is_that_of_its_fit() -> None:
    """Unless the options have one of their own."""
    (plain,) = parse_config(ONE + "seed = 7").models
    (own,) = parse_config(ONE + "seed = 7\noptions = { seed = 9, power = 0.5 }").models
    assert options_of(plain, BESIDE) == BesideOptions(seed=7)
    assert options_of(own, BESIDE) == BesideOptions(seed=9, power=0.5)


RANKER = """
[[features]]
name = "price"
kind = "count"
scope = "item"
actions = ["view"]

[[placements]]
features = ["price"]

[[models]]
name = "ranker"
placement = "default"
"""
CLICKS, TREES = RANKER + 'kind = "ftrl"\n', RANKER + 'kind = "trees"\n'


@pytest.mark.parametrize(
    "text, line, where, came, right",
    [
        (CLICKS, 'histories = "session"', "histories", "learns from rows", "Leave it out."),
        (CLICKS, "actions = { veiw = 1.0 }", "actions.veiw", "is not a configured interaction", "view"),
        (CLICKS, "acts_max = 7", "acts_max", "learns from rows", "Leave it out."),
        (
            CLICKS,
            'examples = "replay"\noptions = { debias = "position" }',
            "options.debias",
            "nobody was shown these rows",
            'examples = "served"',
        ),
        (
            TREES,
            'examples = "replay"\noptions = { debias = "propensity" }',
            "options.debias",
            "nobody was shown these rows",
            'examples = "served"',
        ),
        (
            TREES,
            'options = { debias = "position", objective = "binary" }',
            "options.debias",
            'objective = "binary"',
            'kind = "ftrl"',
        ),
        (CLICKS, "options = { weight_max = 5.0 }", "options.weight_max", "reads none", 'debias = "propensity"'),
    ],
)
def test_what_says_nothing_to_a_ranker_is_refused(text: str, line: str, where: str, came: str, right: str) -> None:
    """A setting is read or it is a fault; so is a bias that the examples do not tell of."""
    found = fault_of(text + line)
    assert found[0] == f"$.models[0].{where}"
    assert came in found[1]
    assert right in found[2]
    assert found[3] == "/docs/models.md"


def test_what_goes_together_is_taken() -> None:
    """Each way of leaving a bias out, with the examples that tell of it."""
    for kind, options in [
        (CLICKS, 'debias = "position"'),
        (CLICKS, 'debias = "propensity", weight_max = 5.0'),
        (TREES, 'debias = "position"'),
        (TREES, 'debias = "propensity", objective = "binary"'),
    ]:
        assert parse_config(f"{kind}options = {{ {options} }}").models[0].options
    assert parse_config(CLICKS + "actions = { click = 1.0, purchase = 5.0 }").models[0].actions == {
        "click": 1.0,
        "purchase": 5.0,
    }


SHOWN = """
[[features]]
name = "shown"
kind = "count"
scope = "user_item"
actions = ["impression"]

[[features]]
name = "rate"
kind = "rate"
actions = ["click"]
per = ["impression"]

[[features]]
name = "taste"
kind = "affinity"
attribute = "category"
actions = ["click", "impression"]
weighted = false

[[features]]
name = "often"
kind = "expression"
text = "min(rate, 0.5) * 2"

[[features]]
name = "busy"
kind = "count"
scope = "user"
actions = ["impression"]

[[features]]
name = "clicks"
kind = "count"
actions = ["click"]

[items.attributes]
category = "category"

[[placements]]
name = "home"
features = ["{feature}"]

[[models]]
name = "ranker"
kind = "trees"
placement = "home"
examples = "{examples}"
"""


@pytest.mark.parametrize("feature", ["shown", "rate", "taste", "often"])
def test_a_replay_reads_no_feature_that_counts_impressions(feature: str) -> None:
    """Right before an act these say what was on screen; of slates that were served they do not, and are taken."""
    where, came, right, page = fault_of(SHOWN.format(feature=feature, examples="replay"))
    assert where == "$.models[0].examples"
    assert f'the feature "{feature}" of the placement "home" counts impressions' in came
    assert right == f'examples = "served", or a placement without "{feature}" to learn from.'
    assert page == "/docs/models.md"
    assert parse_config(SHOWN.format(feature=feature, examples="served")).models


@pytest.mark.parametrize("feature", ["busy", "clicks"])
def test_a_replay_reads_what_tells_no_candidate_apart_by_its_impressions(feature: str) -> None:
    """How much a user was shown is the same for all candidates."""
    assert parse_config(SHOWN.format(feature=feature, examples="replay")).models


ENCODED = """
[items.attributes]
meaning = "vector:384"

[[encoders]]
attribute = "meaning"
texts = ["title"]

[limits]
items_max = 100_000
document_bytes_max = {bytes_max}
"""


def test_vectors_of_all_items_have_room() -> None:
    """A catalogue of more items than there is room for vectors of is refused, with what would be right."""
    found = fault_of(ENCODED.format(bytes_max=383_999_999))
    assert found[0] == "$.limits.document_bytes_max"
    assert (
        "383,999,999 bytes; the vectors of 100,000 items (items_max), 384 numbers each, take 384,000,000." in found[1]
    )
    assert "About 484,000,000" in found[2]
    assert found[3] == "/docs/models.md"
    assert len(parse_config(ENCODED.format(bytes_max=384_000_000)).encoders) == 1


def test_a_model_from_elsewhere_is_declared_by_its_kind() -> None:
    """So any source answers with it; it takes no setting of a fit."""
    told = '[[models]]\nname = "taste"\nkind = "onnx_items"\n'
    for kind in ("als", "two_tower"):
        source = f'[[placements]]\nsources = [{{ kind = "{kind}", model = "taste" }}]'
        parse_config(f"{told}actions = {{ view = 1.0 }}\n{source}")
    for line in ("seed = 3", "options = { factors = 3 }", 'last = "30d"'):
        where, came, right, _ = fault_of(told + line)
        assert where == f"$.models[0].{line.partition(' ')[0]}"
        assert (came.partition(",")[2], right) == (
            " and a model of kind onnx_items is not fitted here: it is imported or registered.",
            "Leave it out.",
        )


def test_a_model_from_elsewhere_is_not_trained() -> None:
    """It is named what makes it instead."""
    config = parse_config('[[models]]\nname = "taste"\nkind = "onnx_items"\n')
    with pytest.raises(Invalid, match='"taste" is of kind onnx_items, which is not fitted here'):
        model_named(config, "taste")


ONLINE = """
[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]

[[placements]]
name = "home"
features = ["views"]

[[models]]
name = "clicks"
kind = "ftrl"
placement = "home"
"""


def test_a_model_that_goes_on_learning_is_a_setting_of_the_state() -> None:
    """Clicks are what the model is told is worth something, else the rewards, else the weights of the types."""
    told = ONLINE + "options = { is_standardised = false }\nonline = { wait = '1m', slates_max = 7, items_max = 9 }\n"
    (found,) = parse_config(told).fold_settings().online
    assert (found.name, found.wait.ms, found.slates_max, found.items_max) == ("clicks", 60_000, 7, 9)
    assert found.clicks == ("cart", "click", "purchase", "view")
    (found,) = parse_config("[feedback]\nreward = { click = 1.0 }\n" + told).fold_settings().online
    assert found.clicks == ("click",)
    (found,) = parse_config(told + "actions = { purchase = 2.0 }\n").fold_settings().online
    assert found.clicks == ("purchase",)
    plain = parse_config(ONLINE).fold_settings()
    assert plain.online == ()
    assert plain.version() != parse_config(told).fold_settings().version()


@pytest.mark.parametrize(
    "lines, where, came, right",
    [
        ("online = {}", "options.is_standardised", "true came", "is_standardised = false."),
        ("online = {}\noptions = { is_standardised = false, bins = 65 }", "options.bins", "65 came.", "At most 64"),
        (
            "online = {}\noptions = { is_standardised = false, debias = 'propensity' }",
            "options.debias",
            '"propensity" came',
            'debias = "position" or "none".',
        ),
        (
            "online = { wait = '8d' }\noptions = { is_standardised = false }",
            "online.wait",
            "8d came, and outcomes are joined for 7d.",
            "At most [feedback] window.",
        ),
        (
            "online = { slates_max = 0 }\noptions = { is_standardised = false }",
            "online.slates_max",
            "0 came.",
            "from 1",
        ),
    ],
)
def test_what_cannot_go_on_learning_is_a_fault(lines: str, where: str, came: str, right: str) -> None:
    """At the option, with the value that is right."""
    found = fault_of(ONLINE + lines)
    assert found[0] == f"$.models[0].{where}"
    assert came in found[1]
    assert right in found[2]
    assert found[3] == "/docs/models.md"


def test_other_kinds_do_not_go_on_learning() -> None:
    """Nor do models of items, or rewards of nothing."""
    assert fault_of(ONE + "online = {}")[0] == "$.models[0].online"
    other = fault_of(ONLINE.replace('"ftrl"', '"trees"') + "online = {}")
    assert other[0] == "$.models[0].online"
    told = "[feedback]\nreward = { click = -1.0 }\n" + ONLINE
    nothing = fault_of(told + "online = {}\noptions = { is_standardised = false }")
    assert nothing[0] == "$.models[0].actions"


@pytest.mark.parametrize("windows, is_refused", [(2, False), (3, True)])
def test_more_inputs_than_a_model_may_learn_online_are_refused_before_a_fit(windows: int, is_refused: bool) -> None:
    """64 columns at most: of a feature with several windows each is one."""
    lengths = ["1h", "24h", "7d"][:windows]
    features = "".join(
        f'[[features]]\nname = "f{number}"\nkind = "count"\nscope = "item"\nactions = ["view"]\nwindows = {lengths}\n'
        for number in range(32)
    )
    names = [f"f{number}" for number in range(32)]
    text = f"""
{features}
[[placements]]
name = "home"
features = {names}

[[models]]
name = "clicks"
kind = "ftrl"
placement = "home"
online = {{}}
options = {{ is_standardised = false }}
"""
    if not is_refused:
        assert len(parse_config(text).fold_settings().online) == 1
        return
    with pytest.raises(ConfigInvalid) as raised:
        parse_config(text)
    (found,) = [each for each in raised.value.faults if each.where.endswith("$.models[0].online")]
    assert (found.came, found.right) == (
        'The placement "home" has 96 columns, each an input of the model.',
        "At most 64 columns of a model with online.",
    )
