"""What requests ask is read as it is meant, or refused with a sentence."""

import pytest
from multidict import MultiDict

from proxy import bus
from proxy.observe.questions import PurgeRequest, list_question


def test_a_purge_request_names_its_target():
    assert PurgeRequest(url="http://a/").target == ("url", "http://a/")
    assert PurgeRequest(prefix="https://a/b").target == ("prefix", "https://a/b")
    assert PurgeRequest(tag="news").target == ("tag", "news")
    assert PurgeRequest(match="/a*").target == ("match", "/a*")
    assert PurgeRequest(all=True).target == ("all", "")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([("url", "http://a/"), ("tag", "x")], "give one of"),
        ([("sort", "colour")], "sort is one of"),
        ([("limit", "0")], "limit is a number up to"),
        ([("colour", "red")], "unknown: colour"),
        ([("url", "nonsense")], "nonsense"),
    ],
)
def test_a_question_that_cannot_be_asked_is_told_with_a_sentence(query, said):
    with pytest.raises(ValueError, match=said):
        list_question(MultiDict(query))


def test_a_list_is_of_everything_by_uses_unless_asked():
    assert list_question(MultiDict()) == bus.List("all", "", "", "hits", 20, False)
    asked = MultiDict(prefix="http://a/", sort="size", limit="5", full="1")
    assert list_question(asked) == bus.List("prefix", "http://a/", "", "size", 5, True)
