"""Answers in place of a tenant that does not serve: a page to who looks at its console, the problem to all others.

The page is one of the root, with the style of the root: nothing of the tenant is open, and what it says is what the
problem says. Status and ``Retry-After`` are those of the problem.
"""

from functools import cache

from midstream.core.errors import MidstreamError
from midstream.serving.access.console_session import asks_for_page
from midstream.serving.console.assets_list import CONSOLE_HEADERS
from midstream.serving.console.page_templates import Templates
from midstream.serving.http.problems import problem_of, problem_reply
from midstream.serving.http.responses import Reply, Scope

_HTML = b"text/html; charset=utf-8"


def refused_reply(scope: Scope, error: MidstreamError) -> Reply:
    """Return the answer to a request that no tenant takes.

    Args:
        scope: Of the request, with the path below that of the tenant.
        error: Why none does.
    """
    reply = problem_reply(error)
    if not asks_for_page(scope):
        return reply
    text = _templates().render("refused.html", "", {"problem": problem_of(error)})
    kept = [each for each in reply.headers if each[0] == b"retry-after"]
    headers = (*kept, *((name.encode(), value.encode()) for name, value in CONSOLE_HEADERS.items()))
    return Reply(reply.status, text.encode(), _HTML, headers)


@cache
def _templates() -> Templates:
    return Templates(())
