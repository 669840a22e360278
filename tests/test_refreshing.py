"""When lists are looked at again."""

from config.load import accept
from proxy.refreshing import Refreshes


def config(text):
    return accept(text.encode(), "t")


def test_a_list_with_refresh_is_due_each_period_and_one_without_never():
    refreshes = Refreshes()
    assert refreshes.next is None
    refreshes.adopt(config('[lists]\na = "a"\nb = { file = "b", refresh = "10s" }\n'), 100.0)
    assert refreshes.next == 110.0
    assert refreshes.take(109.9) == ()
    assert refreshes.take(111.0) == ("b",)
    assert refreshes.next == 121.0


def test_a_reload_does_not_put_off_what_stays_as_it_was():
    refreshes = Refreshes()
    refreshes.adopt(config('[lists]\nb = { file = "b", refresh = "10s" }\n'), 100.0)
    refreshes.adopt(config('[lists]\nb = { file = "b", refresh = "10s" }\nc = { file = "c", refresh = "1s" }\n'), 109.0)
    assert refreshes.take(110.0) == ("b", "c")
    refreshes.adopt(config('[lists]\nb = { file = "b", refresh = "5s" }\n'), 112.0)
    assert refreshes.next == 117.0
    refreshes.adopt(config(""), 113.0)
    assert refreshes.next is None


def test_of_two_lists_of_one_file_the_shorter_period_counts():
    refreshes = Refreshes()
    refreshes.adopt(config('[lists]\na = { file = "x", refresh = "9s" }\nb = { file = "x", refresh = "5s" }\n'), 0.0)
    assert refreshes.take(5.0) == ("x",)
