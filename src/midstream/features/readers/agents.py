"""Device and referrer classes of a request, by a few words in its user agent and the host of its referring address.

The tables are short on purpose: classes that a model can learn from, not names of products. The first matching line
counts; a text without a match is ``other``.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

AgentPart: TypeAlias = Literal["platform", "os", "browser"]
_AGENTS: Mapping[AgentPart, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "platform": (
        (
            "bot",
            ("*bot", "*crawler", "*spider", "slurp*", "headless*", "curl/*", "wget/*", "python-*", "go-http-client"),
        ),
        ("tv", ("smart-tv", "smarttv", "appletv*", "bravia", "googletv", "hbbtv", "roku*", "aft?")),
        ("tablet", ("ipad*", "tablet", "kindle", "silk/*", "playbook")),
        ("mobile", ("iphone*", "ipod", "mobile*", "iemobile", "windows phone", "opera mini", "blackberry*")),
        ("tablet", ("android",)),
        ("desktop", ("windows nt", "macintosh", "x11", "cros", "linux")),
    ),
    "os": (
        ("ios", ("iphone*", "ipad*", "ipod")),
        ("android", ("android",)),
        ("windows", ("windows*",)),
        ("macos", ("macintosh", "mac os x")),
        ("chromeos", ("cros",)),
        ("linux", ("linux", "x11")),
    ),
    "browser": (
        ("edge", ("edg/*", "edge/*", "edga/*", "edgios/*")),
        ("opera", ("opr/*", "opera", "opios/*")),
        ("samsung", ("samsungbrowser/*",)),
        ("firefox", ("firefox/*", "fxios/*")),
        ("chrome", ("chrome/*", "headlesschrome/*", "crios/*", "chromium/*")),
        ("safari", ("safari/*",)),
    ),
}
"""Whole words; ``*`` = letters and digits may stand there, ``?`` = up to five letters (Amazon's televisions, such as
``AFTMM``). So ``CrOS`` is not found in *Microsoft*, nor ``AFT`` in *Minecraft*. An Android that does not say ``mobile``
is a tablet; Chrome says ``safari`` too, so the order matters."""
_NO_BOTS = "cubot"
"""A brand of phones; no word for a program that visits a shop ends like a brand otherwise."""
_HOSTS: Mapping[str, tuple[str, ...]] = {
    "search": (
        *("google", "bing", "yahoo", "duckduckgo", "ecosia", "baidu", "yandex", "qwant", "startpage", "naver"),
        *("search", "seznam", "sogou", "kagi"),
    ),
    "social": (
        *("facebook", "instagram", "twitter", "x", "t", "pinterest", "reddit", "tiktok", "youtube", "linkedin"),
        *("lnkd", "vk", "whatsapp", "telegram", "snapchat", "tumblr", "threads", "mastodon", "bsky", "weibo"),
    ),
}
"""Names in front of the last part of a host: ``google`` of ``www.google.co.uk``."""


def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of any of some words in small letters."""
    ends = {"*": "", "?": "[a-z]{0,5}(?![a-z0-9])"}
    found = [
        ("" if word[0] == "*" else "(?<![a-z0-9])") + re.escape(word.strip("*?")) + ends.get(word[-1], "(?![a-z0-9])")
        for word in words
    ]
    return re.compile("|".join(found))


_PATTERNS: Mapping[AgentPart, tuple[tuple[str, re.Pattern[str]], ...]] = {
    part: tuple((name, _pattern(words)) for name, words in classes) for part, classes in _AGENTS.items()
}
REFERRERS = ("search", "social", "direct", "internal", "other")
_TEXT_MAX = 1_024
"""Characters of a text that are looked at."""


def agent_classes(part: AgentPart) -> tuple[str, ...]:
    """Return the classes of a part, ``other`` the last."""
    return (*dict.fromkeys(name for name, _ in _AGENTS[part]), "other")


def agent_class(text: str, part: AgentPart) -> str:
    """Return the class of a user agent.

    Example:
        >>> agent_class("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Safari/604.1", "os")
        'ios'
    """
    lower = text[:_TEXT_MAX].lower().replace(_NO_BOTS, "")
    return next((name for name, pattern in _PATTERNS[part] if pattern.search(lower)), "other")


def referrer_class(text: str, own_hosts: tuple[str, ...]) -> str:
    """Return the class of a referring address; an empty one is ``direct``, one of the shop's own hosts ``internal``.

    Example:
        >>> referrer_class("https://www.google.co.uk/", ()), referrer_class("", ())
        ('search', 'direct')
    """
    address = text[:_TEXT_MAX].strip()
    if not address:
        return "direct"
    host = _host(address)
    if any(host == own or host.endswith(f".{own}") for own in own_hosts):
        return "internal"
    parts = host.split(".")[:-1]
    # Of a host of ``google.co.uk`` the last part but one is ``co``: its neighbour counts too, where that is short.
    named = parts[-2:] if parts and parts[-1] in {"co", "com", "org", "net"} else parts[-1:]
    return next((name for name, hosts in _HOSTS.items() if any(each in hosts for each in named)), "other")


def _host(address: str) -> str:
    """Return the host of an address in small letters, empty when it has none."""
    try:
        return (urlsplit(address if "//" in address else f"//{address}").hostname or "").rstrip(".")
    except ValueError:
        return ""
