"""Files of deployment: they name commands, options, paths and units that there are, and validators have no finding."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # the package brings no types
from typer.main import get_command

from midstream.app.config.reader import parse_config
from midstream.cli.app import app
from tests.support.libraries import missing

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text("utf-8")
COMPOSE = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in sorted((DEPLOY / "compose").glob("*.yaml"))}
UNITS = sorted((DEPLOY / "systemd").iterdir())
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # a group
CHART = DEPLOY / "helm" / "midstream"


def faults(words: list[str]) -> list[str]:
    """Return what of a command line ``midstream …`` there is not."""
    if words[0] not in COMMANDS:
        return [words[0]]
    known = {text for each in COMMANDS[words[0]].params for text in (*each.opts, *each.secondary_opts)}
    return [word for word in words[1:] if word.startswith("-") and word.partition("=")[0] not in known]


def instructions(text: str) -> list[str]:
    """Return the instructions of a Dockerfile, continued lines as one."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).split("\n")


def test_faults_are_found() -> None:
    """A command, and an option of one, that there are not."""
    assert faults(["serve", "--host", "0.0.0.0"]) == []  # noqa: S104  a text
    assert faults(["serv"]) == ["serv"]
    assert faults(["serve", "--hots=x"]) == ["--hots=x"]


def test_image_copies_what_there_is() -> None:
    """Each source of a copy is in the checkout and not ignored, and the command of the image exists."""
    ignored = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text("utf-8")
    taken = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    copies = [
        line.split()[1:-1] for line in instructions(DOCKERFILE) if line.startswith("COPY ") and "--from" not in line
    ]
    sources = {source for each in copies for source in each}
    assert len(sources) >= 6
    assert sources == taken
    assert [source for source in sources if not (ROOT / source).exists()] == []
    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert faults(json.loads(command)) == []


def test_image_has_no_root_and_its_kernels() -> None:
    """The last stage has a user of its own, and finds kernels by the variables by which they were compiled."""
    first, last = DOCKERFILE.split("\nFROM python")[1:]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert re.search(r"^RUN /opt/midstream/bin/midstream warm\b", first, re.MULTILINE)
    for variable in ("NUMBA_CACHE_DIR=/opt/kernels", "NUMBA_CPU_NAME=${CPU}"):
        assert variable in first
        assert variable in last


def test_bytecode_of_the_image_is_valid_whatever_the_times() -> None:
    """A layer rounds times of files, so bytecode is made without a check of them, after the last file came."""
    (first, _) = DOCKERFILE.split("\nFROM python")[1:]
    installs = re.findall(r"pip install (.*)", first)
    assert len(installs) == 2
    assert all("--no-compile" in each for each in installs)
    made = first.index("-m compileall -q --invalidation-mode unchecked-hash /opt/midstream/lib")
    assert first.rindex("pip uninstall") < made < first.index("midstream warm &&")


