"""What the library does with texts, and what it leaves to programs that we start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.firewall import nftables, ruleset
from proxy.firewall.nftables import FirewallError, Nftables
from tests.firewall.conftest import options


def test_a_program_that_is_executed_gets_no_socket_of_the_table(yard):
    def look():
        owner = Nftables()
        try:
            kept = [int(entry.name) for entry in Path("/proc/self/fd").iterdir() if entry.is_socket()]
            inheritable = [fd for fd in kept if os.get_inheritable(fd)]
            return len(kept), inheritable
        finally:
            owner.close()

    count, inheritable = yard.gateway.call(look)
    assert count
    assert inheritable == []


def test_hundreds_of_refused_texts_leave_the_library_well(yard):
    """It has assertions that end the process; what we do with it is none of those."""

    def try_them():
        owner = Nftables()
        try:
            for _ in range(30):
                for text in ("garbage", "delete table inet nothing\n", "table inet t { chain c { foo } }"):
                    with pytest.raises(FirewallError):
                        owner.run(text)
                    with pytest.raises(FirewallError):
                        nftables.try_out(text)
            owner.run(ruleset.table(ruleset.interception(options())))
            owner.run(ruleset.removal())
        finally:
            owner.close()

    yard.gateway.call(try_them)


def test_a_text_that_is_refused_is_told_in_one_line_and_changes_nothing(yard):
    def refused():
        owner = Nftables()
        try:
            with pytest.raises(FirewallError) as fault:
                owner.run("table inet first { }\ntable inet second { chain c { nonsense } }")
            return str(fault.value), owner.run("list tables")
        finally:
            owner.close()

    said, tables = yard.gateway.call(refused)
    assert "syntax error" in said
    assert "\n" not in said
    assert "first" not in tables
