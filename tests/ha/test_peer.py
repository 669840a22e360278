"""The link's protocol in memory, whole and cut, honest and not; then two real ends on loopback."""

import asyncio
import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha.peer import MAC, MAX_FRAME, Callbacks, Conversation, LinkError, Links, Role, parse_secret

KEY = parse_secret(b"0123456789abcdef\n")
OTHER = parse_secret(b"fedcba9876543210\n")


def pair(key=KEY, other=KEY, nonces=(b"a" * 32, b"b" * 32)):
    dialling = Conversation(Role.DIALS, "a", ["b"], key, nonces[0])
    answering = Conversation(Role.ANSWERS, "b", ["a", "c"], other, nonces[1])
    return dialling, answering


def shake(dialling, answering):
    hello = dialling.start()
    answer, _ = answering.receive(hello)
    proof, _ = dialling.receive(answer)
    assert answering.receive(proof) == (b"", [])
    return hello, answer, proof


# ---- the protocol ----------------------------------------------------------------------------------------------------


def test_both_know_each_other_after_three_messages():
    dialling, answering = pair()
    shake(dialling, answering)
    assert (dialling.peer, answering.peer) == ("b", "a")


@given(
    st.lists(st.binary(max_size=300), max_size=8),
    st.lists(st.integers(min_value=1, max_value=64), min_size=1, max_size=20),
)
def test_payloads_arrive_whole_and_in_order_however_the_stream_is_cut(payloads, cuts):
    dialling, answering = pair()
    answer, _ = answering.receive(dialling.start())
    proof, _ = dialling.receive(answer)
    stream = proof + b"".join(map(dialling.seal, payloads))
    heard = []
    at, turn = 0, 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        heard += answering.receive(stream[at : at + step])[1]
        at, turn = at + step, turn + 1
    assert heard == payloads


def test_each_direction_has_a_key_of_its_own():
    dialling, answering = pair()
    shake(dialling, answering)
    frame = dialling.seal(b"word")
    with pytest.raises(LinkError, match="not made"):
        dialling.receive(frame)


def test_keys_are_fresh_for_each_connection():
    first, second = pair(), pair(nonces=(b"c" * 32, b"d" * 32))
    shake(*first)
    shake(*second)
    with pytest.raises(LinkError, match="not made"):
        second[1].receive(first[0].seal(b"word"))


def test_who_has_another_secret_is_found_out_by_the_one_who_dials():
    dialling, answering = pair(other=OTHER)
    answer, _ = answering.receive(dialling.start())
    with pytest.raises(LinkError, match="another secret"):
        dialling.receive(answer)
    assert answering.peer is None


def test_who_dials_without_the_secret_proves_nothing():
    _, answering = pair()
    stranger = Conversation(Role.DIALS, "a", ["b"], OTHER, b"x" * 32)
    answering.receive(stranger.start())
    with pytest.raises(LinkError, match="another secret"):
        answering.receive(struct.pack("!H", 32) + bytes(32))
    assert answering.peer is None


def test_an_old_conversation_replayed_proves_nothing():
    dialling, answering = pair()
    hello, _, proof = shake(dialling, answering)
    word = dialling.seal(b"resign")
    again = Conversation(Role.ANSWERS, "b", ["a"], KEY, b"e" * 32)
    again.receive(hello)
    with pytest.raises(LinkError, match="another secret"):
        again.receive(proof + word)


def test_a_proof_reflected_to_its_maker_proves_nothing():
    dialling, _ = pair()
    hello = dialling.start()
    mirror = Conversation(Role.DIALS, "b", ["a"], OTHER, b"a" * 32)
    assert mirror.start() != hello
    answerer = Conversation(Role.ANSWERS, "a", ["b"], KEY, b"a" * 32)
    answer, _ = answerer.receive(mirror.start())
    with pytest.raises(LinkError):
        dialling.receive(answer)


@pytest.mark.parametrize("change", ["repeat", "leave out", "swap"])
def test_a_frame_repeated_left_out_or_moved_ends_the_link(change):
    dialling, answering = pair()
    shake(dialling, answering)
    one, two, three = map(dialling.seal, (b"1", b"2", b"3"))
    streams = {"repeat": one + one, "leave out": one + three, "swap": two + one}
    with pytest.raises(LinkError, match="repeated or left out"):
        answering.receive(streams[change])


