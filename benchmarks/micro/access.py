"""CPU of one decision about access, and what a list of 300,000 names costs.

`python benchmarks/micro/access.py` prints, for 1 and 50 rules, the median of many questions in microseconds, and for
the list the memory of this process and the median of a look-up with all names above.
"""

from __future__ import annotations

import random
import statistics
import string
import time
from pathlib import Path

from config.load import accept
from config.units import parse_network
from proxy.modes.access import Access, Question, access_rules, parents_of
from proxy.modes.domains import PIECE, Reader

NAMES = 300_000
RULE = """
[[rule]]
name = "r{n}"
action = "deny"
[rule.match]
mode = "forward"
client = "192.168.{n}.0/24"
domain = ["a{n}.test", "list:big"]
time = "mon-fri 08:00-15:30"
port = [80, 443]
"""


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def names():
    dice = random.Random(7)
    made = set()
    while len(made) < NAMES:
        label = "".join(dice.choices(string.ascii_lowercase + string.digits, k=dice.randint(4, 16)))
        made.add(f"x{label}.{dice.choice(['com', 'net', 'co.uk', 'ads.example.org'])}")
    return sorted(made)


def median(run, asked):
    """Of single calls, in microseconds; the clock's own 0.05 are in it."""
    times = []
    for one in asked * 5:
        begun = time.perf_counter()
        run(one)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def main():
    known = names()
    data = "".join(f"0.0.0.0 {name}\n" for name in known).encode()
    before = resident()
    reader, longest, begun = Reader(), 0.0, time.perf_counter()
    for at in range(0, len(data), PIECE):
        piece = time.perf_counter()
        reader.feed(data[at : at + PIECE])
        longest = max(longest, time.perf_counter() - piece)
    big = reader.end()
    took = time.perf_counter() - begun
    print(
        f"{len(big)} names: {(resident() - before) / 2**20:.0f} MiB, {took:.2f} s, longest step {longest * 1e3:.1f} ms"
    )
    dice = random.Random(1)
    asked = [f"www.below.{name}" for name in dice.sample(known, 5000)] + [f"www.{n}.example.test" for n in range(5000)]
    dice.shuffle(asked)
    print(f"look-up with parents: {median(lambda host: big.find(parents_of(host)), asked):.2f} µs")
    for count in (1, 50):
        text = "".join(RULE.replace("{n}", str(n)) for n in range(count)) + '[lists]\nbig = "big.txt"\n'
        rules = access_rules(accept(text.encode(), "t"), "forward")
        access = Access(rules, [parse_network("192.168.0.0/16")], lists={"big": big})
        questions = [Question(f"192.168.{n % 60}.7", "", host, 80, "GET", 700) for n, host in enumerate(asked)]
        print(f"decision, {count} rules: {median(access.decide, questions):.2f} µs")


if __name__ == "__main__":
    main()
