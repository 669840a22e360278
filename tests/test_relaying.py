"""Past the store: what is tried again, patience with origins, invalidation, upgrades."""

from __future__ import annotations

import threading

import pytest

from tests.kit import raw
from tests.kit.bench import FRESH, benches
from tests.kit.origin import Close, ReadRaw, Stall, head_only, response


@pytest.fixture
def make():
    with benches() as make:
        yield make


@pytest.fixture
def bench(make):
    return make()


# ---- what is tried again ---------------------------------------------------------------------------------------------


def test_a_request_that_met_a_closed_kept_connection_is_repeated_once_if_it_is_safe(bench):
    bench.origin.otherwise(response(b"x"))
    bench.get("/warm")
    bench.origin.then(Close())
    assert bench.get("/a").body == b"x"
    assert bench.origin.targets() == ["/warm", "/a", "/a"]
    bench.origin.forget()
    bench.origin.then(Close())
    with bench.ask("/b", "Content-Length: 0", method="POST") as connection:
        assert connection.read_response().status == 502
    assert bench.origin.targets() == ["/b"]


def test_a_repeated_request_is_not_repeated_again(bench):
    bench.get("/warm")
    bench.origin.otherwise(Close())
    assert bench.get("/a").status == 502
    assert bench.origin.targets() == ["/warm", "/a", "/a"]


def test_nothing_is_repeated_once_a_byte_of_an_answer_has_come(make):
    bench = make(origins=2)
    for origin in bench.origins:
        origin.otherwise(b"H", Close())
    assert bench.get("/a").status == 502
    for origin in bench.origins:
        origin.otherwise(head_only(status=103, reason="x"), Close())
    assert bench.get("/b").status == 502
    assert sum(len(origin.requests) for origin in bench.origins) == 2


def test_a_single_origin_that_closes_without_an_answer_is_a_bad_gateway_and_not_unavailable(make):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(Close())
    answer = bench.get()
    assert answer.status == 502
    assert "connection_terminated" in answer.get("proxy-status")


def test_any_request_whose_connect_failed_goes_to_another_origin(make):
    bench = make(origins=2, site="eject = { failures = 0 }")
    bench.origins[0].refuse()
    bench.origins[1].otherwise(response(b"second"))
    for _ in range(4):
        with raw.Connection(bench.at) as connection:
            connection.send(raw.request("POST", "/", body=b"data"))
            assert connection.read_response().body == b"second"
    assert {one.body for one in bench.origins[1].requests} == {b"data"}


def test_without_an_origin_that_listens_the_answer_is_502_and_when_all_are_out_503(make):
    bench = make(site="eject = { failures = 2 }")
    bench.origin.refuse()
    assert [bench.get().status for _ in range(3)] == [502, 502, 502]  # the panic rule tries the last one all the same
    assert bench.outcomes() == {"failed": 3}


def test_a_request_that_has_passed_here_before_is_a_loop(bench):
    assert bench.get("/", "Via: 1.1 other, 1.1 tandem-test").status == 508
    assert bench.get("/", "Via: 1.1 tandem-test2").status == 200
    assert bench.origin.targets() == ["/"]


# ---- patience --------------------------------------------------------------------------------------------------------


def test_an_origin_that_does_not_answer_in_time_is_504_and_one_that_stops_a_cut(make):
    bench = make(site='timeouts = { first_byte = "2s", idle = "3s" }')
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate))
    with bench.ask() as connection:
        bench.origin.wait_for(1)
        bench.stack.advance(3)
        assert connection.read_response().status == 504
    bench.origin.otherwise(response(b"hello")[:-1], Stall(until=gate))
    with bench.ask() as connection:
        connection.read_raw_head()
        bench.stack.advance(4)
        assert connection.read_to_end()[0] == b"hell"
    gate.set()


def test_an_exchange_as_a_whole_has_its_bound(make):
    bench = make(site='timeouts = { whole = "2s" }')
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate))
    with bench.ask() as connection:
        bench.origin.wait_for(1)
        bench.stack.advance(3)
        assert connection.read_response().status == 504
    gate.set()


# ---- unsafe methods -------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.4")
@pytest.mark.parametrize("lines", [(), ("Content-Length: 0",)])
def test_an_unsafe_method_invalidates_each_time_however_equal_its_answers(bench, lines):
    bench.origin.otherwise(bench.dated(b"x", FRESH))
    bench.origin.on("/a", bench.dated(b"x", FRESH))
    for _ in range(3):
        bench.get("/a")
        assert bench.stored == 1
        with bench.ask("/a", *lines, method="DELETE") as connection:
            assert connection.read_response().status == 200
        assert bench.stored == 0


@pytest.mark.rfc("9111", "4.4")
def test_an_unsafe_method_that_failed_invalidates_nothing(bench):
    bench.origin.then(response(b"x", FRESH))
    bench.get()
    bench.origin.otherwise(response(b"no", status=403))
    with bench.ask(method="DELETE") as connection:
        connection.read_response()
    assert bench.stored == 1


