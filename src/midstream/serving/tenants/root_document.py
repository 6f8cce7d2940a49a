"""OpenAPI document of the root of a server of several tenants; each tenant has the document of a shop."""

from importlib.metadata import version
from typing import Final

import msgspec

from midstream.core.answers.problems import Problem
from midstream.engine.types import Liveness
from midstream.serving.access.scopes import TENANT_ROUTES
from midstream.serving.openapi.document import Document, json_body, parameter, ref, responses
from midstream.serving.tenants.types import (
    NAME,
    CreatedTenant,
    DeletedTenant,
    ExportedTenant,
    RootHealth,
    SuspendBody,
    TenantList,
    TenantQuota,
    TenantView,
    TenantWish,
)

_TYPES: Final = (
    *(TenantWish, TenantQuota, SuspendBody, TenantList, TenantView, CreatedTenant, ExportedTenant, DeletedTenant),
    *(RootHealth, Liveness, Problem),
)
_REF: Final = "#/components/schemas/{name}"
_ONE: Final = "/v1/tenants/{name}"
_READ: Final = (401, 403, 404, 429)
_CHANGED: Final = (400, 401, 403, 404, 408, 409, 413, 415, 429, 503, 507)
_TEXT: Final[Document] = {"type": "string"}


def root_document() -> Document:
    """Return the document, for the caller to change."""
    schemas: Document = msgspec.json.schema_components(_TYPES, ref_template=_REF)[1]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "midstream, root of several tenants",
            "version": version("midstream"),
            "description": "Manages tenants. The routes of a tenant are below /t/NAME, with a document of their own.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "API key of the root."}},
        },
        "security": [{"key": []}],
    }


def _paths() -> Document:
    confirm = parameter("confirm", _TEXT, "The same name again: all of the tenant is removed for good.")
    return {
        "/v1/tenants": {
            "get": _operation("List tenants", "All tenants by name.", "TenantList"),
            "post": _made(
                _operation("Create a tenant", "The tenant and its first key.", "CreatedTenant", "TenantWish")
            ),
        },
        _ONE: {
            "get": _of_one(_operation("Show a tenant", "The tenant.", "TenantView")),
            "delete": _of_one(
                _operation("Delete a tenant", "Its name is free.", "DeletedTenant", changes=True),
                confirm | {"required": True},
            ),
        },
        f"{_ONE}/quota": {"put": _changing("Set the rates of a tenant", "TenantView", "TenantQuota")},
        f"{_ONE}/suspend": {"post": _changing("Suspend a tenant", "TenantView", "SuspendBody", is_optional=True)},
        f"{_ONE}/resume": {"post": _changing("Resume a tenant", "TenantView")},
        f"{_ONE}/export": {"post": _changing("Export a tenant", "ExportedTenant")},
        "/health/live": {"get": _open("The process runs.", "Liveness")},
        "/health/ready": {"get": _open("All tenants of the start were tried.", "RootHealth", 503)},
        "/metrics": {"get": _metrics()},
    }


def _operation(summary: str, text: str, answer: str, body: str = "", *, changes: bool = False) -> Document:
    failures = _CHANGED if body or changes else _READ
    found: Document = {
        "summary": summary,
        "operationId": summary.lower().replace(" ", "_"),
        "responses": responses(text, ref(answer), *failures),
    }
    return found | ({"requestBody": json_body(ref(body))} if body else {})


def _made(operation: Document) -> Document:
    """Return an operation that answers 201."""
    operation["responses"]["201"] = operation["responses"].pop("200")
    return operation


def _of_one(operation: Document, *further: Document) -> Document:
    schema = {**_TEXT, "pattern": f"^{NAME.pattern}$", "maxLength": 63}
    name = {"name": "name", "in": "path", "required": True, "schema": schema}
    return operation | {"parameters": [name, *further]}


def _changing(summary: str, answer: str, body: str = "", *, is_optional: bool = False) -> Document:
    found = _of_one(_operation(summary, "The tenant as it is then.", answer, body, changes=True))
    if is_optional:
        found["requestBody"]["required"] = False
    return found


def _open(text: str, answer: str, *failures: int) -> Document:
    """Describe a route that needs no key."""
    statuses = {str(each): {"description": "Not so; why."} for each in failures}
    found = {"summary": text, "operationId": answer, "responses": responses(text, ref(answer)) | statuses}
    return found | {"security": []}


def _metrics() -> Document:
    answered = responses("Prometheus text.", _TEXT, *_READ, media="text/plain")
    return {"summary": "Metrics of all tenants", "operationId": "metrics", "responses": answered}


DESCRIBED: Final = frozenset(path for path in TENANT_ROUTES if path.startswith(("/v1", "/health", "/metrics")))
"""Routes for programs; pages are not in the document."""
