"""Packages of Maven's central repository, fetched by Maven itself: the locked files and no others, each by its hash.

Each artifact is a dependency of its own in the project that Maven is given, without what it depends on in turn. So
nothing is chosen when it is fetched, and no repository that a dependency declares is asked.
"""

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from tests.support.services import cache, locks
from tests.support.services.faults import Unavailable
from tests.support.services.locks import Artifact

FETCH_S_MAX = 1_200
"""Of the largest package, a quarter of a gigabyte, over a line of 2 Mbit/s."""
_SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Halves the time of a program that ends before the second compiler has earned its keep."""
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
_LIST = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:list"
_OTHER_MACHINES = re.compile(r"osx|macos|windows|aarch|riscv|ppc|s390")
"""Classifiers of what runs on no machine that these tests run on: Linux on x86-64."""
_ALONE = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"


@dataclass(frozen=True)
class MavenPackage:
    """Jars, or one archive that is unpacked."""

    name: str
    roots: Sequence[str]
    """Coordinates of what is wanted, the one that has the version first; the lock adds what they need."""

    @property
    def version(self) -> str:
        """The version of the first root."""
        return self.roots[0].rpartition(":")[2]

    def find(self) -> Path:
        """Return its folder."""
        return cache.find(self.name, locks.key_of(self.name))

    def fetch(self) -> Path:
        """Bring the locked files, unless they are there."""
        return cache.fetch(self.name, locks.key_of(self.name), self._bring)

    def lock(self) -> int:
        """Resolve the roots and write down what they need."""
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            listed = folder / "listed.txt"
            _maven(folder, project(self.roots, alone=False), _LIST, f"-DoutputFile={listed}", "-DincludeScope=runtime")
            coordinates = [each for each in _coordinates(listed.read_text("utf-8")) if not _is_foreign(each)]
            _copy(folder, coordinates)
            return locks.write_lock(
                self.name, (Artifact(each, locks.sha256_of(folder / "lib" / file_name(each))) for each in coordinates)
            )

    def _bring(self, folder: Path) -> None:
        artifacts = locks.read_lock(self.name)
        _copy(folder, [each.coordinates for each in artifacts])
        for each in artifacts:
            path = folder / "lib" / file_name(each.coordinates)
            if (came := locks.sha256_of(path)) != each.sha256:
                message = f"{each.coordinates} has the SHA-256 {came}, but its lock says {each.sha256}"
                raise Unavailable(message)
            if path.name.endswith(".tar.gz"):
                _unpack(path, folder)


def file_name(coordinates: str) -> str:
    """Return the name of an artifact's file, as the plugin writes it.

    >>> file_name("org.a:b:jar:linux-x86_64:1.0")
    'org.a.b-1.0-linux-x86_64.jar'
    """
    group, name, kind, *classifier, version = coordinates.split(":")
    return f"{group}.{'-'.join([name, version, *classifier])}.{kind}"


def project(coordinates: Iterable[str], *, alone: bool) -> str:
    """Write a project that depends on artifacts; ``alone`` or an archive: without what it depends on."""
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>midstream</groupId><artifactId>services</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{''.join(_dependency(each, alone=alone) for each in coordinates)}</dependencies></project>"
    )


def _dependency(coordinates: str, *, alone: bool) -> str:
    group, name, kind, *classifier, version = (escape(part) for part in coordinates.split(":"))
    more = f"<classifier>{classifier[0]}</classifier>" if classifier else ""
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>"
        f"<type>{kind}</type>{more}{_ALONE if alone or kind != 'jar' else ''}</dependency>"
    )


def _coordinates(listed: str) -> list[str]:
    """Read the plugin's list: ``group:name:type[:classifier]:version:scope`` and a module's name behind it."""
    found = re.findall(r"^\s+([\w.-]+(?::[\w.-]+){3,4}):(?:compile|runtime)\b", listed, re.MULTILINE)
    return sorted(set(found))


def _is_foreign(coordinates: str) -> bool:
    _, _, _, *classifier, _ = coordinates.split(":")
    return any(_OTHER_MACHINES.search(each) for each in classifier)


def _copy(folder: Path, coordinates: Iterable[str]) -> None:
    """Copy artifacts into ``lib`` of a folder."""
    text = project(coordinates, alone=True)
    _maven(folder, text, _COPY, f"-DoutputDirectory={folder / 'lib'}", "-Dmdep.prependGroupId=true")


def _maven(folder: Path, pom: str, *arguments: str) -> None:
    """Run Maven with a local repository that goes afterwards: the files are kept once, in the package."""
    if shutil.which("mvn") is None:
        message = "mvn is not installed, which fetches this package"
        raise Unavailable(message)
    (folder / "pom.xml").write_text(pom, "utf-8")
    repository = folder / "repository"
    try:
        ran = subprocess.run(
            ["mvn", "--quiet", "--batch-mode", f"-Dmaven.repo.local={repository}", *arguments],
            cwd=folder,
            env={**os.environ, "MAVEN_OPTS": f"{os.environ.get('MAVEN_OPTS', '')} {_SHORT_LIVED}"},
            capture_output=True,
            text=True,
            timeout=FETCH_S_MAX,
            check=False,
        )
    finally:
        shutil.rmtree(repository, ignore_errors=True)
    if ran.returncode:
        message = f"mvn failed:\n{ran.stdout[-2_000:]}{ran.stderr[-2_000:]}"
        raise Unavailable(message)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into ``unpacked`` of a folder, and remove it."""
    with tarfile.open(archive) as file:
        file.extractall(folder / "unpacked", filter="data")
    archive.unlink()
