"""Questions over ha.sock are answered, nonsense is refused, and only the owner may ask."""

import asyncio
import json
import stat

import pytest

from ha import control


async def ask(path, data):
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return json.loads(answer) if answer else None


async def echo(question):
    return {"ok": True, **question}


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b'{"command": "status"}\n', {"ok": True, "command": "status"}),
        (b"junk\n", {"ok": False, "error": "not a question"}),
        (b"[1]\n", {"ok": False, "error": "not a question"}),
        (b'{"command": 1}\n', {"ok": False, "error": "not a question"}),
    ],
)
def test_a_question_gets_its_answer(tmp_path, data, answer):
    async def scenario():
        path = tmp_path / control.SOCKET
        path.touch()  # a leftover
        server = await control.serve(path, echo)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await ask(path, data) == answer
        server.close()

    asyncio.run(scenario())
