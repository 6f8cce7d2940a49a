"""Proxies with TLS before a server of a test: nginx and Caddy of Debian with the files of ``deploy/proxy``."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.libraries import missing
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.services.debian import CADDY, NGINX, DebianPackage
from tests.support.services.faults import Unavailable

FILES = Path(__file__).parents[2] / "deploy" / "proxy"
NAME = "reco.shop.example"
UPSTREAM = "127.0.0.1:8765"
_PROGRAMS = {"nginx": (NGINX, "usr/sbin/nginx"), "caddy": (CADDY, "usr/bin/caddy")}
_CERTIFICATE = f"/etc/letsencrypt/live/{NAME}"


class _NamedTransport(httpx.HTTPTransport):
    """Connects with an address and asks for a name, as a browser does whose resolver knows the name."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request with the name in the handshake, of which the certificate has to be."""
        request.extensions = {**request.extensions, "sni_hostname": NAME}
        return super().handle_request(request)


@dataclass(frozen=True)
class TlsProxy:
    """One that runs, on this machine alone."""

    port: int
    certificate: Path

    @property
    def host(self) -> str:
        """Its name and port, as a browser sends them."""
        return f"{NAME}:{self.port}"

    def client(self, address: str) -> httpx.Client:
        """Return a client with an address of loopback, which verifies the name and the certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        transport = _NamedTransport(verify=context, local_address=address)
        url = f"https://127.0.0.1:{self.port}"
        return httpx.Client(transport=transport, base_url=url, headers={"host": self.host}, timeout=PATIENCE_S)


def program(kind: str) -> str:
    """Return the path of a proxy; without it a test skips at home, and fails in CI."""
    package, path = _PROGRAMS[kind]
    return shutil.which(kind) or _fetched(package, path)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for the name, which signs itself; return it and its key."""
    openssl = shutil.which("openssl") or missing("openssl is not installed")
    made, key = folder / "fullchain.pem", folder / "privkey.pem"
    words = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    words += ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(made)]
    subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE_S)
    return made, key


def configuration(kind: str, folder: Path, port: int, upstream: str) -> list[str]:
    """Write the configuration of ``deploy`` with a port, a server and a certificate of a test; return the options."""
    made, key = certificate(folder)
    if kind == "caddy":
        text = _replaced(
            (FILES / "Caddyfile").read_text("utf-8"), f"{NAME} {{", f"{NAME}:{port} {{\n\ttls {made} {key}"
        )
        path = folder / "Caddyfile"
        path.write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + _replaced(text, UPSTREAM, upstream))
        return ["--config", str(path), "--adapter", "caddyfile"]
    text = (FILES / "nginx.conf").read_text("utf-8")
    text = _replaced(_replaced(text, UPSTREAM, upstream), "listen 443", f"listen 127.0.0.1:{port}")
    text = _replaced(text, "listen 80;", f"listen unix:{folder}/80;")
    text = text.replace(_CERTIFICATE, str(folder))
    paths = "".join(
        f"{each}_temp_path {folder / each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    path = folder / "nginx.conf"
    head = f"{user}daemon off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
    path.write_text(f"{head}http {{\naccess_log off;\n{paths}{text}}}\n")
    return ["-p", str(folder), "-e", "stderr", "-c", str(path)]


@contextmanager
def tls_proxy(kind: str, folder: Path, upstream: str) -> Generator[TlsProxy]:
    """Run a proxy before a server (``127.0.0.1:PORT``) until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [program(kind), *(["run"] if kind == "caddy" else []), *configuration(kind, folder, port, upstream)]
    said = folder / "said.txt"
    with said.open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, env=environment(folder))
    found = TlsProxy(port, folder / "fullchain.pem")

    def is_ready() -> bool:
        assert process.poll() is None, said.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE_S):
            return True
        return False

    try:
        wait_until(is_ready)
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def environment(folder: Path) -> dict[str, str]:
    """Return variables with which a proxy leaves nothing outside of a folder."""
    return {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


def _replaced(text: str, before: str, after: str) -> str:
    assert text.count(before) == 1, before
    return text.replace(before, after)


def _fetched(package: DebianPackage, path: str) -> str:
    try:
        return str(package.find() / path)
    except Unavailable as fault:
        missing(str(fault))
