"""The memo is a shortcut, never a second truth: bytes, counters and log lines are those of the long way."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from email.utils import formatdate

import pytest

from proxy import errors
from proxy.cache.memo import COPY_BELOW, Answer, Memo
from proxy.errors import Failure
from proxy.exchange import Client
from proxy.plan import Plan
from proxy.policy.key import url_of
from tests.cache.test_store import make
from tests.kit import raw
from tests.kit.heads import read_request
from tests.kit.inproc import WALL, Clock, Stack
from tests.kit.origin import FakeOrigin, chunked, head_only, response
from tests.kit.proxy import reverse

# ---- the differential test: two stacks that differ in the memo alone, one script ------------------------------------


class Site:
    """An origin whose answers depend on path, version and request alone: equal questions get equal answers."""

    def __init__(self, clock):
        self.clock = clock
        self.versions = dict.fromkeys(PATHS, 0)

    def answer(self, received):
        path = received.path
        version = self.versions.get(path, 0)
        date = f"Date: {formatdate(WALL + self.clock.at, usegmt=True)}"
        return [PATHS.get(path, missing)(received, version, date)]


def named(received, version, size):
    seed = f"{received.path} {version} {received.get('accept-language')} ".encode()
    return (seed * (size // len(seed) + 1))[:size]


def plain(lifetime, size=20, *lines):
    def answer(received, version, date):
        return whole(received, named(received, version, size), date, f"Cache-Control: max-age={lifetime}", *lines)

    return answer


def whole(received, body, *lines, status=200):
    if received.method == b"HEAD":
        return head_only(*lines, f"Content-Length: {len(body)}", status=status)
    return response(body, *lines, status=status)


def validated(received, version, date):
    tag = f'ETag: "v{version}"'
    control = "Cache-Control: max-age=2"
    if received.get("if-none-match") == tag[6:]:
        return head_only(tag, control, date, f"X-Confirmed: {int(WALL)}", status=304)
    return whole(received, named(received, version, 30), tag, control, date)


def by_language(received, version, date):
    """Every third version stops to depend on the language, and then depends on it again."""
    vary = ["Vary: Accept-Language"] if version % 3 != 1 else []
    return whole(received, named(received, version, 25), date, "Cache-Control: max-age=30", *vary)


def in_chunks(received, version, date):
    body = named(received, version, 300)
    lines = (date, "Cache-Control: max-age=10")
    if received.method == b"HEAD":
        return head_only(*lines, "Transfer-Encoding: chunked")
    return chunked([body[:100], body[100:]], *lines, trailers=["X-Trailer: gone"])


def now_and_then(received, version, date):
    """Storable in every second version only."""
    control = "no-store" if version % 2 else "max-age=20"
    return whole(received, named(received, version, 15), date, f"Cache-Control: {control}")


def failing(received, version, date):
    if version % 2:
        return whole(received, b"broken", date, status=503)
    return whole(received, named(received, version, 15), date, "Cache-Control: max-age=1", 'ETag: "f"')


def missing(received, version, date):
    return whole(received, b"nothing here", date, "Cache-Control: max-age=5", status=404)


PATHS = {
    "/fresh": plain(60),
    "/short": plain(2),
    "/aged": plain(30, 20, "Age: 7"),
    "/small-part": plain(60, 5000, 'ETag: "p"'),
    "/large": plain(60, 400_000, 'ETag: "l"'),
    "/cookie": plain(60, 20, "Set-Cookie: colour=red"),
    "/validated": validated,
    "/language": by_language,
    "/chunked": in_chunks,
    "/sometimes": now_and_then,
    "/failing": failing,
    "/private": lambda r, v, d: whole(r, named(r, v, 20), d, "Cache-Control: private"),
}
HOT = ("/fresh", "/short", "/validated", "/language", "/small-part", "/sometimes")
FIELDS = (
    ("Accept-Language: de",),
    ("Accept-Language: en",),
    ("Accept-Language: fr",),
    ("Accept-Language: it",),
    ("Accept-Language: en", "Accept-Encoding: gzip"),
    ("Range: bytes=2-9",),
    ("Range: bytes=0-1,4-5",),
    ('If-None-Match: "v0"',),
    ('If-None-Match: "other"',),
    (f"If-Modified-Since: {formatdate(WALL + 10_005, usegmt=True)}",),
    ("Cache-Control: no-cache",),
    ("Cache-Control: max-age=3",),
    ("Cache-Control: min-fresh=1",),
    ("Cache-Control: max-stale=5",),
    ("Cache-Control: only-if-cached",),
    ("Cookie: colour=blue",),
    ("Authorization: Basic eDp5",),
    ("X-Forwarded-For: 192.0.2.1",),
    ("User-Agent: a/1", "Accept: */*", "Accept-Language: de"),
)


@dataclass
class Step:
    """One thing that happens: requests on a connection, or a change of the world."""

    kind: str  # ask, wait, change, purge
    connection: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)  # method, bytes
    cuts: list[int] = field(default_factory=list)
    seconds: float = 0.0
    path: str = ""
    soft: bool = False


def some_request(rng):
    path = rng.choice(HOT) if rng.random() < 0.8 else rng.choice([*PATHS, "/missing"])
    roll = rng.random()
    if roll < 0.7:
        return "GET", raw.request("GET", path, *rng.choice(((), (), (), *FIELDS[:4])))
    if roll < 0.77:
        return "GET", raw.request("GET", path, *rng.choice(FIELDS))
    if roll < 0.8:
        return "HEAD", raw.request("HEAD", path, *rng.choice(((), *FIELDS)))
    if roll < 0.84:
        return "POST", raw.request("POST", path, body=b"a change")
    if roll < 0.87:
        return "PURGE", raw.request("PURGE", path)
    if roll < 0.9:
        return "GET", raw.request("GET", path).replace(b"HTTP/1.1", b"HTTP/1.0")
    if roll < 0.93:
        return "GET", raw.request("GET", path, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    if roll < 0.96:
        return "GET", b"\r\n" + raw.request("GET", path)
    return "GET", raw.request("GET", path, "Connection: close")


def is_last(data):
    return b"Connection: close" in data or (b"HTTP/1.0" in data and b"keep-alive" not in data)


def some_step(rng):
    roll = rng.random()
    if roll < 0.1:
        return Step("wait", seconds=rng.choice((0.01, 0.25, 0.5, 0.999, 1.0, 1.001, 2.0, 3.3, 31.0)))
    if roll < 0.13:
        return Step("change", path=rng.choice(list(PATHS)))
    if roll < 0.15:
        return Step("purge", path=rng.choice(list(PATHS)), soft=rng.random() < 0.5)
    requests = [some_request(rng) for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 3, 6)))]
    size = sum(len(data) for _, data in requests)
    cuts = sorted(rng.sample(range(1, size), rng.choice((0, 0, 0, 0, 1, 2))))
    if cuts:  # who says that it is the last sends no more, or may be reset while sending
        requests = requests[: next((n for n, (_, data) in enumerate(requests, 1) if is_last(data)), None)]
    return Step("ask", rng.randrange(3), requests, cuts)


def without_ports(received):
    """What a request said to the origin, but for the port of ours it came through."""
    lines = [(name, value) for name, value in received.lines if name.lower() not in {b"x-forwarded-port", b"forwarded"}]
    return received.method, received.target, lines, received.body


class Side:
    """One of the two stacks, with its clients."""

    def __init__(self, text, clock, memo, keep_plans=True, through=""):
        self.through = through  # address of the origin that the proxy is asked to go to; "": it is in front of it
        self.stack = Stack(text, clock=clock, memo=memo, log=LOG)
        self.stack.pipeline.answers._boundary = b"fixed"  # random in each process, and so in each stack
        if not keep_plans:
            self.stack.front.longest_kept_head = 0
        self.stack.call(self.make_scarce)
        self.connections = {}

    def make_scarce(self):
        """Room for all plans, since one that went for lack of it forgets that its answers were not for the store, and
        says uri-miss for hit-for-miss; but not for all responses.
        """
        someone = Client("127.0.0.1", 1, ("127.0.0.1", 80), b"http")
        self.stack.front.kind_of(self.stack.doors[0], someone)  # has the memo made, in the memory configured
        self.stack.store.resize(4 * 2**20)

    def ask(self, step):
        """The answers' bytes, and how the connection ended if it did."""
        connection = self.connections.pop(step.connection, None) or raw.Connection(
            self.stack.at, source="127.0.0.2" if self.through and step.connection == 2 else None
        )
        target = b" http://%b/" % self.through.encode() if self.through else b" /"
        data = b"".join(data.replace(b" /", target, 1) for _, data in step.requests)
        connection.send_cut(data, step.cuts, pause=0.001)
        answers = []
        ended = None
        for method, _ in step.requests:
            answer = connection.read_response(method)
            answers.append((answer.raw_head, answer.body))
            if answer.get("connection") == "close":
                ended = connection.at_end()
                break
        if ended is None:
            self.connections[step.connection] = connection
        else:
            connection.close()
        self.settle()
        return answers, ended

    def settle(self):
        """Nothing is on its way any more, refreshes of our own included."""
        self.stack.wait(lambda: not len(self.stack.pipeline.flights) and self._is_idle(), "all requests over")

    def _is_idle(self):
        opened, idle = self.stack.upstreams.counts
        return opened == idle

    def purge(self, path, soft):
        url = f"http://{self.through or 'test.example'}{path}".encode()
        sweep = self.stack.call(lambda: self.stack.store.sweep(lambda one: url_of(one.key) == url, soft=soft))
        self.stack.call(lambda: list(sweep))
        return sweep.count

    def counters(self):
        apart = ("tandem_memo", "tandem_request_duration", "tandem_first_byte")
        return {name: value for name, value in self.stack.counters().items() if not name.startswith(apart)}

    def stop(self):
        for connection in self.connections.values():
            connection.close()
        self.stack.stop()
        assert not self.stack.complaints, self.stack.complaints