@given(st.data())
def test_a_frame_with_any_bit_changed_ends_the_link(data):
    dialling, answering = pair()
    shake(dialling, answering)
    frame = bytearray(dialling.seal(b"priority 250"))
    bit = data.draw(st.integers(min_value=16, max_value=8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LinkError):
        answering.receive(bytes(frame))


@pytest.mark.parametrize("body", [b"", b"GET / HTTP/1.1", b"tandem-link-1 short", b"tandem-link-2 " + bytes(33)])
def test_what_is_no_greeting_is_refused(body):
    _, answering = pair()
    with pytest.raises(LinkError, match="greeting"):
        answering.receive(struct.pack("!H", len(body)) + body)


def test_a_node_that_is_not_expected_is_refused_though_it_has_the_secret():
    _, answering = pair()
    with pytest.raises(LinkError, match="not expected"):
        answering.receive(Conversation(Role.DIALS, "z", ["b"], KEY, b"z" * 32).start())


def test_a_stranger_can_make_nobody_wait_for_a_long_frame():
    _, answering = pair()
    with pytest.raises(LinkError, match="too long"):
        answering.receive(struct.pack("!H", 1000))


def test_a_frame_over_the_bound_is_neither_sent_nor_taken():
    dialling, answering = pair()
    shake(dialling, answering)
    with pytest.raises(LinkError, match="too long"):
        answering.receive(struct.pack("!H", MAX_FRAME + 1))
    with pytest.raises(LinkError, match="too long"):
        dialling.seal(bytes(MAX_FRAME - MAC))


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_waited_for(junk):
    _, answering = pair()
    with contextlib.suppress(LinkError):
        answering.receive(junk)
    assert answering.peer is None


def test_a_secret_too_short_to_protect_anything_is_refused():
    with pytest.raises(ValueError, match="at least 16 bytes"):
        parse_secret(b"s3cret\n")
    assert parse_secret(b" 0123456789abcdef\n") == KEY


# ---- over TCP --------------------------------------------------------------------------------------------------------


class Node:
    """Links of one node on loopback, with what was told of them."""

    def __init__(self, own, local, peers, key=KEY):
        self.events = []
        self.changed = asyncio.Event()
        self.links = Links(own, key, local, peers, Callbacks(self.note("up"), self.note("heard"), *self.rest()))

    def note(self, kind):
        def told(*what):
            self.events.append((kind, *what))
            self.changed.set()

        return told

    def rest(self):
        return self.note("down"), self.note("strange")

    async def until(self, *event):
        async with asyncio.timeout(5):
            while not any(own[: len(event)] == event for own in self.events):
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.2", 0))
        return sock.getsockname()[1]


def nodes(port, key=KEY):
    a, b = ("127.0.0.1", port), ("127.0.0.2", port)
    return Node("a", a, {"b": b}, key), Node("b", b, {"a": a})


def run(scenario):
    async def all_of_it():
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(all_of_it())


def test_two_nodes_find_each_other_whichever_starts_first(port):
    async def scenario():
        a, b = nodes(port)
        await a.links.start()
        await b.links.start()
        await a.until("up", "b")
        await b.until("up", "a")
        assert a.links.send("b", b"from a")
        assert b.links.send("a", b"from b")
        await b.until("heard", "a", b"from a")
        await a.until("heard", "b", b"from b")
        await b.links.close()
        await a.until("down", "b", "closed", True)
        assert not a.links.send("b", b"into the void")
        await a.links.close()

    run(scenario)


def test_what_was_sent_before_the_end_arrives(port):
    async def scenario():
        a, b = nodes(port)
        await b.links.start()
        await a.links.start()
        await b.until("up", "a")
        b.links.send("a", b"resign")
        await b.links.close()
        await a.until("heard", "b", b"resign")
        await a.links.close()

    run(scenario)


def test_a_link_that_is_lost_is_made_anew(port):
    async def scenario():
        a, b = nodes(port)
        await b.links.start()
        await a.links.start()
        await b.until("up", "a")
        b.events.clear()
        a.links.cut("b", "silent")
        await a.until("down", "b", "silent", False)
        await b.until("down", "a")
        await b.until("up", "a")
        await a.links.close()
        await b.links.close()

    run(scenario)


def test_nodes_with_different_secrets_have_no_link_and_say_why(port):
    async def scenario():
        a, b = nodes(port, OTHER)
        await b.links.start()
        await a.links.start()
        await a.until("strange", "127.0.0.2", "the other node has another secret")
        assert not any(kind == "up" for kind, *_ in a.events + b.events)
        await a.links.close()
        await b.links.close()

    run(scenario)


def test_a_half_open_link_gives_way_to_the_one_that_is_proved_anew(port):
    async def scenario():
        a, b = nodes(port)
        await b.links.start()
        await a.links.start()
        await b.until("up", "a")
        again = Node("a", ("127.0.0.1", port), {"b": ("127.0.0.2", port)})  # the machine came back; no FIN was sent
        b.events.clear()
        await again.links.start()
        await b.until("down", "a", "replaced")
        await b.until("up", "a")
        assert b.links.is_up("a")
        await a.links.close()
        await again.links.close()
        await b.links.close()

    run(scenario)


def test_strangers_neither_disturb_the_link_nor_pile_up(port):
    async def scenario():
        a, b = nodes(port)
        await b.links.start()
        await a.links.start()
        await b.until("up", "a")
        crowd = [await asyncio.open_connection("127.0.0.2", port) for _ in range(9)]
        await b.until("strange", "127.0.0.1", "too many strangers at once")
        crowd[0][1].write(b"\0\4junk")
        await b.until("strange", "127.0.0.1", "not the greeting of a node")
        assert a.links.send("b", b"still here")
        await b.until("heard", "a", b"still here")
        assert ("down", "a") not in {event[:2] for event in b.events}
        for _, writer in crowd:
            writer.close()
        await a.links.close()
        await b.links.close()

    run(scenario)


def test_only_nodes_addresses_are_talked_to(port):
    async def scenario():
        _, b = nodes(port)
        await b.links.start()
        _, writer = await asyncio.open_connection("127.0.0.2", port, local_addr=("127.0.0.3", 0))
        await b.until("strange", "127.0.0.3", "not a node's address")
        writer.close()
        await b.links.close()

    run(scenario)


@pytest.mark.slow
def test_who_proves_nothing_is_sent_away_in_time(port):
    async def scenario():
        _, b = nodes(port)
        await b.links.start()
        reader, writer = await asyncio.open_connection("127.0.0.2", port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        await b.until("strange", "127.0.0.1", "no proof in time")
        writer.close()
        await b.links.close()

    run(scenario)


def test_a_port_that_is_taken_is_told(port):
    async def scenario():
        _, b = nodes(port)
        with socket.socket() as sock:
            sock.bind(("127.0.0.2", port))
            sock.listen()
            with pytest.raises(OSError, match="in use"):
                await b.links.start()

    run(scenario)
