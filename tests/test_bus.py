"""Messages survive their bytes, whatever the chunk boundaries, and junk never becomes a message."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import bus

MESSAGES = [
    bus.Ping(),
    bus.Pong(7, 9),
    bus.Purge(3, "prefix", "http://a/x", soft=True, dry_run=True),
    bus.Purged(3, 17),
    bus.Status("pools"),
    bus.StatusAnswer({"a": [1, None, "x"], "b": {"c": 1.5}}),
    bus.HealthVerdicts((bus.Verdict("shop", "10.0.0.1:80", True),)),
    bus.Done(),
    bus.Failed("why"),
]
TO_CHILD = [
    bus.Prepare(4, "d1", (bus.ListenerNote("", 80, "::", 80, 5),), ("shop.key",)),
    bus.Commit(4),
    bus.Abort(4),
    bus.Drain(1.5),
    bus.ReopenLogs(),
    bus.Lend(6),
    bus.Attach(),
]
TO_SUPERVISOR = [bus.Prepared(4), bus.Refused(4, "no"), bus.Ready(4), bus.Borrow(4, 32)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_question_or_answer_survives_its_bytes(message):
    frame = bus.encode_envelope(bus.Envelope(12, message))
    (only,) = bus.Frames().feed(frame)
    assert bus.decode_envelope(only) == bus.Envelope(12, message)


@pytest.mark.parametrize("message", TO_CHILD, ids=lambda m: type(m).__name__)
def test_a_word_to_a_child_survives_its_bytes(message):
    assert bus.decode_to_child(bus.encode_control(message)) == message


@pytest.mark.parametrize("message", TO_SUPERVISOR, ids=lambda m: type(m).__name__)
def test_a_word_to_the_supervisor_survives_its_bytes(message):
    assert bus.decode_to_supervisor(bus.encode_control(message)) == message


@given(st.lists(st.sampled_from(MESSAGES), max_size=8), st.lists(st.integers(1, 40), max_size=60))
def test_frames_do_not_depend_on_chunk_boundaries(messages, cuts):
    stream = b"".join(bus.encode_envelope(bus.Envelope(n, m)) for n, m in enumerate(messages))
    frames, found = bus.Frames(), []
    for cut in cuts:
        found += frames.feed(stream[:cut])
        stream = stream[cut:]
    found += frames.feed(stream)
    assert [bus.decode_envelope(frame).message for frame in found] == messages


@given(st.binary(max_size=200))
def test_junk_is_no_message(data):
    for decode in (bus.decode_envelope, bus.decode_to_child, bus.decode_to_supervisor):
        try:
            decode(data)
        except bus.BadFrameError:
            pass
        else:  # the few bytes that happen to be one
            assert msgspec.msgpack.decode(data)


def test_a_frame_over_the_bound_is_refused_before_it_is_read():
    with pytest.raises(bus.BadFrameError, match="over the bound"):
        bus.Frames(limit=100).feed((101).to_bytes(4, "big"))


def test_a_message_over_the_bound_is_not_sent():
    with pytest.raises(bus.BadFrameError):
        bus.encode_envelope(bus.Envelope(1, bus.Failed("x" * bus.MAX_FRAME)))
    with pytest.raises(bus.BadFrameError):
        bus.encode_control(bus.Refused(1, "x" * bus.MAX_CONTROL))


def test_a_question_does_not_pass_for_a_control_message():
    with pytest.raises(bus.BadFrameError):
        bus.decode_to_child(msgspec.msgpack.encode(bus.Purge(1, "all", "")))


def test_a_long_reason_is_cut_with_a_mark_so_that_it_can_be_sent():
    cut = bus.cut_reason("é" * 100_000)
    assert cut.endswith(" …")
    assert bus.encode_control(bus.Refused(1, cut))
    assert bus.cut_reason("short") == "short"