LOG = '{client} {time} "{request}" {host} {status} {bytes} {outcome} {reason} {detail} {error} {upstream} {squid_code}'
REST = """
[limits]
keepalive = "1d"

[cache]
memory = "128MB"
max_object = "1MB"
variants = 3
"""


FORWARD = '[forward]\nlisten = "127.0.0.1:PORT0"\nclients = "127.0.0.1"\nallow_private = "127.0.0.1"\n'


def play(seed, steps=None, seconds=None, forward=False):
    """The same random story told to both; what they say must be equal at every step. How often the memo spoke."""
    rng = random.Random(seed)
    clock = Clock()
    site = Site(clock)
    end = None if seconds is None else time.monotonic() + seconds
    with FakeOrigin() as origin:
        origin.otherwise(by=site.answer)
        text = reverse(origin.address, site='purge_from = ["127.0.0.0/8"]\neject = { failures = 0 }', rest=REST)
        through = origin.address if forward else ""
        sides = [Side(FORWARD + REST if forward else text, clock, memo, through=through) for memo in (True, False)]
        repeated = count_repeats(sides[0].stack)
        try:
            number = 0
            while (steps is not None and number < steps) or (end is not None and time.monotonic() < end):
                step = some_step(rng)
                number += 1
                heard = [take_step(step, side, site, origin) for side in sides]
                if step.kind == "wait":
                    pass_time(clock, step.seconds, sides)
                elif step.kind == "change":
                    site.versions[step.path] += 1
                assert heard[0] == heard[1], f"seed {seed}, step {number}: {step}"
            assert sides[0].counters() == sides[1].counters()
            assert sides[0].stack.log_lines() == sides[1].stack.log_lines()
            assert not origin.faults
        finally:
            for side in sides:
                side.stop()
    return len(repeated)


