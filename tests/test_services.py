"""Servers for tests are started, found again, ended and fetched as scripts/services says: shown on a small one."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.libraries import library, missing
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.services import locks, replies
from tests.support.services import server as server_module
from tests.support.services import sockets as sockets_module
from tests.support.services.debian import DebianPackage
from tests.support.services.faults import ServiceFault, Unavailable
from tests.support.services.java import find_java
from tests.support.services.locks import Artifact, sha256_of
from tests.support.services.maven import MavenPackage, file_name, project
from tests.support.services.processes import Process, end, family, process_of
from tests.support.services.replies import Ill, NotReady, connected
from tests.support.services.server import Server
from tests.support.services.sockets import foreign_sockets
from tests.support.services.system import Package, Site
from tests.support.services.systems import SYSTEMS
from tests.support.services.torchserve import require_importable

ECHO = """\
    import pathlib, signal, socket, subprocess, sys
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
        pathlib.Path("starts").open("a").write("x")
        while True:
            with listening.accept()[0] as connection:
                connection.sendall(b"+ready")
    """
STUBBORN = """\
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("started", flush=True)
    time.sleep(600)
    """


@dataclass(frozen=True)
class Folder:
    """A package that is there."""

    name: str = "echo"
    version: str = "1"
    folder: Path = Path("/")

    def find(self):
        return self.folder

    def fetch(self):
        return self.folder

    def lock(self):
        return 0


@dataclass(frozen=True)
class Echo:
    """A system that answers each connection with a word."""

    program: str = ECHO
    name: str = "echo"
    package: Package = Folder()
    port_names: Sequence[str] = ("client",)
    stop_signal: signal.Signals = signal.SIGTERM

    def prepare(self, site: Site):
        site.write("prepared", "")

    def command(self, site: Site):
        return [sys.executable, "-c", textwrap.dedent(self.program), str(site.ports["client"])]

    def ask(self, site: Site):
        with connected(site, "client") as line:
            if line.read(6) != b"+ready":
                raise NotReady("another word")


@contextmanager
def child(program):
    """A process that runs a program, for as long as it is needed."""
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def closing_soon(held, seconds=0.5):
    """A socket that is closed while something waits for its port."""
    timer = threading.Timer(seconds, held.close)
    timer.start()
    try:
        yield
    finally:
        timer.join(PATIENCE_S)


@pytest.fixture
def server(tmp_path):
    """A server that is not started, and ended at last."""
    made = Server(Echo(), tmp_path / "echo")
    yield made
    made.down()


def running(server):
    process = server.status().process
    assert process is not None
    return process


def test_a_server_that_runs_is_not_started_again(server):
    """Neither by who started it nor by another process; ended it is stopped, and to end it again does nothing."""
    assert server.status().state == "stopped"
    assert not server.down()
    server.up()
    process = running(server)
    server.up()
    another = Server(Echo(), server.folder)
    another.up()
    assert running(another) == process
    assert (server.folder / "starts").read_text() == "x"
    assert another.down()
    assert not process.is_alive()
    assert server.status().state == "stopped"
    assert not server.down()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_pid_that_is_anothers_by_now_is_left_alone(server, is_known):
    """What a crash leaves behind names nobody: neither a process that has ended nor one that has its pid today."""
    server.up()
    process = running(server)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not process.is_alive())
    assert server.status().state == "ended by itself"
    with child("import time; time.sleep(600)") as other:
        if is_known:
            (server.folder / "pid").write_text(f"{other.pid} {process.started}\n", "ascii")
        assert server.status().state == "ended by itself"
        assert not server.down()
        assert other.poll() is None
    server.up()
    assert running(server) != process


def test_a_server_that_was_killed_is_found_at_the_same_address(server, monkeypatch):
    """Its clients connect again; where its port was taken meanwhile it has another one."""
    server.up()
    address = server.address
    server.kill()
    other_pid = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: other_pid)
    server.up()
    assert server.address == address
    server.down()
    host, _, port = address.partition(":")
    held = socket.create_server((host, int(port)))
    with closing_soon(held):
        server.up()
    assert server.address == address
    server.down()
    monkeypatch.setattr(server_module, "PORT_S_MAX", 0.2)
    with socket.create_server((host, int(port))):
        server.up()
        assert server.address != address


SILENT = """\
    import socket, sys, time
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        time.sleep(600)
    """
DOUBLE = """\
    import socket, sys
    first = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    second = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    """


def test_a_port_that_is_taken_between_the_look_and_the_start_ends_no_test(server, monkeypatch):
    """The server starts again, at last on another port; where that does not help either, the holder is named."""
    monkeypatch.setattr(replies, "ASK_S_MAX", 0.2)
    free = server_module._is_free
    with child(SILENT) as holder:
        port = int(holder.stdout.readline())
        monkeypatch.setattr(server_module, "_is_free", lambda host, each: each == port or free(host, each))
        server.folder.mkdir()
        (server.folder / "ports.json").write_text(f'{{"client": {port}}}')
        server.up()
        wait_until(lambda: server.status().state == "ready")
        assert server.ports["client"] != port
        server.down()
        (server.folder / "ports.json").write_text(f'{{"client": {port}}}')
        monkeypatch.setattr(server_module, "STARTS_MAX", 2)
        monkeypatch.setattr(server_module, "fresh_ports", lambda *_: {"client": port})
        with pytest.raises(
            ServiceFault, match=rf"(?s)port {port} listens .*, held by process {holder.pid}: .*create_server"
        ):
            server.up()


def test_a_socket_that_a_server_closes_meanwhile_is_nobodys(monkeypatch):
    """As its end does between the looks at the table of sockets and at what the server has open."""
    here = process_of(os.getpid())
    assert here is not None
    with socket.create_server(("127.0.0.1", 0)) as listening, child(SILENT) as other:
        ports = [listening.getsockname()[1], int(other.stdout.readline())]
        assert [each.port for each in foreign_sockets(here, ports[:1])] == []

        def closing(_):
            listening.close()
            return [here]

        monkeypatch.setattr(sockets_module, "family", closing)
        assert [each.port for each in foreign_sockets(here, ports)] == ports[1:]


def test_a_server_that_takes_its_own_port_twice_ends_after_some_starts(server):
    """Nobody else is named."""
    broken = replace(server, system=Echo(DOUBLE))
    with pytest.raises(ServiceFault, match=r"(?s)^echo ended by itself; the end of .*Address already in use"):
        broken.up()
    assert broken.status().state == "stopped"


def test_the_port_of_a_server_that_is_down_is_not_given_to_another(server, tmp_path):
    """One of a folder beside it, which is started for the first time: both are found where they were."""
    server.up()
    address = server.address
    server.down()
    other = Server(Echo(), tmp_path / "other")
    other.up()
    assert other.address != address
    server.up()
    assert server.address == address
    other.down()


def test_ports_that_a_server_had_are_none_of_its_others(tmp_path):
    """What keeps one of them in its data, as Pulsar's bookie does, would take it from itself."""
    moved = Server(replace(Echo(), port_names=("client", "second")), tmp_path / "echo")
    moved.up()
    before = moved.ports
    moved.down()
    with socket.create_server((moved.host, before["client"])):
        moved._start(is_moved=True)
    assert not {*before.values()} & {*moved.ports.values()}
    moved.down()


