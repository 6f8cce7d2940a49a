"""Constraints of scorers on model servers: what fits the protocol, and columns that the placement has."""

import re
from collections.abc import Collection, Iterator

import numpy as np

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.engine.stores.address import is_environment_name
from midstream.integrations.model_servers.remote_scorer import RemoteScorer, is_json
from midstream.integrations.model_servers.urls import ServerUrl, url_of

PAGE = "/docs/model-servers.md"
MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}|")
FLOAT32_MAX = float(np.finfo(np.float32).max)
NUMBER = re.compile(r"[0-9]{1,18}|")
_RIGHT = {
    "oip": 'An address such as "http://triton:8000" or "grpc://triton:8001"; https and grpcs with TLS.',
    "tensorflow_serving": 'An address such as "http://serving:8501" or "grpc://serving:8500"; with TLS https, grpcs.',
    "torchserve": 'An address such as "http://torchserve:8080"; https with TLS.',
}
_OF_PROTOCOL = {
    "encoding": ("oip",),
    "signature": ("tensorflow_serving",),
    "management_url": ("torchserve",),
    "management_token_env": ("torchserve",),
    "layout": ("oip", "tensorflow_serving"),
    "input": ("oip", "tensorflow_serving"),
    "output": ("oip", "tensorflow_serving"),
}
"""Settings that only some protocols read."""


def remote_faults(scorer: RemoteScorer, columns: Collection[str], where: str) -> Iterator[Fault]:
    """Yield what is wrong with a scorer.

    Args:
        scorer: The scorer.
        columns: All that the placement has: of its features, of its sources.
        where: Points at it.
    """
    url = None
    try:
        url = url_of(scorer.url)
    except ValueError as error:
        yield Fault(f"{where}.url", str(error), _RIGHT[scorer.protocol], PAGE)
    yield from _place_faults(scorer, url, where)
    for name, protocols in _OF_PROTOCOL.items():
        if scorer.protocol not in protocols and getattr(scorer, name) != _default(name):
            came = f'protocol = "{scorer.protocol}" does not read it.'
            yield Fault(f"{where}.{name}", came, "Leave it out.", PAGE)
    yield from _name_faults(scorer, where)
    if url is not None and scorer.missing is None and is_json(scorer):
        came = "It is not set, rows go as JSON, and JSON has no NaN."
        right = "The number that the model takes for a missing value: missing = 0.0."
        yield Fault(f"{where}.missing", came, right, PAGE)
    if scorer.missing is not None and not abs(scorer.missing) <= FLOAT32_MAX:
        right = "A finite number of at most 3.4e38, or none: NaN is sent without it."
        yield Fault(f"{where}.missing", f"{scorer.missing} came.", right, PAGE)
    yield from _column_faults(scorer, columns, where)


def _default(name: str) -> object:
    return getattr(RemoteScorer(protocol="oip", url="", model=""), name)


def _place_faults(scorer: RemoteScorer, url: ServerUrl | None, where: str) -> Iterator[Fault]:
    """Yield what is wrong with addresses, tokens and the authority."""
    if url is not None and url.is_grpc and scorer.protocol == "torchserve":
        yield Fault(f"{where}.url", f'An address of the scheme "{url.scheme}" came.', _RIGHT["torchserve"], PAGE)
    if url is not None and url.is_grpc and scorer.encoding != "binary":
        yield Fault(f"{where}.encoding", '"json" came with gRPC.', 'An address of http, or encoding = "binary".', PAGE)
    if scorer.management_url:
        try:
            is_wrong = url_of(scorer.management_url).is_grpc
            came = "An address of gRPC came."
        except ValueError as error:
            is_wrong, came = True, str(error)
        if is_wrong:
            yield Fault(f"{where}.management_url", came, 'An address such as "http://torchserve:8081".', PAGE)
    for name in ("token_env", "management_token_env"):
        told = getattr(scorer, name)
        if told and not is_environment_name(told):
            came = "It is no name of a variable of the environment."  # and may be the token itself
            yield Fault(f"{where}.{name}", came, 'The name of one: "SHOP_TRITON_TOKEN".', PAGE)
    if scorer.tls_ca and url is not None and not (url.is_secure or scorer.management_url.startswith("https:")):
        came = f'"{scorer.tls_ca[:80]}" came, and the address has no TLS.'
        yield Fault(f"{where}.tls_ca", came, "An address of https or grpcs.", PAGE)


def _name_faults(scorer: RemoteScorer, where: str) -> Iterator[Fault]:
    """Yield names that do not belong into addresses."""
    right = "As the server has it: letters, digits, _, - and ., not at the beginning the last two."
    if not MODEL.fullmatch(scorer.model):
        yield Fault(f"{where}.model", f'"{scorer.model[:80]}" came.', right, PAGE)
    form = NUMBER if scorer.protocol == "tensorflow_serving" else VERSION
    if not form.fullmatch(scorer.version):
        right = 'A whole number as text: "3".' if form is NUMBER else right
        yield Fault(f"{where}.version", f'"{scorer.version[:80]}" came.', right, PAGE)


def _column_faults(scorer: RemoteScorer, columns: Collection[str], where: str) -> Iterator[Fault]:
    """Yield columns that the placement does not have, or that come twice."""
    for place, name in enumerate(scorer.columns):
        at = f"{where}.columns[{place}]"
        if name in scorer.columns[:place]:
            yield Fault(at, f'"{name}" is there already.', "Each column once.", PAGE)
        elif name not in columns:
            came = f'"{name}" is no column of the placement.{nearest(name, columns)}'
            yield Fault(at, came, f"Columns of its features and sources: {', '.join(sorted(columns)) or 'none'}.", PAGE)
    if not scorer.columns and not any(not each.startswith(("score.", "rank.")) for each in columns):
        came = "The placement reads no features, so there is nothing to send."
        yield Fault(f"{where}.columns", came, 'features = ["..."] of the placement: what the model ranks by.', PAGE)
