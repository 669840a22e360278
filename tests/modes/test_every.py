"""Each listening address belongs to one mode, which is asked."""

from config.load import accept
from proxy import errors
from proxy.exchange import Client, Route
from proxy.http.message import Fields, RequestHead
from proxy.modes.every import Modes, names_of
from proxy.modes.forward import Forward
from proxy.modes.reverse import Reverse

BOTH = b"""
[[site]]
name = "shop"
hosts = ["shop.test"]
listen = ["127.0.0.1:8080"]
upstream = ["10.0.0.1:8080"]

[forward]
listen = ["127.0.0.1:3128"]
clients = ["127.0.0.1"]
"""


def route(modes, listener, authority=b"shop.test"):
    request = RequestHead(b"GET", b"http", authority, b"/", None, (1, 1), Fields())
    return modes.route(request, Client("127.0.0.1", 1, ("127.0.0.1", 1), b"http", listener))


def test_a_listener_belongs_to_one_mode():
    modes = Modes(accept(BOTH, "test"), {})
    assert [at.port for at in modes.listeners] == [8080, 3128]
    assert [type(modes.mode_of(index)) for index in (0, 1)] == [Reverse, Forward]
    here, there = route(modes, 0), route(modes, 1)
    assert isinstance(here, Route)
    assert here.origin is None
    assert isinstance(there, Route)
    assert there.origin is not None
    assert modes.pool_spec(there.site, there.origin).site == "forward"
    assert route(modes, 0, b"other.test").kind is errors.MISDIRECTED
    assert modes.site_of(b"shop.test", 0).name == "shop"
    assert modes.site_of(b"shop.test", 1).name == "forward"


def test_forward_mode_counts_as_one_more_site():
    config = accept(BOTH, "test")
    assert names_of(config) == ("shop", "forward")
    assert set(Modes(config, {}).sites) == {"shop", "forward"}


def test_the_rules_of_all_modes_are_known_to_purges():
    modes = Modes(accept(BOTH, "test"), {})
    assert {bool(rules.space) for rules in modes.cache_rules()} == {False, True}
