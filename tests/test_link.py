"""Questions over a Unix socket get their own answers, in time or not at all."""

import asyncio
import contextlib
import stat

import pytest

from proxy import bus, link
from proxy.link import Link, LinkError


class Answering:
    def __init__(self):
        self.release = asyncio.Event()
        self.seen = []

    async def __call__(self, question):
        self.seen.append(question)
        match question:
            case bus.Status("wait"):
                await self.release.wait()
            case bus.Status("fail"):
                raise RuntimeError("broken on purpose")
            case bus.Status("big"):
                return bus.StatusAnswer({"x": "y" * bus.MAX_FRAME})
            case bus.Purge(number):
                return bus.Purged(number, 1)
        return bus.Done()


def with_server(tmp_path, scenario):
    async def main():
        answering = Answering()
        server = await link.serve(tmp_path / "w.sock", answering)
        connection = await Link.connect(tmp_path / "w.sock")
        try:
            await scenario(connection, answering)
        finally:
            connection.close()
            server.close()

    asyncio.run(main())


def test_each_question_gets_its_own_answer(tmp_path):
    async def scenario(connection, _):
        answers = await asyncio.gather(*(connection.ask(bus.Purge(n, "all", "")) for n in range(200)))
        assert [answer.number for answer in answers] == list(range(200))

    with_server(tmp_path, scenario)


def test_a_slow_question_delays_no_other(tmp_path):
    async def scenario(connection, answering):
        slow = asyncio.ensure_future(connection.ask(bus.Status("wait")))
        assert await connection.ask(bus.Purge(1, "all", "")) == bus.Purged(1, 1)
        assert not slow.done()
        answering.release.set()
        assert await slow == bus.Done()

    with_server(tmp_path, scenario)


def test_more_questions_than_are_answered_at_once_all_get_answers(tmp_path):
    async def scenario(connection, answering):
        asked = [asyncio.ensure_future(connection.ask(bus.Status("wait"), limit=10)) for _ in range(300)]
        while len(answering.seen) < 64:  # noqa: ASYNC110
            await asyncio.sleep(0)
        answering.release.set()
        assert await asyncio.gather(*asked) == [bus.Done()] * 300

    with_server(tmp_path, scenario)


def test_an_error_of_the_answering_side_comes_as_an_answer(tmp_path):
    async def scenario(connection, _):
        assert await connection.ask(bus.Status("fail")) == bus.Failed("RuntimeError: broken on purpose")
        answer = await connection.ask(bus.Status("big"))
        assert isinstance(answer, bus.Failed)
        assert "over the bound" in answer.reason

    with_server(tmp_path, scenario)


def test_no_answer_in_time_is_an_error(tmp_path):
    async def scenario(connection, _):
        with pytest.raises(LinkError, match="no answer within"):
            await connection.ask(bus.Status("wait"), limit=0.02)

    with_server(tmp_path, scenario)


def test_junk_ends_the_connection_and_nothing_else(tmp_path):
    async def scenario(connection, _):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "w.sock"))
        writer.write(b"\xff\xff\xff\xffGET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):  # an end in order, or a reset
            assert await reader.read() == b""
        writer.close()
        assert await connection.ask(bus.Purge(1, "all", "")) == bus.Purged(1, 1)

    with_server(tmp_path, scenario)


def test_the_other_side_going_away_fails_what_is_asked(tmp_path):
    async def main():
        gone = asyncio.Event()

        async def serve(reader, writer):
            await reader.readexactly(4)
            writer.close()
            gone.set()

        server = await asyncio.start_unix_server(serve, tmp_path / "s")
        connection = await Link.connect(tmp_path / "s")
        with pytest.raises(LinkError, match="closed"):
            await connection.ask(bus.Ping())
        assert connection.lost
        with pytest.raises(LinkError, match="lost"):
            await connection.ask(bus.Ping())
        server.close()

    asyncio.run(main())


def test_nobody_listening_is_an_error(tmp_path):
    with pytest.raises(LinkError, match=r"w\.sock"):
        asyncio.run(link.ask_once(tmp_path / "w.sock", bus.Ping()))


def test_the_socket_is_for_its_owner_alone_and_replaces_a_leftover(tmp_path):
    (tmp_path / "w.sock").write_text("left over")

    async def scenario(connection, _):
        mode = (tmp_path / "w.sock").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert await link.ask_once(tmp_path / "w.sock", bus.Purge(5, "all", "")) == bus.Purged(5, 1)

    with_server(tmp_path, scenario)
