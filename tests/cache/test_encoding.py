"""What was written comes back as old as it is; what was damaged does not come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.encoding import MAGIC, Undecodable, decode, encode
from proxy.http.fields import CacheControl
from proxy.http.message import Fields, ResponseHead
from proxy.http.stored import Body, StoredResponse

times = st.floats(0, 2e9)
few = st.binary(max_size=12)
lines = st.lists(st.tuples(few, few), max_size=5).map(tuple)
seconds = st.none() | st.integers(0, 2**31)
controls = st.builds(
    CacheControl,
    max_age=seconds,
    s_maxage=seconds,
    no_cache=st.booleans(),
    private_fields=st.frozensets(few, max_size=3),
    must_revalidate=st.booleans(),
    stale_if_error=seconds,
)
responses = st.builds(
    StoredResponse,
    key=few,
    head=st.builds(
        ResponseHead, st.integers(100, 999), few, lines.map(Fields), st.tuples(st.integers(0, 9), st.integers(0, 9))
    ),
    body=st.builds(
        lambda chunks, start: Body(chunks, complete=True, start=start),
        st.lists(st.binary(max_size=40), max_size=4),
        st.integers(0, 2**40),
    ),
    length=st.none() | st.integers(0, 2**40),
    control=controls,
    lifetime=times,
    lifetime_source=st.sampled_from(["max-age", "heuristic"]),
    initial_age=times,
    request_time=times,
    response_time=times,
    received=st.floats(0, 1000),
    selecting=st.none() | st.lists(st.tuples(few, st.none() | few), max_size=3).map(tuple),
    request_fields=st.none() | lines.map(Fields),
    tags=st.lists(few, max_size=3).map(tuple),
)

SAME = [
    *("key", "head", "length", "control", "lifetime", "lifetime_source", "initial_age", "request_time"),
    *("response_time", "selecting", "request_fields", "tags", "outdated"),
]


def small(**changes):
    values = {
        "key": b"http://a/",
        "head": ResponseHead(200, b"OK", Fields([(b"ETag", b'"1"')])),
        "body": Body([b"hel", b"lo"], complete=True),
        "length": 5,
        "control": CacheControl(max_age=60),
        "lifetime": 60.0,
        "lifetime_source": "max-age",
        "initial_age": 3.0,
        "request_time": 1e9,
        "response_time": 1e9 + 1,
        "received": 500.0,
    }
    return StoredResponse(**(values | changes))


@given(responses, st.booleans(), st.booleans(), st.floats(0, 1e6), st.floats(0, 1e6))
def test_what_is_decoded_equals_what_was_encoded(stored, outdated, with_body, here, away):
    """All but the age, which has gone on: by the monotonic clock before writing, by the wall clock after."""
    stored.outdated = outdated
    data = encode(stored, wall=1.7e9, mono=1000.0 + here, with_body=with_body)
    body = b"".join(stored.body.chunks)
    # The other machine's monotonic clock has nothing to do with ours.
    back = decode(data, wall=1.7e9 + away, mono=77.0, body=None if with_body else body)
    for name in SAME:
        assert getattr(back, name) == getattr(stored, name)
    assert back.head.version == stored.head.version
    assert b"".join(back.body.chunks) == body
    assert (back.body.size, back.body.start, back.body.state) == (
        stored.body.size,
        stored.body.start,
        stored.body.state,
    )
    assert 77.0 - back.received == pytest.approx(1000.0 + here - stored.received + away, abs=1e-5)
    assert back.live


@given(responses, st.data())
def test_damage_anywhere_is_an_error_and_never_another_response(stored, data):
    whole = encode(stored, wall=1e9, mono=2000.0)
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(damaged), whole[:at], whole + b"x"):
        with pytest.raises(Undecodable):
            decode(bad, wall=1e9, mono=2000.0)


@given(st.binary(max_size=200))
def test_junk_is_an_error(junk):
    for data in (junk, MAGIC + junk):
        with pytest.raises(Undecodable):
            decode(data, wall=1e9, mono=2000.0)


def test_another_version_is_an_error():
    data = encode(small(), wall=1e9, mono=600.0)
    with pytest.raises(Undecodable, match="version"):
        decode(data[:3] + b"\x02" + data[4:], wall=1e9, mono=600.0)


def test_a_body_kept_apart_must_be_the_one_that_belongs_to_it():
    data = encode(small(), wall=1e9, mono=600.0, with_body=False)
    assert decode(data, wall=1e9, mono=600.0, body=b"hello").body.chunks == [b"hello"]
    for body in (b"hellO", b"hell", b"", None):
        with pytest.raises(Undecodable, match="body"):
            decode(data, wall=1e9, mono=600.0, body=body)


def test_a_body_given_twice_is_an_error():
    data = encode(small(), wall=1e9, mono=600.0)
    with pytest.raises(Undecodable, match="twice"):
        decode(data, wall=1e9, mono=600.0, body=b"hello")


def test_clocks_that_differ_a_little_make_nothing_younger_than_when_it_was_written():
    data = encode(small(), wall=1e9, mono=600.0)
    assert decode(data, wall=1e9 - 2, mono=600.0).received == 500.0


def test_a_wall_clock_that_went_back_is_an_error():
    data = encode(small(), wall=1e9, mono=600.0)
    with pytest.raises(Undecodable, match="clock"):
        decode(data, wall=1e9 - 60, mono=600.0)
