"""Classes of devices by User-Agent."""

import pytest

from proxy.policy.device import device_class

AGENTS = {
    b"desktop": (
        b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
        b"curl/8.5.0",
        b"",
    ),
    b"mobile": (
        b"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148",
        b"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari",
    ),
    b"tablet": (
        b"Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 Version/12.1 Mobile/15E148",
        b"Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    ),
    b"bot": (
        b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        b"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) Mobile Safari (compatible; Googlebot/2.1)",
        b"facebookexternalhit/1.1",
    ),
}


@pytest.mark.parametrize(("kind", "agent"), [(kind, agent) for kind, agents in AGENTS.items() for agent in agents])
def test_agents_are_told_apart(kind, agent):
    assert device_class(agent) == kind


def test_who_names_no_agent_is_a_desktop_and_long_names_are_cut():
    assert device_class(None) == b"desktop"
    assert device_class(b"x" * 100_000 + b"iphone") == b"desktop"
