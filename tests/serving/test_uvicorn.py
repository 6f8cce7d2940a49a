"""Private names of uvicorn that connections are built upon are there, and no version that was not tried is admitted."""

import ast
import inspect
import re
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from midstream.serving.http import bounded_protocol, cycle

ROOT = Path(__file__).parents[2]
BUILT_UPON = {bounded_protocol: HttpToolsProtocol, cycle: RequestResponseCycle}
"""Module of ours with a subclass, and what that is of."""


def own_names(module) -> tuple[set[str], set[str]]:
    """Return the names that a module's classes use of themselves, and those that they make."""
    used: set[str] = set()
    made: set[str] = set()
    for each in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            made.add(each.name)
        if isinstance(each, ast.AnnAssign | ast.Assign):
            targets = [each.target] if isinstance(each, ast.AnnAssign) else each.targets
            flat = [inner for one in targets for inner in (one.elts if isinstance(one, ast.Tuple) else [one])]
            made |= (
                {one.id for one in flat if isinstance(one, ast.Name)} if not isinstance(each, ast.AnnAssign) else set()
            )
            made |= {one.attr for one in flat if isinstance(one, ast.Attribute)}
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self":
            used.add(each.attr)
    return used, made


def missing(module, base) -> list[str]:
    """Return the names that a module takes from a class of uvicorn's and that it does not have."""
    used, made = own_names(module)
    has = {*dir(base), *re.findall(r"self\.(\w+)", inspect.getsource(base))}
    return sorted(used - made - has)


@pytest.mark.parametrize("module", BUILT_UPON, ids=lambda each: each.__name__)
def test_names_that_connections_are_built_upon_are_there(module):
    """A version that moved one is told by the name, and what to do, and not by an error in the middle of a request."""
    base = BUILT_UPON[module]
    gone = missing(module, base)
    assert not gone, (
        f"uvicorn {version('uvicorn')} has no {base.__name__}.{', '.join(gone)}, which {module.__name__} builds upon: "
        "adapt that module, or lower the bound of uvicorn in pyproject.toml"
    )


def test_a_name_that_is_gone_is_found():
    """The check sees what it is to see: without a base's names those that the module lacks are told."""
    assert "_unset_keepalive_if_required" in missing(bounded_protocol, object_like())
    assert "message_event" in missing(cycle, object_like())


def object_like() -> type:
    """Return a class that has nothing."""

    class Empty:
        """Nothing."""

    return Empty


@pytest.mark.parametrize(
    "name", ["protocols.http.httptools_impl.STATUS_LINE", "protocols.http.flow_control.HIGH_WATER_LIMIT"]
)
def test_constants_are_there(name):
    """Those that are imported from private places."""
    place, _, constant = name.rpartition(".")
    assert hasattr(import_module(f"uvicorn.{place}"), constant), f"uvicorn {version('uvicorn')} has no {name} any more"


def test_the_bound_holds_what_was_tried():
    """The package admits the version of the lock and this one, and no later minor version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (bound,) = [Requirement(each) for each in project["dependencies"] if each.startswith("uvicorn")]
    (locked,) = re.findall(r"^uvicorn==(\S+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    assert bound.specifier.contains(locked)
    assert bound.specifier.contains(version("uvicorn"))
    major, minor = Version(locked).release[:2]
    assert not bound.specifier.contains(f"{major}.{minor + 1}.0")
