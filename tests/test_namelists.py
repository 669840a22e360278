"""Lists of a worker: read once per content, exchanged and let go of between turns of the loop."""

import asyncio
import os
import time

from config.load import accept
from proxy import namelists, parcel
from proxy.service import LongFile

TEXT = '[lists]\ngames = "g"\nads = { file = "a", refresh = "1h" }\n'


def files(**contents):
    return {path: LongFile(f"digest of {data!r}", parcel.seal("list", data)) for path, data in contents.items()}


def read(sources, have=None):
    try:
        return asyncio.run(namelists.read_lists(accept(TEXT.encode(), "t"), sources, have or {}))
    finally:
        for one in sources.values():
            os.close(one.fd)


def test_each_list_has_the_names_of_its_file():
    lists = read(files(g=b"games.test\n", a=b"ads.test\nj u n k\n"))
    assert lists["games"][1].find(("games.test",)) == "games.test"
    assert lists["ads"][1].find(("games.test",)) is None
    assert namelists.describe(lists, {}) == ["list games: 1 names", "list ads: 1 names; 1 line is no name (line 2)"]


def test_a_list_that_is_the_same_is_kept_and_only_the_other_is_told_of():
    before = read(files(g=b"games.test\n", a=b"ads.test\n"))
    after = read(files(g=b"games.test\n", a=b"more.test\n"), before)
    assert after["games"][1] is before["games"][1]
    assert after["ads"][1] is not before["ads"][1]
    assert namelists.gone_from(before, after) == [before["ads"][1]]
    assert namelists.describe(after, before) == ["list ads: 1 names"]


def test_two_lists_of_one_content_are_one():
    lists = read(files(g=b"x.test\n", a=b"x.test\n"))
    assert lists["games"][1] is lists["ads"][1]
    assert namelists.gone_from(lists, {}) == [lists["ads"][1]]


def test_the_loop_goes_on_while_a_long_list_is_read_and_let_go_of():
    content = b"".join(b"0.0.0.0 name%d.test\n" % number for number in range(60_000))

    async def scenario():
        turns = 0
        longest = 0.0
        stop = False

        async def tick():
            nonlocal turns, longest
            last = time.thread_time()  # of this thread: how long others of the machine ran does not count
            while not stop:
                await asyncio.sleep(0)
                now = time.thread_time()
                longest, last = max(longest, now - last), now
                turns += 1

        sources = files(g=content, a=b"")
        ticking = asyncio.create_task(tick())
        lists = await namelists.read_lists(accept(TEXT.encode(), "t"), sources, {})
        assert turns > len(content) // (64 * 2**10)
        await namelists.dissolve([lists["games"][1]])
        stop = True
        await ticking
        for one in sources.values():
            os.close(one.fd)
        assert len(lists["games"][1]) == 0
        return longest

    assert asyncio.run(scenario()) < 0.1  # 2 ms on a quiet machine
