"""Active checks against origins that answer, fail, dawdle and lie, over real connections."""

from __future__ import annotations

import asyncio
import ssl
import threading

import pytest
import trustme
import uvloop

from config.schema import Ejection, Health, Timeouts
from config.units import Duration
from proxy.exchange import Origin, PoolSpec
from proxy.upstream.health import Verdict
from proxy.upstream.prober import Prober, parse_statuses
from tests.kit.origin import Close, FakeOrigin, Stall, response

FAST = Health(path="/health?x=1", every=Duration(0.02), timeout=Duration(0.5), rise=2, fall=2)


def pool(*members, health=FAST, host=""):
    return PoolSpec("shop", "shop", members, "round-robin", health, Ejection(), Timeouts(), retry=True, check_host=host)


def at(origin, scheme="http", **tls):
    return Origin(scheme, origin.host, origin.port, **tls)


class Reports:
    """What was reported, and a way to wait for the next."""

    def __init__(self):
        self.queue = asyncio.Queue()

    async def __call__(self, verdicts):
        for verdict in verdicts:
            self.queue.put_nowait(verdict)

    async def next(self):
        return await asyncio.wait_for(self.queue.get(), 5.0)


def run(scenario, *pools, known=()):
    async def main():
        reports = Reports()
        prober = Prober(pools, reports, known)
        await prober.start()
        try:
            await scenario(prober, reports)
        finally:
            await prober.stop()

    uvloop.run(main())  # the loop of admin


def test_a_good_origin_is_told_once_and_known_for_whoever_asks_later():
    with FakeOrigin() as origin:
        good = Verdict("shop", origin.address, True, "status 200")

        async def scenario(prober, reports):
            assert prober.current() == []
            assert await reports.next() == good
            await asyncio.to_thread(origin.wait_for, 3)
            assert reports.queue.empty()
            assert prober.current() == [good]

        run(scenario, pool(at(origin)))
        assert origin.faults == []


def test_a_check_asks_for_the_path_under_the_sites_name_on_a_connection_of_its_own():
    with FakeOrigin() as origin:

        async def scenario(prober, reports):
            await asyncio.to_thread(origin.wait_for, 3)

        run(scenario, pool(at(origin), host="shop.example.org"))
        first = origin.requests[0]
        assert (first.method, first.target) == (b"GET", b"/health?x=1")
        assert first.get("host") == "shop.example.org"
        assert len({received.connection for received in origin.requests}) == len(origin.requests)


def test_without_a_name_the_origin_is_asked_by_its_address():
    with FakeOrigin() as origin:

        async def scenario(prober, reports):
            await reports.next()

        run(scenario, pool(at(origin)))
        assert origin.requests[0].get("host") == origin.address


def test_an_origin_that_fails_and_recovers_is_told_after_fall_and_rise_checks():
    with FakeOrigin() as origin:

        async def scenario(prober, reports):
            assert (await reports.next()).up
            origin.otherwise(response(status=503, reason="Down"))
            assert await reports.next() == Verdict("shop", origin.address, False, "status 503")
            origin.otherwise(response(b"fine"))
            assert (await reports.next()).up

        run(scenario, pool(at(origin)))


def test_an_origin_that_refuses_connections_is_down():
    with FakeOrigin() as origin:
        origin.refuse()

        async def scenario(prober, reports):
            verdict = await reports.next()
            assert not verdict.up
            assert verdict.detail

        run(scenario, pool(at(origin)))


@pytest.mark.parametrize(
    "steps",
    [
        (Close(),),
        (b"rubbish\r\n\r\n", Close()),
        (response(b"short", length=50), Close()),
        (response(b"short", length=50), Stall(5.0)),
        (Stall(5.0),),
        (response(status=302, reason="Found"),),
    ],
    ids=["closes", "not-http", "cut", "dawdles", "silent", "redirects"],
)
def test_whatever_is_not_a_whole_good_answer_in_time_is_a_bad_check(steps):
    with FakeOrigin() as origin:
        origin.otherwise(*steps)

        async def scenario(prober, reports):
            assert not (await reports.next()).up

        run(scenario, pool(at(origin), health=Health(every=Duration(0.01), timeout=Duration(0.05), status="200")))


