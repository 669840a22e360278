"""When an answer from the store changes, and what its head is completed with."""

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.answers import TICK_GUARD, _with, next_change
from proxy.exchange import Route
from proxy.http.message import Fields, ResponseHead
from proxy.policy.freshness import age_value, remaining
from proxy.policy.rules import CacheRules
from tests.kit.spine import exchange
from tests.policy.heads import kept


def aged(lifetime, initial_age):
    return kept("Cache-Control: max-age=1").replaced(lifetime=lifetime, initial_age=initial_age, received=1000.0)


times = st.floats(0, 10_000, allow_nan=False)


@given(times, times, times, st.floats(0, 1))
def test_between_now_and_the_next_change_age_and_ttl_say_the_same(lifetime, initial_age, resident, part):
    """The memo repeats an answer until then, so nothing in it may tick before."""
    stored = aged(lifetime, initial_age)
    now = 1000.0 + resident
    assume(remaining(stored, now) > 0)
    until = next_change(stored, now)
    assume(until > now)
    then = min(now + part * (until - now), math.nextafter(until, 0))
    assert age_value(stored, then) == age_value(stored, now)
    assert remaining(stored, then) // 1 == remaining(stored, now) // 1
    assert remaining(stored, then) > 0


@given(times, times)
def test_an_answer_is_good_for_a_second_at_most(lifetime, initial_age):
    stored = aged(lifetime, initial_age)
    assert next_change(stored, 1000.0) <= 1001.0 - TICK_GUARD


def test_our_age_takes_the_place_of_a_received_one():
    head = ResponseHead(200, b"OK", Fields([(b"age", b"7"), (b"ETag", b'"x"')]))
    assert _with(exchange(), head, ((b"Age", b"9"),)).fields.lines == ((b"ETag", b'"x"'), (b"Age", b"9"))


def test_without_an_age_of_ours_a_received_one_stays():
    head = ResponseHead(200, b"OK", Fields([(b"Age", b"7")]))
    assert _with(exchange(), head, ((b"Via", b"1.1 tandem"),)).fields.lines == ((b"Age", b"7"), (b"Via", b"1.1 tandem"))


def test_what_clients_do_not_get_is_left_out():
    head = ResponseHead(200, b"OK", Fields([(b"X-Own", b"1"), (b"X-All", b"2")]))
    x = exchange()
    x.route = Route("a", "", "a", CacheRules(hidden_fields=frozenset({b"x-own"})))
    assert _with(x, head, ()).fields.lines == ((b"X-All", b"2"),)
