"""Classes of user agents and referring addresses: of real ones, and of anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.features.readers.agents import REFERRERS, agent_class, agent_classes, referrer_class

APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
GOOGLE = "AppleWebKit/537.36 (KHTML, like Gecko)"
AGENTS = (
    (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {GOOGLE} Chrome/124.0.0.0 Safari/537.36", "desktop windows chrome"),
    (f"Mozilla/5.0 (Windows NT 10.0) {GOOGLE} Chrome/124.0.0.0 Safari/537.36 Edg/124.0", "desktop windows edge"),
    ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0", "desktop linux firefox"),
    (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Version/17.4 Safari/605.1.15", "desktop macos safari"),
    (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {GOOGLE} Chrome/124.0 Safari/537.36", "desktop chromeos chrome"),
    (f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) {APPLE} Mobile/15E148 Safari/604.1", "mobile ios safari"),
    (f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4) {APPLE} CriOS/124.0 Mobile/15E148 Safari/604.1", "mobile ios chrome"),
    (
        f"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) {APPLE} Version/16.6 Mobile/15E148 Safari/604.1",
        "tablet ios safari",
    ),
    (f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {GOOGLE} Chrome/124.0 Mobile Safari/537.36", "mobile android chrome"),
    (f"Mozilla/5.0 (Linux; Android 13; SM-X900) {GOOGLE} Chrome/124.0 Safari/537.36", "tablet android chrome"),
    (f"Mozilla/5.0 (Linux; Android 14) {GOOGLE} SamsungBrowser/24.0 Mobile Safari/537.36", "mobile android samsung"),
    (f"Mozilla/5.0 (Windows NT 10.0) {GOOGLE} Chrome/123.0 Safari/537.36 OPR/109.0", "desktop windows opera"),
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot other other"),
    ("curl/8.5.0", "bot other other"),
    ("shop-app", "other other other"),
    (f"Mozilla/5.0 (Linux; Android 10; CUBOT_X30) {GOOGLE} Chrome/96.0 Mobile Safari/537.36", "mobile android chrome"),
    (
        f"Mozilla/5.0 (Linux; Android 9; CUBOT NOTE 7) {GOOGLE} Chrome/96.0 Mobile Safari/537.36",
        "mobile android chrome",
    ),
    ("Microsoft Office/16.0 (Microsoft Outlook 16.0.17328; Pro)", "other other other"),
    ("Microsoft-CryptoAPI/10.0", "other other other"),
    ("Mozilla/5.0 (Windows Phone 10.0; Android 6.0.1; Microsoft; Lumia 950) Edge/15.15063", "mobile android edge"),
    ("Minecraft/1.20 (draft)", "other other other"),
    ("automobile-shop/2.0", "other other other"),
    (f"Mozilla/5.0 (Linux; Android 9; AFTMM) {GOOGLE} Silk/112.5 like Chrome/112.0 Safari/537.36", "tv android chrome"),
    (
        f"Mozilla/5.0 (Linux; Android 7.1.2; AFTS Build/NS62) {GOOGLE} Chrome/112.0 Mobile Safari/537.36",
        "tv android chrome",
    ),
    ("Roku4640X/DVP-7.70 (297.70E04154A)", "tv other other"),
    ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "bot other other"),
    ("Mozilla/5.0 AppleWebKit/537.36 (compatible; GPTBot/1.2; +https://openai.com/gptbot)", "bot other other"),
    ("AdsBot-Google (+http://www.google.com/adsbot.html)", "bot other other"),
    ("Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)", "bot other other"),
    ("Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)", "bot other other"),
    (f"Mozilla/5.0 (X11; Linux x86_64) {GOOGLE} HeadlessChrome/124.0 Safari/537.36", "bot linux chrome"),
    ("python-requests/2.31.0", "bot other other"),
    ("Go-http-client/2.0", "bot other other"),
    ("Opera/9.80 (J2ME/MIDP; Opera Mini/7.1; U; en) Presto/2.8 Version/11.10", "mobile other opera"),
    ("Mozilla/5.0 (iPhone14,3; U; CPU iPhone OS 15_0 like Mac OS X) Mobile/19A346 Safari/602.1", "mobile ios safari"),
)
ADDRESSES = (
    ("", "direct"),
    ("  ", "direct"),
    ("https://www.google.com/", "search"),
    ("https://google.co.uk/search?q=lamp", "search"),
    ("https://search.yahoo.com/x", "search"),
    ("https://duckduckgo.com", "search"),
    ("https://l.facebook.com/l.php?u=x", "social"),
    ("https://t.co/abc", "social"),
    ("android-app://com.reddit.frontpage", "social"),
    ("https://shop.example/lamps", "internal"),
    ("https://www.shop.example:8443/", "internal"),
    ("https://notshop.example/", "other"),
    ("shop.example/lamps", "internal"),
    ("https://blog.example.org/best-lamps", "other"),
    ("https://[broken", "other"),
    ("mailto:me", "other"),
)


@pytest.mark.parametrize("text,classes", AGENTS)
def test_user_agents(text, classes):
    """Platform, system and browser of each."""
    assert [agent_class(text, part) for part in ("platform", "os", "browser")] == classes.split()


@pytest.mark.parametrize("text,expected", ADDRESSES)
def test_addresses(text, expected):
    """Of a shop whose host is ``shop.example``."""
    assert referrer_class(text, ("shop.example",)) == expected


@given(st.text(max_size=40))
def test_anything_has_a_class(text):
    """One of the list, whatever was sent."""
    assert referrer_class(text, ("shop.example",)) in REFERRERS
    for part in ("platform", "os", "browser"):
        assert agent_class(text, part) in agent_classes(part)
