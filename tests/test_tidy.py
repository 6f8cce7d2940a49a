"""The house rules that no linter knows, read from the sources.

A rule is a function from one module to what is wrong in it. Each is run over all of ``src/midstream`` and is
proven here on snippets that break it and on some that come near and do not.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "midstream"

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
PARAMETERS_MAX = 6
COMMAND_LINES_MAX = 15

CLOCK_FOLDERS = {"app", "serving", "cli", "client"}
"""Time, seed and ids are arguments everywhere else."""
EXPORTING = {"client/__init__.py"}
"""A program outside imports from it by name, as from the package itself."""
COUNTING_FOLDERS = {"monitoring", "engine", "serving", "integrations", "app", "simulation", "testing", "cli"}
"""Below ``monitoring`` results carry the numbers."""
EXTRA_FOLDERS = {"models", "integrations"}

CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "time.strftime",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
}
RANDOM_IDS = {"os.urandom", "uuid.uuid1", "uuid.uuid4"}
SEEDED = {
    "BitGenerator",
    "Generator",
    "MT19937",
    "PCG64",
    "PCG64DXSM",
    "Philox",
    "SFC64",
    "SeedSequence",
    "default_rng",
}
COUNTERS = {"logging", "structlog", "prometheus_client"}
# fmt: off
EXTRAS = {
    "cassandra", "confluent_kafka", "feast", "flask", "grpc", "hopsworks", "hsfs", "implicit", "kafka", "lightgbm",
    "onnx", "onnxruntime", "onnxscript", "optuna", "psycopg", "pulsar", "pyspark", "redis", "sklearn", "surprise",
    "tensorflow", "torch",
}
# fmt: on
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BORROWED = "midstream.state.structures.borrowed.borrowed"
VAGUE_NAMES = {"base", "common", "helper", "helpers", "misc", "util", "utils"}
ROUTE_METHODS = {"delete", "get", "patch", "post", "put"}

# Taken apart, so that this file passes its own rules.
LEFT_OVER = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
PLACE = re.compile(
    r"(?<![\w.])/(?:work|farm|root|home/\w+)" + r"/|index" + r"-url|extra" + r"-index|find" + r"-links"
    r"|pypi" + r"\.org|pythonhosted" + r"\.org|npmjs" + r"\.org"
)


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    path: str
    """Below ``src/midstream``, such as ``state/users/users.py``."""
    text: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    """All of the tree: the rules walk it once together."""
    imported: Mapping[str, str]
    """Name in the file → dotted name of what it stands for, wherever in the file it is imported."""

    @property
    def folder(self) -> str:
        """The first folder below the package, empty for files beside it."""
        return self.path.rpartition("/")[0].partition("/")[0]


Finding = tuple[int, str]
Rule = Callable[[Module], Iterator[Finding]]
AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


def parse(path: str, text: str) -> Module:
    """Parse one file."""
    tree = ast.parse(text)
    nodes = tuple(ast.walk(tree))
    imported: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for name in node.names:
                top = name.name.partition(".")[0]
                imported[name.asname or top] = name.name if name.asname else top
        elif isinstance(node, ast.ImportFrom):
            imported.update({name.asname or name.name: f"{node.module}.{name.name}" for name in node.names})
    return Module(path, text, tree, nodes, imported)


def dotted(module: Module, node: ast.AST) -> str:
    """Full name of what an expression refers to (``np.random.rand`` → ``numpy.random.rand``), or nothing."""
    if isinstance(node, ast.Name):
        return module.imported.get(node.id, "")
    if isinstance(node, ast.Attribute) and (before := dotted(module, node.value)):
        return f"{before}.{node.attr}"
    return ""


def line_of(node: ast.AST) -> int:
    """Line of a node, 1 where it has none."""
    return getattr(node, "lineno", 1)


def functions(module: Module) -> Iterator[AnyFunction]:
    """All functions and methods, nested ones too."""
    return (node for node in module.nodes if isinstance(node, AnyFunction))


def decorators(function: AnyFunction) -> Iterator[str]:
    """Last part of each decorator's name: ``kernel`` of ``@kernel``, ``command`` of ``@app.command()``."""
    for decorator in function.decorator_list:
        node = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top package of each import below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name.partition(".")[0]) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def exceptions(node: ast.expr | None) -> Iterator[str]:
    """The names in an ``except`` clause; a bare one catches ``BaseException``."""
    if node is None:
        yield "BaseException"
    elif isinstance(node, ast.Tuple):
        for element in node.elts:
            yield from exceptions(element)
    elif isinstance(node, ast.Name):
        yield node.id


