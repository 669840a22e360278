"""What holds for any responses, any news of them, any rules of the configuration, and any course of time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.store import Store
from proxy.http.stored import Body
from proxy.policy import freshness, reuse, storing, validation
from proxy.policy.key import primary_key
from proxy.policy.reasons import Reason
from proxy.policy.rules import CacheRules
from tests.policy.heads import NOW, date, get, reply

SAID = (
    "Cache-Control: max-age=50",
    "Cache-Control: max-age=0",
    "Cache-Control: s-maxage=30, max-age=99999999999",
    "Cache-Control: max-age=20, stale-while-revalidate=30, stale-if-error=90",
    "Cache-Control: max-age=20, must-revalidate",
    "Cache-Control: no-cache, max-age=50",
    "Cache-Control: public, immutable, max-age=x",
    "CDN-Cache-Control: max-age=40",
    "CDN-Cache-Control: max-age=?0",
    f"Expires: {date(30).decode()}",
    "Expires: 0",
    f"Date: {date(-25).decode()}",
    f"Date: {date(100).decode()}",
    "Date: soon",
    "Age: 15",
    "Age: 3, 9999",
    "Age: -5",
    f"Last-Modified: {date(-600).decode()}",
    "Pragma: no-cache",
    "Set-Cookie: a=b",
    'ETag: "b"',
)
RULES = st.builds(
    CacheRules,
    ttl=st.none() | st.floats(0, 100),
    min_ttl=st.none() | st.floats(0, 40),
    max_ttl=st.none() | st.floats(0, 100),
    grace=st.sampled_from([0.0, 20.0]),
    trust_age=st.booleans(),
    honour_request=st.booleans(),
)
HEADS = st.lists(st.sampled_from(SAID), max_size=4, unique=True)
COURSE = st.lists(st.floats(0, 60) | HEADS, max_size=8)
ASKED = st.sampled_from(["", "max-age=10", "min-fresh=10", "max-stale=15", "no-cache", "only-if-cached"])


def stored_of(fields, rules, request, at=0.0):
    """What the store would have of a response with these fields; None where it would have nothing."""
    wall = NOW + at
    decided = storing.decide_store(
        request, reply('ETag: "a"', *fields), rules, request_time=wall, response_time=wall, variants=()
    )
    if not isinstance(decided, storing.Store):
        return None
    return storing.build_stored(decided, primary_key(request, rules), Body([b"x"], complete=True), 1, at)


def news_of(stored, fields, rules, request, at):
    """The same after a 304 with these fields; None where it may not be kept."""
    wall = NOW + at
    new = validation.freshen(
        stored,
        reply(*fields, status=304),
        rules,
        request=request,
        request_time=wall,
        response_time=wall,
        received=at,
    )
    return new if validation.may_keep(new) else None


@given(HEADS, COURSE, RULES)
def test_the_age_that_is_told_never_falls_but_by_a_validation(fields, course, rules):
    stored = stored_of(fields, rules, get())
    now, told = 0.0, 0
    for step in course:
        if stored is None:
            return
        if isinstance(step, float):
            now += step
        else:
            stored = news_of(stored, step, rules, get(), now)
            told = 0
        if stored is not None:
            age = freshness.age_value(stored, now)
            assert told <= age <= freshness.AGE_MAX
            told = age


@given(HEADS, COURSE, RULES, ASKED)
def test_nothing_is_fresh_past_its_lifetime_nor_stale_past_what_is_allowed(fields, course, rules, asked):
    stored = stored_of(fields, rules, get())
    now = 0.0
    for step in course:
        if stored is None:
            return
        if isinstance(step, float):
            now += step
        else:
            stored = news_of(stored, step, rules, get(), now)
        if stored is not None:
            judge(stored, reuse.decide(get(f"Cache-Control: {asked}"), [stored], now, rules), now, rules)


@given(st.integers(1, 50), st.integers(0, 50) | st.none(), st.integers(0, 50), st.sampled_from([0.0, 15.0]), ASKED)
def test_the_ends_of_all_windows_are_kept_to_the_second(lifetime, window, grace, patience, asked):
    """The times around each end, which a random course seldom meets."""
    rules = CacheRules(grace=float(grace), stale_on_error=patience)
    said = f"Cache-Control: max-age={lifetime}" + ("" if window is None else f", stale-while-revalidate={window}")
    request = get(f"Cache-Control: {asked}")
    stored = stored_of([said], rules, request)
    for end in (lifetime, lifetime + (window or 0), lifetime + grace, lifetime + 15):
        for now in (end - 1, end - 0.001, end, end + 0.001, end + 1, end + 2):
            judge(stored, reuse.decide(request, [stored], now, rules), now, rules)
            if reuse.may_serve_on_error(stored, now, rules, request):
                assert now - lifetime <= patience


def judge(stored, verdict, now, rules):
    """What one verdict may be."""
    age = freshness.current_age(stored, now)
    if rules.max_ttl is not None:
        assert stored.lifetime <= rules.max_ttl
    match verdict:
        case reuse.Fresh():
            assert age < stored.lifetime
            assert not stored.control.no_cache
        case reuse.StaleUsable(reason=reason):
            assert not stored.control.never_stale
            window = stored.control.stale_while_revalidate
            allowed = {Reason.GRACE: rules.grace, Reason.STALE_ALLOWED: 15, Reason.STALE_WHILE_REVALIDATE: window}
            assert age - stored.lifetime <= allowed[reason]
            if reason is Reason.GRACE:
                assert window is None
                assert stored.lifetime > 0


# ---- the store after events ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """Something that happens to what is stored under one key, at a time of its own."""

    key: int
    variant: int
    what: str  # put | news | purge | outdate
    fields: tuple[str, ...]
    at: float

    def apply(self, store, rules):
        request = get(f"Foo: {self.variant}", target=f"/{self.key}")
        key = primary_key(request, rules)
        if self.what in {"purge", "outdate"}:
            store.purge_key(key, soft=self.what == "outdate")
            return
        if self.what == "put":
            new = stored_of([*self.fields, "Vary: Foo"], rules, request, self.at)
        else:
            old = next((one for one in store.peek(key) if one.selecting == ((b"foo", b"%d" % self.variant),)), None)
            new = None if old is None else news_of(old, self.fields, rules, request, self.at)
        if new is not None:
            store.put(new)


EVENTS = st.lists(
    st.builds(
        Event,
        key=st.integers(0, 2),
        variant=st.integers(0, 2),
        what=st.sampled_from(["put", "put", "news", "purge", "outdate"]),
        fields=HEADS.map(tuple),
        at=st.floats(0, 60),
    ),
    max_size=12,
)


def state(store):
    """Everything that a request could find out of what is stored."""
    return {
        (one.key, one.selecting): (one.head, one.lifetime, one.initial_age, one.received, one.control, one.outdated)
        for one in store
    }


@given(EVENTS, st.randoms(use_true_random=False), RULES)
def test_two_orders_of_the_same_events_give_the_same_store(events, random, rules):
    """Only what happens to one key has an order that means something; purges of a key come between its variants."""
    first, second = (Store(1 << 20, clock=lambda: 61.0) for _ in range(2))
    for event in events:
        event.apply(first, rules)
    lines = {event.key: [one for one in events if one.key == event.key] for event in events}
    while lines:
        key = random.choice(sorted(lines))
        lines[key].pop(0).apply(second, rules)
        if not lines[key]:
            del lines[key]
    assert state(first) == state(second)


@given(EVENTS.map(lambda events: [event for event in events if event.what in {"put", "news"}]), RULES)
def test_variants_come_in_any_order(events, rules):
    """Without purges between them, what happens to one variant leaves the others alone."""
    first, second = Store(1 << 20), Store(1 << 20)
    for event in events:
        event.apply(first, rules)
    for event in sorted(events, key=lambda event: (event.variant, event.key)):  # stable: each keeps its own order
        event.apply(second, rules)
    assert state(first) == state(second)