def test_packages_of_the_image_are_in_the_lock() -> None:
    """Each with its version and hashes; one that the lock lacks is refused by name."""
    (named,) = re.findall(r'^ARG PACKAGES="(.*)"$', DOCKERFILE, re.MULTILINE)
    command = [sys.executable, "scripts/demo_lock.py"]
    done = subprocess.run([*command, *named.split()], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in (*named.split(), "numba", "uvicorn"):
        assert re.search(rf"^{name}==.*\n(.*\n)*? +--hash=", done.stdout, re.MULTILINE), name
    assert "\npytest==" not in done.stdout
    done = subprocess.run([*command, "nothing"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, "requirements.lock has no nothing")


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_names_what_there_is(name: str) -> None:
    """Commands of our image, its Dockerfile, files that are mounted, services that others wait for, volumes."""
    services = COMPOSE[name]["services"]
    ours = [each for each in services.values() if each.get("image") == "midstream"]
    assert ours
    for each in ours:
        assert (DEPLOY / "compose" / each["build"]["context"] / each["build"]["dockerfile"]).resolve().is_file()
        if "entrypoint" not in each:
            assert faults(each["command"]) == []
            assert each["read_only"] is True
            assert all(port.startswith("127.0.0.1:") for port in each["ports"])
    for each in services.values():
        assert set(each.get("depends_on", ())) <= services.keys()
        for volume in each.get("volumes", ()):
            source = volume.partition(":")[0]
            there = (
                (DEPLOY / "compose" / source).exists() if source.startswith(".") else source in COMPOSE[name]["volumes"]
            )
            assert there, volume


def test_nodes_get_one_configuration_and_one_key(tmp_path: Path) -> None:
    """The step before the first start: once made, files stay, and a node that is new gets the key of the others."""
    text = (DEPLOY / "compose" / "nodes.toml").read_text("utf-8")
    assert parse_config(text).log.kind == "kafka"
    (tmp_path / "nodes.toml").write_text(text)
    script = (DEPLOY / "compose" / "prepare.sh").read_text("utf-8")
    local = script.replace("/nodes.toml", f"{tmp_path}/nodes.toml").replace(
        "10001:10001", f"{os.getuid()}:{os.getgid()}"
    )
    (tmp_path / "prepare.sh").write_text(local)

    def prepare(*names: str) -> list[bytes]:
        folders = [tmp_path / name for name in names]
        subprocess.run(["sh", tmp_path / "prepare.sh", *folders], check=True)
        assert all((folder / "midstream.toml").read_text() == text for folder in folders)
        return [(folder / "data" / "key").read_bytes() for folder in folders]

    first = prepare("1", "2")
    assert len(first[0]) == 32
    assert first[0] == first[1]
    assert prepare("1", "2", "3") == [first[0]] * 3
    assert prepare("4") != first[:1]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_run_commands_that_there_are(unit: Path) -> None:
    """The program, its command and its options; a timer has a service of its name."""
    text = unit.read_text("utf-8")
    if unit.suffix == ".timer":
        assert unit.with_suffix(".service") in UNITS
        return
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *words = shlex.split(line)
    assert program == "/opt/midstream/bin/midstream"
    assert faults(words) == []
    for wanted in ("User=midstream", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert wanted in text


@pytest.mark.integration
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """``systemd-analyze verify`` knows each setting, and finds a misspelt one."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze is not installed; scripts/test-integrations installs it")

    def verified(change: str) -> tuple[int, str]:
        for unit in UNITS:
            text = unit.read_text("utf-8").replace("/opt/midstream/bin/midstream", sys.executable)
            (tmp_path / unit.name).write_text(text.replace("Restart=on-failure", change))
        words = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        ours = [line for line in done.stderr.splitlines() if "midstream" in line]
        return done.returncode, "\n".join(ours)

    assert verified("Restart=on-failure") == (0, "")
    assert "Restrat" in verified("Restrat=on-failure")[1]


def test_chart_has_the_version_of_the_program() -> None:
    """The image that a chart names by default is that of the program it comes with."""
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_chart_reads_values_that_there_are() -> None:
    """Each value that a template reads has a default, and each default is read."""
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    text = "\n".join(path.read_text("utf-8") for path in sorted((CHART / "templates").iterdir()))
    read = set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    for path in read:
        place: Any = values
        for part in path.split("."):
            assert part in place, path
            place = place[part]
    assert {path.partition(".")[0] for path in read} == set(values)


def test_chart_runs_commands_that_there_are() -> None:
    """Options of the server and of the backup, in the templates as they stand."""
    found = re.findall(
        r"- (--[a-z-]+)(?==|$)", (CHART / "templates" / "statefulset.yaml").read_text("utf-8"), re.MULTILINE
    )
    assert len(found) >= 6
    assert faults(["serve", *found]) == []
    (line,) = re.findall(r"args: \[(backup.*)\]", (CHART / "templates" / "backup.yaml").read_text("utf-8"))
    assert faults([word.strip(' "').partition("=")[0] for word in line.split(",")]) == []