def take_step(step, side, site, origin):
    """What is seen of a step from outside: by the client, and by the origin."""
    before = len(origin.requests)
    said = None
    if step.kind == "ask":
        said = side.ask(step)
    elif step.kind == "purge":
        said = side.purge(step.path, step.soft)
    return said, [without_ports(received) for received in origin.requests[before:]]


def pass_time(clock, seconds, sides):
    clock.at += seconds
    for side in sides:
        side.stack.call(side.stack.turn_wheel)


def count_repeats(stack):
    """A list that grows with each answer of the memo."""
    repeats = []
    observer = stack.observer
    repeated = observer.repeated

    def counting(template, client, now):
        repeats.append(now)
        repeated(template, client, now)

    observer.repeated = counting
    return repeats


@pytest.mark.slow
def test_in_forward_mode_the_memo_changes_nothing_either():
    """One of the clients is not served: what others are answered is never repeated to it."""
    assert play(3, steps=1000, forward=True) > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_with_and_without_memo_every_byte_counter_and_line_is_the_same(seed):
    assert play(seed, steps=400) > 15


@pytest.mark.long
@pytest.mark.timeout(300)
def test_with_and_without_memo_all_stays_the_same_for_minutes():
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    assert play(seed, seconds=120) > 1000


# ---- the map itself --------------------------------------------------------------------------------------------------


