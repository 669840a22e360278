"""A pair with preempt, whose peer link has a cable of its own: the preferred node comes back, and nobody notices."""

import time

import pytest

from tests.kit import pair as kit
from tests.kit.netns import make_lab, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with make_lab() as lab:
        lab.link_nodes()
        text = kit.with_link_cable(kit.config(interval="300ms", ha="preempt = true"))
        yield kit.Pair(lab, tmp_path_factory.mktemp("pair"), text)


@pytest.fixture
def visitor(pair):
    """Comes anew for each answer, which takes the origin 10 ms; who has to try to connect again is a failure."""
    pair.settle("a")
    one = kit.Client(pair.lab, path="/slow/live", patience=0.9)
    one.wait_for_answers()
    yield one
    one.close()


def moves(pair):
    return sum(node.ask("status")["routers"][0]["transitions"] for node in pair.nodes.values())


def test_a_cut_cable_is_told_over_the_other_path_and_its_return_costs_no_request(pair, visitor):
    at = time.monotonic()
    pair.lab.cut("a")
    pair.b.wait_for("active", 5)
    visitor.wait_for_answers()
    assert visitor.outage(at) < 700, "less than the silence of three intervals"
    back, before = time.monotonic(), moves(pair)
    pair.lab.restore("a")
    pair.a.wait_for("active")
    visitor.wait_for_answers()
    wait_until(lambda: pair.holders() == ["a"])
    assert not visitor.failed(back), f"{visitor.story(back)}\n{pair.said()}"
    assert moves(pair) == before + 3, "initialize to backup, and one change of places"


def test_a_preferred_node_that_boots_before_its_origin_takes_the_address_when_it_can_serve(pair, visitor):
    assert pair.a.stop() == 0
    pair.b.wait_for("active")
    kit.block_origin(pair.lab["a"])
    at = time.monotonic()
    pair.a.start()
    try:
        pair.a.wait_for("backup")
        wait_until(lambda: pair.a.ask("status")["origins"] == {"shop": "bad"}, 20)
        time.sleep(0.5)
        assert pair.holders() == ["b"]
    finally:
        kit.unblock_origin(pair.lab["a"])
    pair.a.wait_for("active")
    visitor.wait_for_answers()
    assert not visitor.failed(at), f"{visitor.story(at)}\n{pair.said()}"
