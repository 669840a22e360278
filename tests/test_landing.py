"""What a shared fetch brings, and to whom: waiters, late readers, validations, refreshes, stale answers."""

from __future__ import annotations

import threading

import pytest

from tests.kit import raw
from tests.kit.bench import FRESH, benches
from tests.kit.origin import Close, Stall, chunked, head_only, response


@pytest.fixture
def make():
    with benches() as make:
        yield make


@pytest.fixture
def bench(make):
    return make()


# ---- one fetch for all who ask ---------------------------------------------------------------------------------------


def test_many_who_ask_for_the_same_wait_for_one_fetch(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"hello", FRESH))
    connections = [bench.ask() for _ in range(20)]
    bench.wait_for_waiters(20)
    gate.set()
    answers = [connection.read_response() for connection in connections]
    assert {answer.body for answer in answers} == {b"hello"}
    assert sum("collapsed" in answer.get("cache-status") for answer in answers) == 19
    assert len(bench.origin.requests) == 1
    for connection in connections:
        connection.close()


def test_who_comes_late_reads_what_has_arrived_and_then_the_rest(bench):
    gate = threading.Event()
    whole = response(b"hello" * 10, FRESH)
    bench.origin.otherwise(whole[:-10], Stall(until=gate), whole[-10:])
    with bench.ask() as first:
        first.read_raw_head()
        first.read_exactly(40)
        with bench.ask() as second:
            second.read_raw_head()
            assert second.read_exactly(40) == b"hello" * 8
            gate.set()
            assert second.read_exactly(10) == b"hello" * 2
    assert len(bench.origin.requests) == 1


def test_a_late_client_sees_the_cut_as_the_first_does(bench):
    gate = threading.Event()
    bench.origin.otherwise(response(b"hello" * 10, FRESH)[:-10], Stall(until=gate), Close())
    with bench.ask() as first, bench.ask() as second:
        first.read_raw_head()
        second.read_raw_head()
        gate.set()
        assert first.read_to_end()[0] == second.read_to_end()[0] == b"hello" * 8
    assert bench.stored == 0


@pytest.mark.rfc("9111", "4.1")
def test_a_waiter_whom_vary_sets_apart_asks_for_itself(bench):
    gate = threading.Event()

    def answer(received):
        body = (received.get("accept-language") or "none").encode()
        return [Stall(until=gate), response(body, FRESH, "Vary: Accept-Language")]

    bench.origin.otherwise(by=answer)
    languages = ["de", "fr", "de", "it"]
    connections = [bench.ask("/", f"Accept-Language: {language}") for language in languages]
    bench.wait_for_waiters(4)
    gate.set()
    assert [connection.read_response().text for connection in connections] == languages
    assert bench.stored == 3
    for connection in connections:
        connection.close()


@pytest.mark.rfc("9111", "3.5")
def test_waiters_never_get_what_was_made_for_somebodys_credentials(bench):
    gate = threading.Event()

    def answer(received):
        return [Stall(until=gate), response((received.get("authorization") or "nobody").encode(), FRESH)]

    bench.origin.otherwise(by=answer)
    with bench.ask("/", "Authorization: Basic YQ==") as first:
        bench.origin.wait_for(1)
        with bench.ask() as second, bench.ask("/", "Authorization: Basic Yg==") as third:
            bench.wait_for_waiters(3)
            gate.set()
            assert first.read_response().text == "Basic YQ=="
            assert second.read_response().text == "nobody"
            assert third.read_response().text in {"Basic Yg==", "nobody"}
    assert bench.get().text == "nobody"


def test_what_proves_unshareable_is_fetched_for_each_at_once(bench):
    gate, second = threading.Event(), threading.Event()
    seen = []

    def answer(received):
        seen.append(received)
        return [Stall(until=gate if len(seen) == 1 else second), response(b"mine", "Cache-Control: private")]

    bench.origin.otherwise(by=answer)
    connections = [bench.ask("/", f"X-N: {n}") for n in range(5)]
    bench.wait_for_waiters(5)
    gate.set()
    bench.origin.wait_for(5)  # all of them, though none of these has been answered
    connections += [bench.ask("/", f"X-N: {n}") for n in range(5, 8)]
    bench.origin.wait_for(8)  # nor does anybody queue from now on
    second.set()
    assert {connection.read_response().body for connection in connections} == {b"mine"}
    for connection in connections:
        connection.close()