def test_a_frozen_server_answers_when_it_is_thawed(server, monkeypatch):
    """By whom it is started for the next test too, and it is ended like any other."""
    monkeypatch.setattr(replies, "ASK_S_MAX", 0.2)
    server.up()
    process = running(server)
    server.freeze()
    assert server.status().state == "does not answer"
    server.thaw()
    wait_until(lambda: server.status().state == "ready")
    server.freeze()
    server.up()
    assert running(server) == process
    server.freeze()
    monkeypatch.setattr(server_module, "STOP_S_MAX", PATIENCE_S)
    assert server.down()


def test_a_server_that_answers_no_more_is_started_again(server, monkeypatch):
    """For the next test that asks for it, where it was before; one that needs a moment is left alone."""
    server.up()
    process, ports = running(server), server.ports
    answers = iter([NotReady("no bookie"), None])
    monkeypatch.setattr(Server, "_ask", lambda _: next(answers, None))
    server.up()
    assert running(server) == process
    monkeypatch.setattr(server_module, "ILL_S_MAX", 0.5)
    monkeypatch.setattr(Server, "_ask", lambda own: NotReady("no bookie") if own._process() == process else None)
    server.up()
    second = running(server)
    assert second != process
    assert not process.is_alive()
    monkeypatch.setattr(Server, "_ask", lambda own: Ill("no bookie") if own._process() == second else None)
    server.up()
    assert running(server) not in (process, second)
    assert server.ports == ports