def test_what_was_asked_for_before_an_invalidation_does_not_come_into_the_store_after_it(bench):
    gate = threading.Event()
    bench.origin.on("/a", Stall(until=gate), response(b"old", FRESH))
    with bench.ask("/a") as early:
        bench.origin.wait_for(1)
        bench.origin.on("/a", response(b"done"))
        with bench.ask("/a", method="DELETE") as connection:
            connection.read_response()
        bench.origin.on("/a", response(b"new", FRESH))
        assert bench.get("/a").body == b"new"
        gate.set()
        assert early.read_response().body == b"old"
    bench.ledger.settle()
    assert bench.get("/a").body == b"new"


def test_what_was_not_expected_to_be_storable_is_not_stored_after_an_invalidation_either(bench):
    bench.origin.otherwise(response(b"mine", "Cache-Control: private"))
    bench.get("/a")
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"old", FRESH))
    with bench.ask("/a") as early:
        bench.origin.wait_for(2)
        bench.origin.otherwise(response(b"new", FRESH))
        with bench.ask("/a", method="DELETE") as connection:
            connection.read_response()
        gate.set()
        assert early.read_response().body == b"old"
    bench.ledger.settle()
    assert [bench.get("/a").body for _ in range(2)] == [b"new", b"new"]
    assert len(bench.origin.requests) == 4


def test_a_field_that_joins_the_key_does_not_save_from_invalidation_what_is_stored_or_on_its_way(make):
    bench = make(site='pass_fields = ["X-Forwarded-Host"]')
    gate = threading.Event()
    bench.origin.otherwise(response(b"old", FRESH))
    bench.get("/a", "X-Forwarded-Host: one")
    bench.origin.otherwise(Stall(until=gate), response(b"old", FRESH))
    with bench.ask("/a", "X-Forwarded-Host: two") as early:
        bench.origin.wait_for(2)
        bench.origin.otherwise(response(b"new", FRESH))
        with bench.ask("/a", method="DELETE") as connection:
            connection.read_response()
        gate.set()
        assert early.read_response().body == b"old"
    bench.ledger.settle()
    assert {bench.get("/a", f"X-Forwarded-Host: {name}").body for name in ("one", "two")} == {b"new"}


def test_a_head_under_way_brings_nothing_back_that_was_purged_meanwhile(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), head_only(FRESH, 'ETag: "x"', "Content-Length: 1"))
    with bench.ask(method="HEAD") as connection:
        bench.origin.wait_for(2)
        bench.stack.call(lambda: bench.stack.store.purge_prefix(b""))
        gate.set()
        assert connection.read_response("HEAD").status == 200
    assert bench.stored == 0


def test_a_validation_under_way_brings_nothing_back_that_was_purged_meanwhile(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), head_only(FRESH, 'ETag: "x"', status=304, reason="x"))
    with bench.ask() as connection:
        bench.origin.wait_for(2)
        bench.stack.call(lambda: bench.stack.store.purge_prefix(b""))
        gate.set()
        assert connection.read_response().body == b"x"
    assert bench.stored == 0


# ---- upgrade ---------------------------------------------------------------------------------------------------------


def test_after_a_101_bytes_travel_both_ways_and_the_end_of_either_side_ends_both(bench):
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    bench.origin.otherwise(switch + b"early", ReadRaw(4, echo=True), Close())
    lines = ("Connection: upgrade", "Upgrade: websocket")
    with bench.ask("/", *lines) as connection:
        assert connection.read_response().status == 101
        connection.send(b"ping")
        assert connection.read_to_end() == (b"earlyping", raw.End.CLEAN)
    bench.ledger.settle()
    assert bench.outcomes() == {"tunnel": 1}
    bench.origin.otherwise(switch, ReadRaw(8), Close())
    with bench.ask("/", *lines) as connection:
        assert connection.read_response().status == 101
        connection.send(b"farewell")
    raw.wait_until(lambda: bytes(bench.origin.links[-1].raw).endswith(b"farewell"))


def test_an_upgrade_that_is_refused_leaves_http_on_both_sides(bench):
    bench.origin.otherwise(response(b"no", status=403))
    with bench.ask("/", "Connection: upgrade", "Upgrade: websocket") as connection:
        assert connection.read_response().status == 403
        connection.send(raw.request())
        assert connection.read_response().status == 403
    assert bench.stack.upstream_counts()[0] == 1


# ---- answers to POST that are for GET (RFC 9110 §9.3.3) --------------------------------------------------------------


@pytest.mark.parametrize("purged", [False, True])
def test_an_answer_to_post_is_kept_for_get_unless_something_was_purged_since(bench, purged):
    gate = threading.Event()
    lines = (FRESH, "Content-Location: /a", f"Date: {bench.stack.date()}")
    bench.origin.otherwise(Stall(until=gate), response(b"posted", *lines))
    with raw.Connection(bench.at) as connection:
        connection.send(raw.request("POST", "/a", body=b"x"))
        bench.origin.wait_for(1)
        if purged:
            bench.stack.call(lambda: bench.stack.pipeline.flights.outdate(b"http://test.example/a"))
        gate.set()
        assert connection.read_response("POST").body == b"posted"
    bench.origin.otherwise(response(b"got"))
    assert bench.get("/a").body == (b"got" if purged else b"posted")