def plan_of(number=0):
    checked = read_request(raw.request("GET", f"/{number}"))
    return Plan(checked, checked.head, Failure(errors.NOT_FOUND), None, trusted=False)


def answer_of(stored, size=10, head=b"head"):
    return Answer(head, (b"x" * size,), stored, 5.0, template=None)


def filled(memo, number, stored, size=10):
    """An entry with an answer; its head and plan."""
    head, plan = b"head %d" % number, plan_of(number)
    memo.remember_plan(head, plan)
    memo.remember_answer(head, plan, answer_of(stored, size))
    return head, plan


def test_small_answers_are_joined_and_large_ones_share_the_stores_own_bytes():
    stored = make()
    assert answer_of(stored, COPY_BELOW).payload == b"head" + b"x" * COPY_BELOW
    body = (b"y" * (COPY_BELOW + 1),)
    large = Answer(b"head", body, stored, 5.0, template=None)
    assert large.payload == b""
    assert large.parts[1] is body[0]


def test_a_response_that_goes_takes_its_answers_and_leaves_the_plans():
    memo = Memo(1 << 20)
    gone, stays = make(), make()
    first, second, other = filled(memo, 1, gone), filled(memo, 2, gone), filled(memo, 3, stays)
    memo.forget(gone)
    assert first[1].answer is second[1].answer is None
    assert other[1].answer is not None
    assert len(memo) == 3


def test_an_answer_that_replaced_anothers_is_not_forgotten_with_it():
    memo = Memo(1 << 20)
    old, new = make(), make()
    head, plan = filled(memo, 1, old)
    memo.remember_answer(head, plan, answer_of(new))
    memo.forget(old)
    assert plan.answer is not None
    memo.forget(new)
    assert plan.answer is None


def test_the_memo_is_bounded_and_what_it_lets_go_is_known_to_no_response():
    memo = Memo(100_000)
    responses = [make() for _ in range(200)]
    for number, stored in enumerate(responses):
        filled(memo, number, stored, size=1000)
        assert memo.currsize <= 100_000
        assert memo.currsize == sum(plan.size + (plan.answer.size if plan.answer else 0) for plan in memo.values())
    assert 10 < len(memo) < 50
    for stored in responses[:100]:
        assert not stored.memos
    memo.forget(responses[0])


def test_what_is_too_large_for_the_memo_is_left_out():
    memo = Memo(20_000)
    head, plan = filled(memo, 1, make(), size=COPY_BELOW)
    assert memo[head] is plan
    assert plan.answer is None
    memo.remember_plan(b"x" * 10_000, plan_of())
    assert len(memo) == 1


def test_an_answer_to_a_plan_that_is_not_kept_is_not_kept_either():
    memo = Memo(1 << 20)
    plan = plan_of()
    memo.remember_answer(b"head", plan, answer_of(make()))
    assert plan.answer is None
    assert len(memo) == 0


def test_a_newer_variant_that_also_matches_is_chosen_at_once():
    """RFC 9111 §4: of several stored responses that match, the most recent; an answer of the older one is void."""
    with FakeOrigin() as origin, Stack(reverse(origin.address), clock=Clock()) as stack:
        date = f"Date: {stack.date()}"
        control = "Cache-Control: max-age=100"
        origin.otherwise(response(b"for all", control, date))
        for _ in range(3):
            assert raw.get(stack.at).body == b"for all"
        origin.otherwise(response(b"by language", control, date, "Vary: Accept-Language"))
        stack.advance(0.25)
        assert raw.get(stack.at, "/", "Cache-Control: no-cache").body == b"by language"
        assert raw.get(stack.at).body == b"by language"
