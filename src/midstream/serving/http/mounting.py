"""Mounting: the scope of a request as an app has it that stands below a path of another application."""

from midstream.serving.http.responses import MOUNTED_AT, Scope


def below(scope: Scope, segments: int) -> Scope:
    """Return a scope as the engine's app would have it without the first ``segments`` steps of the path."""
    if not segments:
        return {**scope, "root_path": ""}
    path: str = scope["path"]
    parts = path.split("/")
    found = {
        **scope,
        "root_path": "",
        "path": "/" + "/".join(parts[segments + 1 :]),
        MOUNTED_AT: "/".join(parts[: segments + 1]),
    }
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        found["raw_path"] = b"/" + b"/".join(raw.partition(b"?")[0].split(b"/")[segments + 1 :])
    return found