def test_a_server_that_starts_ill_is_started_again_some_times(server, monkeypatch):
    """Not for ever, and the last time on other ports."""
    monkeypatch.setattr(Server, "_ask", lambda _: Ill("no bookie"))
    with pytest.raises(ServiceFault, match="no bookie"):
        server.up()
    assert server.status().process is None
    asked = iter([Ill("no bookie"), NotReady("a moment"), None])
    monkeypatch.setattr(Server, "_ask", lambda _: next(asked, None))
    server.up()
    assert server.status().state == "ready"


def test_a_server_that_ends_at_its_start_says_why(server):
    """By the end of its log."""
    broken = replace(server, system=Echo("import sys; sys.exit('no room for the log')"))
    with pytest.raises(ServiceFault, match=r"(?s)echo ended by itself; the end of .*/log:\nno room for the log$"):
        broken.up()
    assert broken.status().state == "stopped"


def test_what_does_not_end_in_time_is_killed_with_what_it_started():
    """A server that goes on behind its signal, and a child of it."""
    with child(STUBBORN) as stubborn:
        assert stubborn.stdout.readline() == b"started\n"
        root = process_of(stubborn.pid)
        assert root is not None
        members = family(root)
        assert len(members) == 2
        assert root.memory_bytes() > Process(members[1].pid, members[1].started).memory_bytes() > 0
        assert not end(root, signal.SIGTERM, 0.2)
        assert [each.is_alive() for each in members] == [False, False]


def test_a_tied_server_ends_with_its_test_run(tmp_path):
    """However that ends."""
    program = f"""\
    import pathlib, time
    from tests.support.services.server import Server
    from tests.test_services import Echo
    Server(Echo(), pathlib.Path({str(tmp_path / "echo")!r}), is_tied=True).up()
    print("up", flush=True)
    time.sleep(600)
    """
    with child(program) as run:
        assert run.stdout.readline() == b"up\n"
        process = running(Server(Echo(), tmp_path / "echo"))
    wait_until(lambda: not process.is_alive())