def function_is_short(module: Module) -> Iterator[Finding]:
    """A function has at most 70 lines."""
    for function in functions(module):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield function.lineno, f"{function.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"


def module_is_short(module: Module) -> Iterator[Finding]:
    """A module has at most 500 lines."""
    lines = len(module.text.splitlines())
    if lines > MODULE_LINES_MAX:
        yield 1, f"{lines} lines, at most {MODULE_LINES_MAX}"


def parameters_are_few(module: Module) -> Iterator[Finding]:
    """A function has at most 6 parameters; a kernel takes its arrays, a command its options."""
    methods = {child for node in module.nodes if isinstance(node, ast.ClassDef) for child in node.body}
    for function in functions(module):
        names = set(decorators(function))
        if names & {"inlined", "kernel", "optional_kernel"} or ("command" in names and module.folder == "cli"):
            continue
        arguments = function.args
        every = [
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            arguments.vararg,
            arguments.kwarg,
        ]
        count = sum(argument is not None for argument in every)
        count -= function in methods and "staticmethod" not in names
        if count > PARAMETERS_MAX:
            yield function.lineno, f"{function.name} has {count} parameters, at most {PARAMETERS_MAX}"


def command_only_calls(module: Module) -> Iterator[Finding]:
    """The body of a command or route has at most 15 lines: parse, one call, print."""
    for function in functions(module):
        names = set(decorators(function))
        command = module.folder == "cli" and "command" in names
        route = module.folder == "serving" and names & ROUTE_METHODS
        if not (command or route):
            continue
        body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
        lines = (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1
        if lines > COMMAND_LINES_MAX:
            yield function.lineno, f"{function.name} has a body of {lines} lines, at most {COMMAND_LINES_MAX}"


def time_is_an_argument(module: Module) -> Iterator[Finding]:
    """Only ``app``, ``serving``, ``cli`` and ``client`` read the wall clock."""
    if module.folder not in CLOCK_FOLDERS:
        for node in module.nodes:
            if (name := dotted(module, node)) in CLOCKS:
                yield line_of(node), f"{name}: time is an argument"


def seed_is_an_argument(module: Module) -> Iterator[Finding]:
    """Only ``app``, ``serving``, ``cli`` and ``client`` draw what no seed decides; nobody uses global random state."""
    for node in module.nodes:
        name = dotted(module, node)
        start, _, last = name.rpartition(".")
        if start == "random" or (start == "numpy.random" and last not in SEEDED):
            yield line_of(node), f"{name}: global random state"
        elif module.folder not in CLOCK_FOLDERS and (name in RANDOM_IDS or start == "secrets"):
            yield line_of(node), f"{name}: seed and ids are arguments"
        if isinstance(node, ast.Call) and not node.args and not node.keywords:
            start, _, last = dotted(module, node.func).rpartition(".")
            if start == "numpy.random" and module.folder not in CLOCK_FOLDERS:
                yield line_of(node), f"{last}() without a seed"


def hash_is_stable(module: Module) -> Iterator[Finding]:
    """``hash()`` differs from one process to the next."""
    if module.folder not in CLOCK_FOLDERS:
        for node in module.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash":
                yield node.lineno, "hash() differs by process: use xxhash"


def module_says_what_it_holds(module: Module) -> Iterator[Finding]:
    """Every module has a docstring."""
    if not ast.get_docstring(module.tree):
        yield 1, "no docstring"


def init_is_one_sentence(module: Module) -> Iterator[Finding]:
    """An ``__init__.py`` is one sentence; only the package's own and the client's may export."""
    if not module.path.endswith("/__init__.py"):
        return
    text = ast.get_docstring(module.tree) or ""
    if len(module.tree.body) > 1 and module.path not in EXPORTING:
        yield module.tree.body[1].lineno, "an __init__.py is its docstring only"
    if not text.endswith(".") or re.search(r"\.\s+[A-Z]", text):
        yield 1, "an __init__.py is one sentence"


def nothing_is_left_over(module: Module) -> Iterator[Finding]:
    """No note to come back later."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if LEFT_OVER.search(line):
            yield number, "left-over mark"


def one_place_catches_all(module: Module) -> Iterator[Finding]:
    """Only ``ranking/boundary.py`` catches ``Exception``."""
    if module.path == "ranking/boundary.py":
        return
    for node in module.nodes:
        caught: list[str] = []
        if isinstance(node, ast.ExceptHandler):
            caught = list(exceptions(node.type))
        elif isinstance(node, ast.Call) and dotted(module, node.func) == "contextlib.suppress":
            caught = [name for argument in node.args for name in exceptions(argument)]
        if {"Exception", "BaseException"} & set(caught):
            yield line_of(node), "catches Exception: only ranking/boundary.py may"


def no_error_disappears(module: Module) -> Iterator[Finding]:
    """No handler that does nothing."""
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler) and all(
            isinstance(step, ast.Pass) or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
            for step in node.body
        ):
            yield node.lineno, "an error disappears"


def nothing_is_pickled(module: Module) -> Iterator[Finding]:
    """No pickle is written or loaded, by whatever name."""
    yield from ((line, f"imports {name}") for line, name in imports(module.tree) if name in PICKLES)
    for node in module.nodes:
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield node.lineno, "allow_pickle"


def only_running_parts_count_or_log(module: Module) -> Iterator[Finding]:
    """Below ``monitoring`` nothing counts or logs."""
    if module.folder not in COUNTING_FOLDERS:
        yield from ((line, f"imports {name}") for line, name in imports(module.tree) if name in COUNTERS)


def extras_stay_behind_a_function(module: Module) -> Iterator[Finding]:
    """Only ``models`` and ``integrations`` import extras, inside the function that needs them."""
    for_types = (
        node
        for node in module.nodes
        if isinstance(node, ast.If) and dotted(module, node.test) == "typing.TYPE_CHECKING"
    )
    later = {found for node in (*functions(module), *for_types) for found in imports(node)}
    for line, name in imports(module.tree):
        if name in EXTRAS and module.folder not in EXTRA_FOLDERS:
            yield line, f"imports the extra {name}"
        elif name in EXTRAS and (line, name) not in later:
            yield line, f"imports the extra {name} when the module is loaded"


def name_says_what_is_inside(module: Module) -> Iterator[Finding]:
    """No module or folder is called utils, common, helpers, base."""
    for part in module.path.removesuffix(".py").split("/"):
        if part.strip("_") in VAGUE_NAMES:
            yield 1, f"{part} says nothing about what is inside"


def bound_otherwise(function: AnyFunction, is_borrowing: Callable[[ast.AST], bool]) -> set[str]:
    """Names that a function binds to anything but what it borrows at once: no caller owns that."""
    anew: set[ast.AST] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            into, value = node.targets[0], node.value
            pairs = [(into, value)]
            if isinstance(into, ast.Tuple) and isinstance(value, ast.Tuple) and len(into.elts) == len(value.elts):
                pairs = list(zip(into.elts, value.elts, strict=True))
            anew.update(name for to, told in pairs if is_borrowing(told) for name in ast.walk(to))
    return {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and node not in anew
    }


def borrowed_is_a_callers(module: Module) -> Iterator[Finding]:
    """Only what a caller owns is borrowed: numba frees an array after the last line that names it."""

    def is_borrowing(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and dotted(module, node.func) == BORROWED

    for function in functions(module):
        arguments = function.args
        owned = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        owned -= bound_otherwise(function, is_borrowing)
        for node in ast.walk(function):
            for told in node.args if isinstance(node, ast.Call) and is_borrowing(node) else ():
                for each in told.elts if isinstance(told, ast.Tuple) else [told]:
                    held: ast.expr = each
                    while isinstance(held, ast.Attribute):
                        held = held.value
                    if not (isinstance(held, ast.Name) and held.id in owned):
                        yield each.lineno, f"{function.name} borrows {ast.unparse(each)}, which no caller holds"


RULES: tuple[Rule, ...] = (
    function_is_short,
    module_is_short,
    parameters_are_few,
    command_only_calls,
    time_is_an_argument,
    seed_is_an_argument,
    hash_is_stable,
    module_says_what_it_holds,
    init_is_one_sentence,
    nothing_is_left_over,
    one_place_catches_all,
    no_error_disappears,
    nothing_is_pickled,
    only_running_parts_count_or_log,
    extras_stay_behind_a_function,
    name_says_what_is_inside,
    borrowed_is_a_callers,
)

SEVEN = "a, b, c, d, e, f, g"
LONG = "    x = 1\n" * 70
LEND = f"from {BORROWED.rpartition('.')[0]} import borrowed"
BAD: tuple[tuple[Rule, str, str], ...] = (
    (function_is_short, "core/a.py", f"def f():\n{LONG}"),
    (function_is_short, "core/a.py", f"async def f():\n{LONG}"),
    (module_is_short, "core/a.py", "x = 1\n" * 501),
    (parameters_are_few, "core/a.py", f"def f({SEVEN}): ..."),
    (parameters_are_few, "core/a.py", "def f(a, b, /, c, *d, e, f, **g): ..."),
    (parameters_are_few, "core/a.py", f"class A:\n    def f(self, {SEVEN}): ..."),
    (parameters_are_few, "core/a.py", f"@command\ndef f({SEVEN}): ..."),
    (command_only_calls, "cli/a.py", "@app.command()\ndef f():\n" + "    x = 1\n" * 16),
    (command_only_calls, "serving/a.py", "@app.get('/')\nasync def f():\n" + "    x = 1\n" * 16),
    (time_is_an_argument, "core/a.py", "import time\nx = time.time()"),
    (time_is_an_argument, "engine/a.py", "from time import time_ns as now\nx = now()"),
    (time_is_an_argument, "state/a.py", "from datetime import datetime\nx = datetime.now(tz=None)"),
    (time_is_an_argument, "state/a.py", "import datetime as d\nx = d.date.today()"),
    (time_is_an_argument, "state/a.py", "import time\nf(clock=time.time)"),
    (seed_is_an_argument, "cli/a.py", "import random\nx = random.random()"),
    (seed_is_an_argument, "core/a.py", "from random import choice\nx = choice([1])"),
    (seed_is_an_argument, "core/a.py", "import numpy as np\nx = np.random.rand(3)"),
    (seed_is_an_argument, "core/a.py", "import numpy as np\nnp.random.seed(3)"),
    (seed_is_an_argument, "core/a.py", "import numpy as np\nx = np.random.default_rng()"),
    (seed_is_an_argument, "core/a.py", "from uuid import uuid4\nx = uuid4()"),
    (seed_is_an_argument, "core/a.py", "import secrets\nx = secrets.token_hex()"),
    (hash_is_stable, "core/a.py", "x = hash('a')"),
    (module_says_what_it_holds, "core/a.py", "x = 1"),
    (init_is_one_sentence, "core/__init__.py", '"""One sentence."""\nfrom a import b'),
    (init_is_one_sentence, "core/__init__.py", '"""One sentence. And one more."""'),
    (init_is_one_sentence, "core/__init__.py", ""),
    (nothing_is_left_over, "core/a.py", "x = 1  # TO" + "DO: later"),
    (one_place_catches_all, "ranking/a.py", "try: f()\nexcept Exception as error: g(error)"),
    (one_place_catches_all, "ranking/a.py", "try: f()\nexcept (ValueError, BaseException): g()"),
    (one_place_catches_all, "ranking/a.py", "try: f()\nexcept: g()"),
    (one_place_catches_all, "core/a.py", "from contextlib import suppress\nwith suppress(Exception): f()"),
    (no_error_disappears, "ranking/boundary.py", "try: f()\nexcept ValueError: pass"),
    (no_error_disappears, "core/a.py", "try: f()\nexcept ValueError: ..."),
    (nothing_is_pickled, "models/a.py", "import pickle"),
    (nothing_is_pickled, "models/a.py", "def f():\n    from joblib import load"),
    (nothing_is_pickled, "models/a.py", "import numpy as np\nx = np.load('a', allow_pickle=True)"),
    (only_running_parts_count_or_log, "ranking/a.py", "from prometheus_client import Counter"),
    (only_running_parts_count_or_log, "state/a.py", "import structlog"),
    (extras_stay_behind_a_function, "training/a.py", "def f():\n    import torch"),
    (extras_stay_behind_a_function, "models/a.py", "import torch"),
    (extras_stay_behind_a_function, "models/a.py", "try: import torch.nn\nexcept ImportError: torch = None"),
    (name_says_what_is_inside, "core/utils.py", ""),
    (name_says_what_is_inside, "common/types.py", ""),
    (borrowed_is_a_callers, "state/a.py", f"{LEND}\ndef f(n):\n    x = zeros(n)\n    y = borrowed(x)"),
    (borrowed_is_a_callers, "state/a.py", f"{LEND}\ndef f(x):\n    y = borrowed(x.copy())"),
    (borrowed_is_a_callers, "state/a.py", f"{LEND}\ndef f(x):\n    x = x.copy()\n    x = borrowed(x)"),
    (borrowed_is_a_callers, "state/a.py", f"{LEND}\ndef f(a):\n    b = zeros(2)\n    a, b = borrowed((a, b))"),
    (borrowed_is_a_callers, "state/a.py", f"{LEND}\ndef f(a):\n    for b in a: g(borrowed(b))"),
    (borrowed_is_a_callers, "state/a.py", f"{LEND} as lent\ndef f(a):\n    b = a.all()\n    return g(lent(b.c))"),
)
GOOD: tuple[tuple[str, str], ...] = (
    ("core/a.py", f"def f():\n{LONG}".removesuffix("    x = 1\n")),
    ("core/a.py", "x = 1\n" * 499),
    ("state/a.py", f"@kernel\ndef f({SEVEN}): ..."),
    ("state/a.py", f"@kernel(inline=True)\ndef f({SEVEN}): ..."),
    ("state/a.py", f"@inlined\ndef f({SEVEN}): ..."),
    ("core/a.py", "class A:\n    def f(self, a, b, c, d, e, f): ..."),
    ("cli/a.py", f"@app.command()\ndef f({SEVEN}):\n    'Say.'\n" + "    x = 1\n" * 15),
    ("app/a.py", "import time\nx = time.time()"),
    ("core/a.py", "def f(time, random, hash_of):\n    return time.time() + random.random() + hash_of(1)"),
    ("core/a.py", "import numpy as np\nx = np.random.default_rng(7)"),
    ("core/a.py", "from numpy.random import PCG64, Generator\nx = Generator(PCG64(7))"),
    ("core/__init__.py", ""),
    ("core/a.py", "class A:\n    def __hash__(self): return xxhash(self.a)"),
    ("ranking/boundary.py", "try: f()\nexcept Exception as error: g(error)"),
    ("core/a.py", "try: f()\nexcept ValueError: x = None"),
    ("core/a.py", "import numpy as np\nx = np.load('a', allow_pickle=False)"),
    ("engine/a.py", "import structlog"),
    ("models/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
    ("models/a.py", "def f():\n    import torch"),
    ("state/database.py", ""),
    ("state/a.py", f"{LEND}\ndef f(a, b):\n    a, c = borrowed(a), borrowed(b.held.c)\n    a = borrowed((a, b.d))"),
    ("state/a.py", "def f(n):\n    x = zeros(n)\n    return borrowed(x)"),
)


def findings(rule: Rule, module: Module) -> list[str]:
    """What one rule finds in one module, as lines to click on."""
    return [f"src/midstream/{module.path}:{line}: {what}" for line, what in rule(module)]


def tracked_files() -> list[Path]:
    """Files of the repository, new ones too, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def places(text: str) -> list[int]:
    """Lines that name a path of one machine or the address of a registry."""
    return [number for number, line in enumerate(text.splitlines(), 1) if PLACE.search(line)]


@cache
def sources():
    """All modules of ``src/midstream``, parsed once for all rules."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [parse(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")) for path in paths]


@pytest.fixture(scope="module", autouse=True)
def _drop_trees():
    """Millions of nodes would be looked through at each collection of garbage in the tests that follow."""
    yield
    sources.cache_clear()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources_keep_rule(rule: Rule):
    """All of ``src/midstream`` keeps each rule."""
    found = [finding for module in sources() for finding in findings(rule, module)]
    assert not found, "\n".join([f"{rule.__doc__}", *found])


@pytest.mark.parametrize("rule,path,text", BAD)
def test_rule_sees_what_breaks_it(rule: Rule, path: str, text: str):
    """Each rule finds its bad snippets."""
    assert findings(rule, parse(path, text))


@pytest.mark.parametrize("path,text", GOOD)
def test_rules_pass_what_only_comes_near(path: str, text: str):
    """No rule finds anything in a snippet that is as near to bad as is allowed."""
    module = parse(path, '"""Near."""\n' + text)
    assert [finding for rule in RULES for finding in findings(rule, module)] == []


def test_each_rule_is_proven():
    """No rule without a snippet that breaks it."""
    assert {rule for rule, _, _ in BAD} == set(RULES)


def test_sources_are_found():
    """The rules read something: an empty list of files would keep them all."""
    assert (PACKAGE / "__init__.py") in set(PACKAGE.rglob("*.py"))
    assert ROOT / "pyproject.toml" in tracked_files()


def test_files_name_no_machine_and_no_registry():
    """No tracked file has a path of the machine it was written on, or the address of a registry."""
    found: list[str] = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}:{line}" for line in places(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text,bad",
    [
        ("cd /wo" + "rk/main", True),
        ("open('/home/" + "ann/x')", True),
        ("--index" + "-url x", True),
        ("see files.pythonhosted" + ".org", True),
        ("the path /v1/wo" + "rk/main", False),
        ("docs/work/a.md", False),
        ("index_url", False),
    ],
)
def test_places_are_seen(text: str, bad: bool):
    """Paths of a machine are told from other paths."""
    assert bool(places(text)) == bad


MIRRORED_FOLDERS = ("engine", "events", "features", "models", "ranking", "serving", "state")
MIRRORED_LINES_MIN = 250
"""A module of so many lines is more than one can have in mind while looking for its test elsewhere."""
TESTED_ELSEWHERE = {
    "engine/snapshots/base_state.py": "tests/engine/history/test_retention.py",  # begins with what retention left
    "engine/types.py": "tests/contract/test_engines.py",  # values that all engines return
    "events/arrow/columns.py": "tests/events/arrow/test_arrow.py",  # columns are read for a table
    "events/segments/frames.py": "tests/events/segments/test_segments.py",  # a frame is what a segment is made of
    "events/history/history_file.py": "tests/events/history/test_history.py",  # a file is what history is made of
    "events/json/kernels.py": "tests/events/json/test_plain.py",  # kernels of that decoder
    "events/segments/segment_reader.py": "tests/events/segments/test_segments.py",  # read beside the writer
    "features/expressions/names.py": "tests/features/test_language.py",  # names stand in texts
    "features/expressions/reading.py": "tests/features/test_language.py",  # as is the whole language
    "features/readers/request_inputs.py": "tests/features/readers/test_inputs.py",  # all inputs are there
    "ranking/explain/why_not.py": "tests/ranking/explain/test_explanation.py",  # the other half of an explanation
    "serving/app.py": "tests/serving/http/test_bounded_protocol.py",  # routes are tested by what they serve
    "serving/openapi/document.py": "tests/serving/test_http_docs.py",  # the description beside the page
    "state/cells/rows.py": "tests/state/cells/test_cells.py",  # kernels of that table
}
"""Large modules whose tests are in a file of another name. None is added: a new module has a file of its own."""
TESTED_ELSEWHERE_MAX = 14
"""So many there are; it is made less with each that goes."""


def without_own_tests(package: Path, tests: Path) -> set[str]:
    """Large modules that no test file has the name of."""
    modules = (path for folder in MIRRORED_FOLDERS for path in (package / folder).rglob("*.py"))
    large = (path for path in modules if len(path.read_text("utf-8").splitlines()) >= MIRRORED_LINES_MIN)
    below = (path.relative_to(package) for path in large)
    return {path.as_posix() for path in below if not (tests / path.with_name(f"test_{path.name}")).exists()}


def test_a_large_module_has_a_test_file_of_its_name():
    """Whoever changes it finds at once what is promised, and what is not; the exceptions can only become fewer."""
    assert without_own_tests(PACKAGE, ROOT / "tests") == set(TESTED_ELSEWHERE)
    assert len(TESTED_ELSEWHERE) == TESTED_ELSEWHERE_MAX
    assert [path for path in TESTED_ELSEWHERE.values() if not (ROOT / path).is_file()] == []


def test_a_large_module_without_tests_is_seen(tmp_path: Path):
    """By its lines and by the names of the files beside it."""
    package, tests = tmp_path / "src", tmp_path / "tests"
    for folder in (package / "state" / "cells", tests / "state" / "cells"):
        folder.mkdir(parents=True)
    for name, lines in (("small", MIRRORED_LINES_MIN - 1), ("large", MIRRORED_LINES_MIN), ("tested", 400)):
        (package / "state" / "cells" / f"{name}.py").write_text("x = 1\n" * lines)
    (tests / "state" / "cells" / "test_tested.py").write_text("")
    (tests / "state" / "test_large.py").write_text("")
    assert without_own_tests(package, tests) == {"state/cells/large.py"}


FOLDER_FILES_MAX = 24
"""What a reader takes in at a glance; a folder that grows past it wants rooms by capability."""


def crowded(package: Path) -> set[str]:
    """Folders with more modules than a reader takes in at a glance."""
    folders = (path for path in (package, *package.rglob("*")) if path.is_dir())
    return {path.relative_to(package).as_posix() for path in folders if len([*path.glob("*.py")]) > FOLDER_FILES_MAX}


def test_no_folder_is_crowded(tmp_path: Path):
    """Sources stand in rooms of at most 24 modules."""
    assert crowded(PACKAGE) == set()
    (tmp_path / "state").mkdir()
    for number in range(FOLDER_FILES_MAX + 1):
        (tmp_path / "state" / f"table_{number}.py").write_text("")
    assert crowded(tmp_path) == {"state"}


def shared_names(package: Path) -> dict[str, list[str]]:
    """Public classes of one name, each with the modules that define it."""
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path.relative_to(package).as_posix())
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def test_a_public_class_name_has_one_meaning(tmp_path: Path):
    """Whoever searches for a class finds one."""
    assert shared_names(PACKAGE) == {}
    for name in ("one", "other"):
        (tmp_path / f"{name}.py").write_text("class Order: ...\nclass _Order: ...\n")
    assert shared_names(tmp_path) == {"Order": ["one.py", "other.py"]}


QUESTION_WORDS = {"Are", "How", "Is", "What", "When", "Where", "Whether", "Which", "Who", "Whoever", "Why"}
"""A noun phrase that names the pattern stands in their place."""


def _first_word(doc: str) -> str:
    """Its letters alone: a comma or a hyphen behind a question word leaves it one."""
    return re.split(r"\W", doc, maxsplit=1)[0]


def riddles(package: Path) -> list[str]:
    """Modules whose docstring begins with a question instead of the name of what stands there."""
    docs = {path: ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for path in package.rglob("*.py")}
    return sorted(
        path.relative_to(package).as_posix() for path, doc in docs.items() if _first_word(doc) in QUESTION_WORDS
    )


def test_a_module_says_first_what_it_is(tmp_path: Path):
    """The first words of its docstring are a noun phrase."""
    assert riddles(PACKAGE) == []
    (tmp_path / "turns.py").write_text('"""Which events are folded when."""\n')
    (tmp_path / "inline.py").write_text('"""Why, with the answer."""\n')
    (tmp_path / "fold_scheduler.py").write_text('"""Scheduler of folds."""\n')
    assert riddles(tmp_path) == ["inline.py", "turns.py"]


SPOKEN = re.compile(
    r"\b(?:whoever|(?:is|are|was|were)\s+told|says?\s+of|asks?\s+(?:nobody|no\s+one)|nobody\s+asks"
    r"|what\s+(?:came|comes)\s+of|of\s+one's\s+own)\b",
    re.IGNORECASE,
)
"""Data flows and components are named instead: outcomes, custom components, reads, returns."""


def spoken(root: Path) -> list[str]:
    """Phrases of pages that let parts speak, each with its page; records of decisions are as they were written."""
    pages = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "docs" / "tasks").glob("*.md")]
    return sorted(f"{page.name}: {found}" for page in pages for found in SPOKEN.findall(page.read_text("utf-8")))


def test_pages_name_parts_instead_of_letting_them_speak(tmp_path: Path):
    """Plain technical English, over line ends too."""
    assert spoken(ROOT) == []
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("A source is\ntold the moment. Whoever asks no one says it; tools tell it.\n")
    (tmp_path / "docs" / "a.md").write_text("A filter reads the moment of one item. It says that nothing came.\n")
    assert spoken(tmp_path) == ["README.md: Whoever", "README.md: asks no one", "README.md: is\ntold"]
