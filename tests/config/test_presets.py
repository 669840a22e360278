"""What a preset changes, and how a site without a name is called."""

from hypothesis import given
from hypothesis import strategies as st

from config.presets import apply_preset, settle
from config.schema import Site
from config.units import Listen

AT = (Listen("", 80),)


def test_the_tomcat_preset_adds_tomcats_session_whatever_else_is_listed():
    site = settle(Site(listen=AT, preset="tomcat", session_cookies=("mine",), session_arguments=()), 1)
    assert site.session_cookies == ("mine", "JSESSIONID", "JSESSIONIDSSO")
    assert site.session_arguments == ("jsessionid",)


def test_no_preset_changes_nothing():
    site = Site(listen=AT, session_cookies=("mine",))
    assert apply_preset(site) is site


def test_a_site_is_named_by_itself_its_first_host_or_its_number():
    assert settle(Site(listen=AT, name="n", hosts=("h",)), 3).name == "n"
    assert settle(Site(listen=AT, hosts=("h", "i")), 3).name == "h"
    assert settle(Site(listen=AT), 3).name == "site-3"


@given(st.sampled_from(["none", "tomcat"]), st.lists(st.sampled_from(["a", "JSESSIONID"]), max_size=3))
def test_settling_twice_changes_nothing(preset, cookies):
    once = settle(Site(listen=AT, preset=preset, session_cookies=tuple(cookies)), 2)
    assert settle(once, 2) == once