@pytest.fixture
def mvn(tmp_path, monkeypatch):
    """Packages in a folder of the test's, and a Maven that copies a jar with a text in it."""
    monkeypatch.setenv("MIDSTREAM_SERVICES", str(tmp_path / "cache"))
    monkeypatch.setattr(locks, "LOCKS", tmp_path / "locks")
    (tmp_path / "locks").mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "mvn").write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import pathlib, sys
        pathlib.Path({str(tmp_path / "calls")!r}).open("a").write("x")
        options = dict(each.removeprefix("-D").split("=") for each in sys.argv if each.startswith("-D"))
        folder = pathlib.Path(options["outputDirectory"])
        folder.mkdir()
        (folder / "org.a.b-1.0.jar").write_text("served")
        """)
    )
    (programs / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_a_package_is_fetched_once_and_only_with_the_hash_of_its_lock(mvn):
    """Another hash is refused and leaves nothing; a lock that has changed fetches anew."""
    package = MavenPackage("b", ("org.a:b:jar:1.0",))
    (mvn / "served").write_text("served")
    locks.write_lock("b", [Artifact("org.a:b:jar:1.0", "0" * 64)])
    with pytest.raises(Unavailable, match=r"b is not on this machine: scripts/services fetch b brings it"):
        package.find()
    with pytest.raises(Unavailable, match=rf"has the SHA-256 {sha256_of(mvn / 'served')}, but its lock says 0000"):
        package.fetch()
    assert [each.name for each in (mvn / "cache" / "packages").iterdir()] == ["b.lock"]
    locks.write_lock("b", [Artifact("org.a:b:jar:1.0", sha256_of(mvn / "served"))])
    folder = package.fetch()
    assert package.fetch() == package.find() == folder
    assert (folder / "lib" / "org.a.b-1.0.jar").read_text() == "served"
    assert (mvn / "calls").read_text() == "xx"
    locks.path_of("b").write_text("# another\n" + locks.path_of("b").read_text())
    with pytest.raises(Unavailable):
        package.find()
    package.fetch()
    assert (mvn / "calls").read_text() == "xxx"


def test_a_package_of_debian_is_unpacked_on_a_machine_that_is_new(mvn):
    """One that knows no package yet asks for the list of its release first."""
    known = mvn / "known"
    (mvn / "programs" / "apt-get").write_text(
        f"""#!/bin/sh
        if [ "$1" = update ]; then touch {known}; exit; fi
        if [ -e {known} ]; then echo "$3 $4" >all.deb; else echo "no package $3" >&2; exit 100; fi
        """
    )
    (mvn / "programs" / "dpkg-deb").write_text('#!/bin/sh\ncp "$2" "$3/program"\n')
    (mvn / "programs" / "apt-get").chmod(0o755)
    (mvn / "programs" / "dpkg-deb").chmod(0o755)
    package = DebianPackage("pooler", ("pooler", "library"))
    if os.geteuid() != 0:
        with pytest.raises(Unavailable, match="no package pooler"):
            package.fetch()
        known.touch()
    folder = package.fetch()
    assert known.exists()
    assert (folder / "program").read_text() == "pooler library\n"
    assert not list(folder.glob("*.deb"))


def test_maven_chooses_nothing():
    """Each locked artifact is asked for by its whole coordinates, without what it depends on."""
    coordinates = [each.coordinates for each in locks.read_lock("kafka")]
    text = project(coordinates, alone=True)
    assert text.count("<dependency>") == text.count("<exclusions>") == len(coordinates) > 40
    assert "<exclusions>" not in project(["org.a:b:jar:1.0"], alone=False)
    assert "<type>tar.gz</type><classifier>bin</classifier><exclusions>" in project(["a:b:tar.gz:bin:1"], alone=False)
    assert file_name("org.a:b:tar.gz:bin:1.0") == "org.a.b-1.0-bin.tar.gz"


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "pgbouncer"])
def test_a_lock_has_coordinates_and_hashes_alone(name):
    """And the version that the system names."""
    lines = [each for each in locks.path_of(name).read_text().splitlines() if not each.startswith("#")]
    assert lines
    assert not [each for each in lines if not re.fullmatch(r"[\w.:=-]+ --hash=sha256:[0-9a-f]{64}", each)]
    package: Any = SYSTEMS[name].package
    roots = {*package.roots} if isinstance(package, MavenPackage) else {package.root}
    assert roots <= {each.coordinates for each in locks.read_lock(name)}


def test_a_java_of_another_version_is_no_java_for_a_system(tmp_path, monkeypatch):
    """What was found is named."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_text("#!/bin/sh\necho 'openjdk version \"9.0.1\" 2018' >&2\n")
    (tmp_path / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java({9}, "9") == str(tmp_path / "bin" / "java")
    with pytest.raises(Unavailable, match=rf"Java 8 is not installed; found: {tmp_path}/bin/java \(9\)"):
        find_java({8}, "8")


def test_what_a_machine_lacks_skips_at_home_and_fails_in_ci(monkeypatch):
    """By its name."""
    for ci, outcome in (("true", pytest.fail.Exception), ("", pytest.skip.Exception)):
        monkeypatch.setenv("CI", ci)
        for call, text in ((missing, "no such server"), (library, "no_such_library")):
            with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match=text) as found:
                call(text)
            assert found.type is outcome


def test_the_command_refuses_a_name_that_it_does_not_know(tmp_path):
    """And names those that there are."""
    command = [sys.executable, "-m", "tests.support.services", "status", "kafka", "oracle"]
    environ = {**os.environ, "MIDSTREAM_SERVICES": str(tmp_path)}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert ran.returncode == 2
    assert "unknown: oracle; there are kafka, pulsar, cassandra, redis, valkey, postgresql, pgbouncer" in ran.stderr
    ran = subprocess.run(command[:-1], capture_output=True, text=True, check=True, env=environ)
    assert re.fullmatch(r"kafka: stopped \(\d\.\d s\)\n", ran.stdout)


def test_a_worker_of_torchserve_that_cannot_import_fails_at_once():
    """With the error's words; one that ended for another reason starts again."""
    line = "[WARN ] W-9000-ranker_1.0-stderr MODEL_LOG - "
    require_importable(f"{line}Traceback (most recent call last):\nWorker disconnected. WORKER_MODEL_LOADED")
    with pytest.raises(ServiceFault, match=r"cannot start: ImportError: libcudart\.so\.13: cannot open"):
        require_importable(f"{line}Traceback\n{line}ImportError: libcudart.so.13: cannot open shared object file\n")
