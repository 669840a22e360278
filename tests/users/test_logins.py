"""Logins: remembered, proved, held up. The clock is a number; proofs are run by hand."""

import base64

import bcrypt
import pytest

from proxy.users import logins
from proxy.users.htpasswd import parse_passwords
from proxy.users.logins import Known, Logins, Refused, Why

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
OTHER = bcrypt.hashpw(b"changed", bcrypt.gensalt(4)).decode()
HERE = "192.168.8.50"


def said(user, password="secret"):
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


class Bench:
    """Logins whose proofs wait until they are run."""

    def __init__(self, users=("anna", "ben"), hashed=HASH):
        self.now = 1000.0
        self.work = []
        self.proofs = 0
        self.logins = Logins(lambda work, then: self.work.append((work, then)), lambda: self.now, 300.0)
        self.adopt(users, hashed)

    def adopt(self, users, hashed=HASH):
        self.logins.adopt(parse_passwords("".join(f"{user}:{hashed}\n" for user in users).encode(), "u"))

    def run(self):
        while self.work:
            work, then = self.work.pop(0)
            self.proofs += 1
            then(work())

    def ask(self, credentials, address=HERE):
        later = []
        answer = self.logins.ask(credentials, address, self.now, later.append)
        if answer is None:
            self.run()
            (answer,) = later
        return answer


def test_who_gives_the_right_password_is_known_and_remembered():
    bench = Bench()
    assert bench.ask(said("anna")) == Known("anna", 1300.0)
    bench.now += 299
    assert bench.ask(said("anna")) == Known("anna", 1300.0)
    assert bench.proofs == 1
    bench.now += 2
    assert bench.ask(said("anna")) == Known("anna", 1601.0)
    assert bench.proofs == 2


@pytest.mark.parametrize("credentials", [said("anna", "wrong"), said("nobody")])
def test_wrong_passwords_and_unknown_users_are_proved_alike(credentials):
    bench = Bench()
    answer = bench.ask(credentials)
    assert isinstance(answer, Refused)
    assert answer.why is Why.WRONG
    assert bench.proofs == 1


def test_no_credentials_or_malformed_ones_cost_no_proof():
    bench = Bench()
    assert bench.ask(None) == Refused(Why.NONE)
    assert bench.ask(b"Basic ?") == Refused(Why.MALFORMED)
    assert bench.proofs == 0


def test_equal_credentials_at_once_are_proved_once():
    bench = Bench()
    answers = []
    for _ in range(5):
        assert bench.logins.ask(said("anna"), HERE, bench.now, answers.append) is None
    bench.run()
    assert answers == [Known("anna", 1300.0)] * 5
    assert bench.proofs == 1


def test_more_proofs_than_can_be_done_soon_are_turned_away():
    bench = Bench()
    for number in range(logins.MOST_WAITING):
        assert bench.logins.ask(said(f"user{number}"), HERE, bench.now, lambda _: None) is None
    refused = bench.logins.ask(said("anna"), HERE, bench.now, lambda _: None)
    assert refused is not None
    assert refused.why is Why.BUSY
    bench.run()
    assert isinstance(bench.ask(said("anna"), "192.168.8.51"), Known)


# ---- changes of the file ---------------------------------------------------------------------------------------------


def test_a_login_ends_with_its_user_or_password():
    bench = Bench()
    bench.ask(said("anna"))
    bench.ask(said("ben"))
    bench.adopt(["anna"], OTHER)
    assert bench.ask(said("anna")).why is Why.WRONG
    assert bench.ask(said("ben")).why is Why.WRONG
    assert bench.ask(said("anna", "changed")) == Known("anna", 1300.0)


def test_a_reload_without_change_keeps_logins():
    bench = Bench()
    bench.ask(said("anna"))
    bench.adopt(["anna", "carl"])
    assert isinstance(bench.ask(said("anna")), Known)
    assert bench.proofs == 1


def test_a_proof_under_way_does_not_outlive_the_password():
    bench = Bench()
    answers = []
    bench.logins.ask(said("anna"), HERE, bench.now, answers.append)
    bench.adopt(["anna"], OTHER)
    bench.run()
    assert answers[0].why is Why.WRONG
    assert bench.ask(said("anna")).why is Why.WRONG


def test_a_password_that_was_wrong_is_right_as_soon_as_the_file_has_it():
    bench = Bench(["anna"], OTHER)
    assert bench.ask(said("anna")).why is Why.WRONG
    bench.adopt(["anna"], HASH)
    assert isinstance(bench.ask(said("anna")), Known)


# ---- guessing --------------------------------------------------------------------------------------------------------


def test_the_same_wrong_words_again_cost_no_proof_and_hold_nobody_up():
    bench = Bench()
    for _ in range(50):
        assert bench.ask(said("anna", "old")).why is Why.WRONG
    assert bench.proofs == 1
    assert isinstance(bench.ask(said("anna")), Known)


def test_guesses_are_held_up_for_longer_and_longer():
    bench = Bench()
    holds = []
    for number in range(30):
        answer = bench.ask(said("anna", f"guess{number}"))
        if answer.why is Why.HELD:
            holds.append(answer.wait)
            bench.now += answer.wait
            assert bench.ask(said("anna", f"guess{number}")).why is Why.WRONG
    assert holds[0] == pytest.approx(1.0)
    assert holds == sorted(holds)
    assert holds[-1] == logins.LONGEST_HOLD


def test_a_held_try_is_not_looked_at_even_if_it_is_right():
    bench = Bench()
    for number in range(logins.FREE_PER_PAIR):
        bench.ask(said("anna", f"guess{number}"))
    assert bench.ask(said("anna")).why is Why.HELD
    assert isinstance(bench.ask(said("ben")), Known)
    assert isinstance(bench.ask(said("anna"), "192.168.8.51"), Known)


def test_who_is_logged_in_is_not_locked_out_by_guesses_of_others():
    bench = Bench()
    bench.ask(said("anna"))
    for number in range(200):
        bench.ask(said("anna", f"guess{number}"), f"192.168.9.{number}")
    assert bench.ask(said("anna"), "192.168.9.250").user == "anna"
    assert bench.ask(said("anna")) == Known("anna", 1300.0)


def test_one_address_that_tries_many_users_is_held_up():
    bench = Bench()
    answers = [bench.ask(said(f"user{number}")).why for number in range(logins.FREE_PER_ADDRESS + 1)]
    assert set(answers[:-1]) == {Why.WRONG}
    assert answers[-1] is Why.HELD


def test_failures_are_forgotten_and_a_success_clears_them():
    bench = Bench()
    for number in range(logins.FREE_PER_PAIR - 1):
        bench.ask(said("anna", f"guess{number}"))
    bench.ask(said("anna"))
    assert bench.ask(said("anna", "guess")).why is Why.WRONG
    assert bench.ask(said("anna", "another")).why is Why.WRONG
    for number in range(20):
        bench.ask(said("ben", f"guess{number}"))
    bench.now += logins.FORGET + 1
    assert isinstance(bench.ask(said("ben")), Known)


def test_what_is_remembered_is_bounded_and_holds_no_password():
    bench = Bench()
    bench.ask(said("anna"))
    assert not any(b"secret" in key for key in bench.logins._known)
    assert bench.logins._known.maxsize == bench.logins._failures.maxsize == logins.MOST_KNOWN