def test_several_peers_are_checked_side_by_side():
    release = threading.Event()
    with FakeOrigin() as slow, FakeOrigin() as fast:
        slow.otherwise(Stall(until=release), response())

        async def scenario(prober, reports):
            assert (await reports.next()).address == fast.address
            release.set()
            assert (await reports.next()).address == slow.address

        run(scenario, pool(at(slow), at(fast), health=Health(every=Duration(0.02), timeout=Duration(5.0))))


def test_a_look_is_a_check_of_all_now_and_changes_no_verdict():
    slow = Health(path="/health", every=Duration(60), timeout=Duration(0.5), rise=2, fall=2)
    with FakeOrigin() as origin, FakeOrigin() as ill:
        ill.otherwise(response(status=503))

        async def scenario(prober, reports):
            assert (await reports.next()).up
            before = prober.current()
            looks = await asyncio.gather(*(prober.look() for _ in range(20)))
            assert looks == [{"shop": True}] * 20
            origin.otherwise(response(status=503))
            assert await prober.look() == {"shop": False}
            assert prober.current() == before
            assert len(origin.targets()) <= 4  # not one for each who asked

        run(scenario, pool(at(ill), at(origin), health=slow))


def test_a_look_that_is_under_way_ends_with_the_checks():
    with FakeOrigin() as origin:
        origin.otherwise(Stall(5.0))
        stalled = Health(path="/health", every=Duration(60), timeout=Duration(30), rise=2, fall=2)

        async def scenario(prober, reports):
            looking = asyncio.create_task(prober.look())
            await asyncio.to_thread(origin.wait_for, 1)
            await prober.stop()
            with pytest.raises(asyncio.CancelledError):
                await looking

        run(scenario, pool(at(origin), health=stalled))


def test_pools_without_checks_are_left_alone():
    with FakeOrigin() as origin, FakeOrigin() as other:

        async def scenario(prober, reports):
            await reports.next()

        run(scenario, pool(at(origin), health=None), pool(at(other)))
        assert origin.requests == []


def test_after_a_reload_an_origin_known_to_be_down_is_told_when_it_is_up():
    with FakeOrigin() as origin:
        known = [Verdict("shop", origin.address, False)]

        async def scenario(prober, reports):
            assert [verdict.up for verdict in prober.current()] == [False]
            assert (await reports.next()).up
            assert len(origin.requests) >= FAST.rise

        run(scenario, pool(at(origin)), known=known)


def test_after_a_reload_the_first_word_is_told_even_if_it_was_known():
    with FakeOrigin() as origin:
        known = [Verdict("shop", origin.address, True)]

        async def scenario(prober, reports):
            assert (await reports.next()).up

        run(scenario, pool(at(origin)), known=known)


def test_nothing_is_asked_after_stop():
    with FakeOrigin() as origin:

        async def scenario(prober, reports):
            await reports.next()
            await prober.stop()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run(scenario, pool(at(origin)))


# ---- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("shop.example.org").configure_cert(context)
    with FakeOrigin(tls=context) as origin:
        yield origin


def test_a_certificate_of_a_configured_authority_and_name_is_accepted(secure, authority):
    async def scenario(prober, reports):
        verdict = await reports.next()
        assert verdict.up, verdict.detail

    with authority.cert_pem.tempfile() as path:
        run(scenario, pool(at(secure, "https", tls_ca=path, tls_name="shop.example.org")))


def test_a_certificate_of_another_name_is_a_bad_check(secure, authority):
    async def scenario(prober, reports):
        verdict = await reports.next()
        assert not verdict.up
        assert "certificate" in verdict.detail

    with authority.cert_pem.tempfile() as path:
        run(scenario, pool(at(secure, "https", tls_ca=path, tls_name="other.example.org")))


def test_an_unknown_authority_is_a_bad_check_unless_verification_is_off(secure):
    async def scenario(prober, reports):
        assert not (await reports.next()).up

    async def unverified(prober, reports):
        assert (await reports.next()).up

    run(scenario, pool(at(secure, "https")))
    run(unverified, pool(at(secure, "https", tls_verify=False)))


# ---- statuses ------------------------------------------------------------------------------------------------------


def test_statuses_are_codes_and_ranges():
    assert parse_statuses("200-399") == (range(200, 400),)
    assert parse_statuses("200, 404,301-302") == (range(200, 201), range(404, 405), range(301, 303))


@pytest.mark.parametrize("text", ["", "ok", "200-", "-200", "399-200", "99", "200-600", "200,,201"])
def test_other_texts_are_refused_with_what_is_wanted(text):
    with pytest.raises(ValueError, match="want codes"):
        parse_statuses(text)
