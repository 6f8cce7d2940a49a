"""``/docs``: the OpenAPI document as one HTML page that needs no script and no other server.

FastAPI's own page loads a program from a content network, which a shop behind a firewall does not reach.
"""

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, TypeAlias, cast

Document: TypeAlias = dict[str, Any]
DOCS_PATH = "/docs"
DOCS_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}
"""A link of any page may lead to the docs, so no page may frame them or keep a handle of their window."""
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font:14px ui-monospace,monospace}section{border-top:1px solid #ccc;margin-top:1.5rem}"
    "table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}h2 b{color:#06c}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}"
)


def docs_page(document: Document, pages: Iterable[str] = ()) -> bytes:
    """Return the page for an OpenAPI document, with links to the reference pages of these addresses.

    Links are relative, so that they lead to the same app below the prefix of a mount or of a proxy.
    """
    info: Document = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{_text(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{_text(info['title'])} {_text(info['version'])}</h1><p>{_text(info.get('description', ''))}",
        "<p>The same for programs: <a href=openapi.json>openapi.json</a>",
    ]
    links = [
        f"<a href='{_text(each.lstrip('/'))}'>{_text(each.rpartition('/')[2].removesuffix('.md'))}</a>"
        for each in pages
    ]
    parts.append(f"<p>Reference: {', '.join(links)}")
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            parts.extend(_operation(path, method, operation))
    parts.append("<section><h2>Types</h2>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.extend(_type(name, schema))
    return "".join(parts).encode()


def _operation(path: str, method: str, operation: Document) -> Iterator[str]:
    yield f"<section><h2><b>{method.upper()}</b> <code>{_text(path)}</code></h2>"
    yield f"<p>{_text(operation.get('description') or operation.get('summary', ''))}"
    parameters: list[Document] = operation.get("parameters", [])
    if parameters:
        yield "<h3>Parameters</h3><table>"
        for each in parameters:
            yield _row(f"{each['name']} ({each['in']})", each["schema"], each.get("description", ""))
        yield "</table>"
    content: Document = operation.get("requestBody", {}).get("content", {})
    if content:
        typed = [_kind(each["schema"]) for media, each in content.items() if media == "application/json"]
        others = [f"<code>{_text(media)}</code>" for media in content if media != "application/json"]
        yield f"<h3>Body</h3><p>{', or '.join([*typed, *others])}"
    yield "<h3>Answers</h3><table>"
    for status, response in sorted(operation["responses"].items()):
        yield f"<tr><td><code>{_text(status)}</code><td>{_text(response['description'])}"
        yield "".join(f" {_kind(each['schema'])}" for each in response.get("content", {}).values())
    yield "</table></section>"


def _type(name: str, schema: Document) -> Iterator[str]:
    yield f"<h3 id='{_text(name)}'><code>{_text(name)}</code></h3><p>{_text(schema.get('description', ''))}<table>"
    for field, each in schema.get("properties", {}).items():
        needed = "needed" if field in schema.get("required", ()) else ""
        yield _row(field, each, needed)
    yield "</table>"


def _row(name: str, schema: Document, text: str) -> str:
    return f"<tr><td><code>{_text(name)}</code><td>{_kind(schema)}<td>{_text(text)}"


def _kind(schema: Document) -> str:
    """Return a short description of a schema, with links to the types it names."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return " or ".join(map(_kind, schema[choice]))
    if "enum" in schema:
        return " or ".join(f"<code>{_text(each)}</code>" for each in schema["enum"])
    kind = schema.get("type", "any JSON")
    named = " or ".join(cast("list[str]", kind)) if isinstance(kind, list) else str(kind)
    if "items" in schema:
        named = f"list of {_kind(schema['items'])}"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    return named + (f" ({', '.join(bounds)})" if bounds else "")


_BOUNDS = {
    "minimum": "from",
    "maximum": "to",
    "minLength": "characters from",
    "maxLength": "characters to",
    "minItems": "entries from",
    "maxItems": "entries to",
}


def _text(value: object) -> str:
    return escape(str(value), quote=True)
