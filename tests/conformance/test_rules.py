"""The gaps: rules without a case, and cases about what is no rule."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance.case import NAMES
from tests.conformance.rules import ELSEWHERE, RULES
from tests.conformance.suite import CASES

ROOT = Path(__file__).resolve().parents[2]
ABOUT = {rule for one in CASES for rule in one.rules}


def test_every_rule_has_a_case_or_a_test_elsewhere():
    assert [rule for rule in RULES if rule not in ABOUT and rule not in ELSEWHERE] == []


def test_every_case_is_about_rules_that_there_are():
    assert ABOUT - set(RULES) == set()
    assert [one.id for one in CASES if not one.rules] == []


def test_what_is_tested_elsewhere_is_there_and_is_a_rule():
    for rule, where in ELSEWHERE.items():
        file, _, name = where.partition("::")
        assert rule in RULES
        assert f"\ndef {name}(" in (ROOT / file).read_text(), where


def test_ids_are_told_apart_and_fit_in_a_path():
    ids = [one.id for one in CASES]
    assert len(ids) == len(set(ids))
    assert [one for one in ids if not re.fullmatch(r"[a-z0-9.-]+", one)] == []


def test_a_case_has_a_kind_and_cites_its_section():
    assert {one.kind for one in CASES} == set(NAMES)
    assert [one.id for one in CASES if not re.fullmatch(r"RFC [0-9]{4} §[0-9.]+", one.section)] == []
