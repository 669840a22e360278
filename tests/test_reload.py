"""Both phases of a reload, as a matter of who has answered what by when."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.candidate import Candidate, CandidateError
from proxy.reload import PREPARE_LIMIT, TAKE_OVER_LIMIT, Ask, Commit, Idle, Refuse, Reload, TakingOver, Wait

NEW = Candidate(7, "digest", None, (), -1, {}, {})
NAMES = ("worker-0", "worker-1", "admin")


def started(read=lambda: NEW):
    """A reload whose reading is through."""
    reload, through = Reload("tandem.toml"), threading.Event()
    reload.start(read, through.set)
    assert through.wait(10)
    return reload


def asked():
    reload = started()
    reload.asked(NAMES, 100.0)
    return reload


def test_while_it_is_read_there_is_nothing_to_do():
    reload, release, through = Reload("x"), threading.Event(), threading.Event()
    reload.start(lambda: release.wait(10) and NEW, through.set)
    assert reload.next(0.0) == Wait()
    release.set()
    assert through.wait(10)
    assert reload.next(0.0) == Ask(NEW)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(CandidateError("a.toml:1:1: bad"), "a.toml:1:1: bad"), (MemoryError("x"), "tandem.toml: MemoryError: x")],
)
def test_what_cannot_be_read_is_refused_with_its_reason(error, reason):
    def read():
        raise error

    assert started(read).next(0.0) == Refuse(reason)


def test_where_nothing_has_changed_nobody_is_asked():
    assert started(lambda: None).next(0.0) == Idle()


def test_all_commit_when_the_last_has_prepared():
    reload = asked()
    for name in NAMES:
        assert reload.next(101.0) == Wait()
        assert reload.answered(name, 7)
    assert reload.next(101.0) == Commit(NEW)


def test_with_nobody_to_ask_it_is_committed():
    reload = started()
    reload.asked((), 100.0)
    assert reload.next(100.0) == Commit(NEW)


def test_one_refusal_refuses_it_for_all():
    reload = asked()
    reload.answered("admin", 7)
    reload.answered("worker-1", 7, "no such key")
    assert reload.next(101.0) == Refuse("no such key", NEW)


def test_the_death_of_one_that_was_asked_refuses_it():
    reload = asked()
    reload.answered("admin", 7)
    reload.died("admin", "exit 1")
    assert reload.next(101.0) == Refuse("admin died while preparing (exit 1)", NEW)


def test_the_death_of_another_is_no_matter():
    reload = asked()
    reload.died("worker-9", "exit 1")
    assert reload.next(101.0) == Wait()
    waiting = started()
    waiting.died("admin", "exit 1")  # before it was asked
    assert waiting.next(0.0) == Ask(NEW)


def test_silence_ends_it_and_the_silent_are_named():
    reload = asked()
    reload.answered("worker-0", 7)
    assert reload.next(99.9 + PREPARE_LIMIT) == Wait()
    assert reload.next(100.0 + PREPARE_LIMIT) == Refuse("no answer within 60 s from admin, worker-1", NEW)


@pytest.mark.parametrize(("name", "generation"), [("worker-0", 6), ("worker-9", 7), ("worker-0", 8)])
def test_answers_to_another_question_do_not_count(name, generation):
    reload = asked()
    assert not reload.answered(name, generation)
    assert not reload.answered(name, generation, "no")
    assert reload.next(101.0) == Wait()


@given(st.permutations(NAMES), st.sets(st.sampled_from(NAMES)))
def test_it_is_committed_only_if_everybody_agrees_in_whatever_order(order, refusing):
    reload = asked()
    for name in order:
        reload.answered(name, 7, "no" if name in refusing else None)
    assert isinstance(reload.next(101.0), Refuse if refusing else Commit)


def test_a_commit_is_over_when_all_have_taken_it_over_whoever_else_says_so():
    taking = TakingOver("tandem.toml", NAMES, 100.0)
    for name in (*NAMES[1:], "worker-9"):
        taking.finished(name)
        assert not taking.is_over(100.0)
    taking.finished(NAMES[0])
    assert taking.is_over(100.0)


def test_nobody_waits_for_ever_for_one_that_hangs():
    taking = TakingOver("tandem.toml", NAMES, 100.0)
    assert not taking.is_over(99.9 + TAKE_OVER_LIMIT)
    assert taking.is_over(taking.deadline)


def test_with_nobody_to_tell_a_commit_is_over_at_once():
    assert TakingOver("tandem.toml", (), 100.0).is_over(100.0)