def test_a_rule_says_for_how_long_nobody_waits_for_another(make):
    bench = make(rest='[[rule]]\nname = "r"\nhit_for_miss = "10s"')
    bench.origin.otherwise(response(b"mine", "Cache-Control: private"))
    bench.get()
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"mine", "Cache-Control: private"))
    connections = [bench.ask("/", f"X-N: {n}") for n in range(3)]
    bench.origin.wait_for(4)  # at once, each for itself
    bench.stack.advance(11)
    connections += [bench.ask("/", f"X-N: {n}") for n in range(3, 6)]
    bench.wait_for_waiters(3)
    assert len(bench.origin.wait_for(5)) == 5
    gate.set()
    assert {connection.read_response().body for connection in connections} == {b"mine"}
    for connection in connections:
        connection.close()


def test_what_becomes_storable_is_stored_although_it_was_not_before(bench):
    bench.origin.otherwise(response(b"mine", "Cache-Control: private"))
    for _ in range(3):
        bench.get()
    bench.origin.otherwise(chunked([b"ours"], FRESH))
    assert bench.get().body == b"ours"
    assert bench.get().body == b"ours"
    assert len(bench.origin.requests) == 4


@pytest.mark.rfc("9111", "5.2.1.5")
def test_a_client_that_wants_nothing_stored_does_not_spoil_it_for_others(bench):
    bench.origin.otherwise(response(b"x", FRESH))
    bench.get("/", "Cache-Control: no-store")
    assert bench.stored == 0
    assert not bench.stack.call(lambda: bench.stack.pipeline.flights.is_unshareable(b"http://test.example/"))
    bench.get()
    assert bench.stored == 1


def test_reloads_of_many_are_not_served_one_after_another(bench):
    bench.origin.otherwise(bench.dated(b"x", FRESH, 'ETag: "x"'))
    bench.get()
    gate, later = threading.Event(), threading.Event()
    bench.origin.forget()
    seen = []

    def answer(received):
        seen.append(received)
        return [Stall(until=gate if len(seen) == 1 else later), head_only('ETag: "x"', status=304, reason="x")]

    bench.origin.otherwise(by=answer)
    connections = [bench.ask("/", "Cache-Control: no-cache") for _ in range(5)]
    bench.wait_for_waiters(5)
    gate.set()
    bench.origin.wait_for(5)
    later.set()
    assert {connection.read_response().status for connection in connections} == {200}
    for connection in connections:
        connection.close()


def test_a_leader_that_leaves_does_not_end_the_fetch_of_its_waiters(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"hello", FRESH))
    leader = bench.ask()
    bench.origin.wait_for(1)
    with bench.ask() as waiter:
        bench.wait_for_waiters(2)
        leader.abort()
        bench.wait_for_waiters(1)
        gate.set()
        assert waiter.read_response().body == b"hello"
    assert len(bench.origin.requests) == 1


def test_when_all_waiters_leave_the_fetch_is_given_up(bench):
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), response(b"hello", FRESH))
    connections = [bench.ask() for _ in range(3)]
    bench.wait_for_waiters(3)
    for connection in connections:
        connection.abort()
    raw.wait_until(lambda: bench.stack.upstream_counts() == (0, 0))
    gate.set()
    assert bench.stored == 0


def test_a_failing_fetch_fails_for_all_who_wait(make):
    bench = make(site="retry = false")
    gate = threading.Event()
    bench.origin.otherwise(Stall(until=gate), Close())
    connections = [bench.ask() for _ in range(3)]
    bench.wait_for_waiters(3)
    gate.set()
    assert [connection.read_response().status for connection in connections] == [502] * 3
    for connection in connections:
        connection.close()


# ---- validation ------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "4.3")
def test_a_304_makes_the_stored_response_answer_again(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(
        by=lambda _: [head_only('ETag: "x"', f"Date: {bench.stack.date()}", status=304, reason="Not Modified")]
    )
    answer = bench.get()
    assert (answer.status, answer.body) == (200, b"x")
    assert bench.origin.requests[-1].get("if-none-match") == '"x"'
    assert "fwd-status=304" in answer.get("cache-status")
    bench.get()
    assert len(bench.origin.requests) == 2
    assert bench.outcomes() == {"miss": 1, "revalidated": 1, "hit": 1}


def test_a_200_to_a_validation_replaces_what_was_stored(bench):
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5", 'ETag: "old"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(bench.dated(b"new", FRESH, 'ETag: "new"'))
    assert [bench.get().body for _ in range(2)] == [b"new", b"new"]
    assert (len(bench.origin.requests), bench.stored) == (2, 1)


@pytest.mark.rfc("9111", "4.2.4")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("trouble", ["refused", "closed", "500", "503", "cut"])
def test_a_stale_response_stands_in_for_an_origin_in_trouble(make, trouble, method):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    if trouble == "refused":
        bench.leave_alone()
    elif trouble == "closed":
        bench.origin.otherwise(Close())
    elif trouble == "cut":
        bench.origin.otherwise(b"HTTP/1.1 20", Close())
    else:
        bench.origin.otherwise(response(b"trouble" * 10000, status=int(trouble)))
    answer = bench.get(method=method)
    assert (answer.status, answer.get("age"), answer.get("content-length")) == (200, "6", "1")
    assert "ttl=-" in answer.get("cache-status")
    assert bench.outcomes() == {"miss": 1, "stale": 1}


def test_a_part_of_a_stale_response_stands_in_as_well(make):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(bench.dated(b"hello", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(response(b"trouble", status=503))
    answer = bench.get("/", "Range: bytes=1-2")
    assert (answer.status, answer.body) == (206, b"el")


@pytest.mark.rfc("9111", "5.2.2.2")
@pytest.mark.parametrize("lines", [(), ("Range: bytes=0-1",)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "no-cache"])
def test_where_validation_is_owed_nothing_stale_is_given_but_504_or_502(make, directive, method, lines):
    bench = make(site="eject = { failures = 0 }")
    bench.origin.otherwise(bench.dated(b"x", f"Cache-Control: max-age=5, {directive}", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(b"nonsense\r\n\r\n", Close())
    assert bench.get("/", *lines, method=method).status == 502
    bench.leave_alone()
    answer = bench.get("/", *lines, method=method)
    assert (answer.status, answer.get("etag")) == (504, None)


def test_stale_if_error_of_the_origin_bounds_the_time_of_standing_in(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5, stale-if-error=10"))
    bench.get()
    bench.origin.otherwise(response(b"trouble", status=503))
    bench.stack.advance(10)
    assert bench.get().status == 200
    bench.stack.advance(6)
    assert bench.get().status == 503


@pytest.mark.rfc("5861", "3")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_while_stale_all_are_answered_at_once_and_one_refresh_runs(bench, method):
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5, stale-while-revalidate=60", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    gate = threading.Event()
    bench.origin.otherwise(by=lambda _: [Stall(until=gate), bench.dated(b"new", FRESH)])
    wants = ("Cache-Control: stale-if-error=1", "Range: bytes=0-0", "Cookie: a=b") if method == "GET" else ()
    for _ in range(3):
        assert bench.get("/", *wants, method=method).status in {200, 206}
    bench.origin.wait_for(2)
    refresh = bench.origin.requests[1]
    assert (refresh.method, refresh.get("if-none-match")) == (b"GET", '"x"')
    assert (refresh.get("range"), refresh.get("cache-control")) == (None, None)
    gate.set()
    bench.ledger.settle()
    assert bench.get().body == b"new"
    assert len(bench.origin.requests) == 2


def test_a_refresh_that_fails_leaves_what_is_stored(bench):
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5, stale-while-revalidate=60"))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(response(b"trouble", status=503))
    for _ in range(2):
        assert bench.get().body == b"old"
        bench.ledger.settle()


@pytest.mark.parametrize("failing", ["status", "close"])
@pytest.mark.parametrize(("site", "grants"), [("", ", stale-while-revalidate=600"), ('grace = "10min"', "")])
def test_refreshes_that_fail_are_tried_less_and_less_often(make, failing, site, grants):
    rule = f'[[rule]]\nname = "r"\nmatch = {{ path = "/*" }}\n{site}\n' if site else ""
    bench = make(rest=rule)
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5" + grants))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(*([response(b"trouble", status=503)] if failing == "status" else [Close()]))
    for _ in range(60):
        assert bench.get().body == b"old"
        bench.ledger.settle()
        bench.stack.advance(1)
    asked = sum(1 for _ in bench.origin.requests) - 1
    assert asked <= 2 * 10, "after 1, 2, 4, 8 and then each 10 seconds; a close is tried twice"
    assert asked >= 8
    bench.origin.otherwise(bench.dated(b"new", FRESH))
    bench.stack.advance(11)
    bench.get()
    bench.ledger.settle()
    assert bench.get().body == b"new"


def test_renewal_ahead_of_expiry_that_fails_is_tried_less_and_less_often(make):
    bench = make(rest='[[rule]]\nname = "r"\nmatch = { path = "/*" }\nrefresh_ahead = "20s"\n')
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=40"))
    bench.get()
    bench.stack.advance(21)
    bench.origin.otherwise(response(b"trouble", status=503))
    for _ in range(15):
        assert bench.get().get("cache-status").startswith("tandem; hit; ttl=")
        bench.ledger.settle()
        bench.stack.advance(1)
    assert len(bench.origin.requests) == 1 + 4  # at once, and after 1, 3 and 7 seconds


@pytest.mark.rfc("9111", "4.2.4")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_origin_in_trouble_is_not_asked_by_everybody_whom_a_stale_response_can_answer(bench, method):
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(response(b"trouble", status=503))
    for _ in range(60):
        answer = bench.get(method=method)
        assert (answer.status, answer.get("cache-status").rpartition("; ")[2]) == (200, "detail=stale-on-error")
        bench.stack.advance(0.5)
    assert 3 <= len(bench.origin.requests) - 1 <= 8
    bench.origin.otherwise(bench.dated(b"new", FRESH))
    assert bench.get("/", "Cache-Control: no-cache").body == b"new", "who insists is not held up"
    assert bench.get().body == b"new"


def test_where_stale_is_forbidden_a_failing_origin_is_asked_each_time(bench):
    bench.origin.otherwise(bench.dated(b"old", "Cache-Control: max-age=5, must-revalidate", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(response(b"trouble", status=503))
    assert [bench.get().status for _ in range(5)] == [503] * 5
    assert len(bench.origin.requests) == 6


@pytest.mark.rfc("9111", "5.2.1.7")
def test_only_if_cached_asks_nobody(bench):
    answer = bench.get("/", "Cache-Control: only-if-cached")
    assert (answer.status, bench.origin.requests) == (504, [])
    bench.origin.otherwise(response(b"x", FRESH))
    bench.get()
    assert bench.get("/", "Cache-Control: only-if-cached").body == b"x"


@pytest.mark.rfc("9111", "4.3.5")
def test_a_head_updates_the_stored_get_it_agrees_with_and_outdates_one_it_does_not(bench):
    bench.origin.otherwise(bench.dated(b"x", "Cache-Control: max-age=5", 'ETag: "x"'))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(
        head_only(FRESH, 'ETag: "x"', "X-New: 1", f"Date: {bench.stack.date()}", "Content-Length: 1")
    )
    bench.get(method="HEAD")
    answer = bench.get()
    assert (answer.body, answer.get("x-new"), len(bench.origin.requests)) == (b"x", "1", 2)
    bench.origin.otherwise(head_only(FRESH, 'ETag: "y"', "Content-Length: 1"))
    bench.get("/", "Cache-Control: no-cache", method="HEAD")
    bench.origin.otherwise(response(b"y", FRESH))
    assert bench.get().body == b"y"


def test_a_head_says_nothing_of_variants_it_would_not_have_chosen(bench):
    bench.origin.otherwise(
        by=lambda r: [
            bench.dated((r.get("accept-language") or "").encode(), "Vary: Accept-Language", "Cache-Control: max-age=5")
        ]
    )
    bench.get("/", "Accept-Language: de")
    bench.stack.advance(6)
    bench.origin.otherwise(head_only(FRESH, "Vary: Accept-Language", "Content-Length: 2"))
    bench.get("/", "Accept-Language: fr", method="HEAD")
    bench.origin.otherwise(response(b"DE", "Vary: Accept-Language", FRESH))
    assert bench.get("/", "Accept-Language: de").body == b"DE"


def test_a_whole_answer_to_a_range_does_not_make_another_body_fresh(bench):
    bench.origin.otherwise(bench.dated(b"old!!", "Cache-Control: max-age=5"))
    bench.get()
    bench.stack.advance(6)
    bench.origin.otherwise(bench.dated(b"new!!", FRESH))
    assert bench.get("/", "Range: bytes=0-1").status == 200
    assert bench.get().body == b"new!!"
