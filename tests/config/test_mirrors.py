"""What contradicts among mirrors, each case sound option by option."""

import pytest

from config.load import accept
from config.units import parse_place
from tests.config.test_checks import FORWARD, judge


def mirror(path="/a/", origin="https://a.example/", more=""):
    return f'[[forward.mirror]]\nkind = "deb"\npath = "{path}"\norigin = "{origin}"\n{more}\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (mirror("/"), "forward.mirror[0].path: `/` takes /proxy.pac and /wpad.dat of the proxy itself"),
        (mirror() + mirror(), "forward.mirror[1].path: `/a/` overlaps `/a/` of forward.mirror[0]"),
        (mirror() + mirror("/a/b/"), "forward.mirror[1].path: `/a/b/` overlaps `/a/` of forward.mirror[0]"),
        (mirror("/a/b/") + mirror("/a/"), "forward.mirror[1].path: `/a/` overlaps `/a/b/` of forward.mirror[0]"),
        (mirror(origin="http://127.0.0.1:3128/"), "forward.mirror[0].origin: `http://127.0.0.1:3128/` is this proxy"),
        (mirror(more='files = "http://[::1]:3128"'), "forward.mirror[0].files[0]: `http://[::1]:3128` is this proxy"),
        (mirror("a/"), 'forward.mirror[0].path: "a/" is not accepted'),
        (mirror("/a"), 'forward.mirror[0].path: "/a" is not accepted'),
        (mirror("/../"), 'forward.mirror[0].path: "/../" is not accepted'),
        (mirror(origin="a.example"), 'forward.mirror[0].origin: "a.example" is not accepted'),
        (mirror(origin="ftp://a.example/"), 'forward.mirror[0].origin: "ftp://a.example/" is not accepted'),
        (mirror(origin="https://u@a.example/"), 'forward.mirror[0].origin: "https://u@a.example/" is not accepted'),
        (mirror(origin="https://a.example/?q"), 'forward.mirror[0].origin: "https://a.example/?q" is not accepted'),
        (mirror(origin="https://a.example/../b"), 'forward.mirror[0].origin: "https://a.example/../b" is not accepted'),
        (mirror().replace('"deb"', '"rpm"'), "forward.mirror[0].kind"),
    ],
)
def test_a_contradiction_is_a_fault(text, fault):
    kind, said = judge(FORWARD + text)
    assert kind == "faults"
    assert any(one.startswith(fault) for one in said), said


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            mirror(more='files = ["https://a.example"]'),
            "forward.mirror[0].files[0]: `https://a.example` is given twice",
        ),
        ('parent = "10.0.0.9:3128"\n' + mirror(), "forward.mirror: what is mirrored is reached without `parent`"),
    ],
)
def test_a_doubt_is_a_warning(text, warning):
    assert judge(FORWARD + text) == ("warnings", [warning])


def test_a_token_in_clear_is_a_doubt(tmp_path):
    (tmp_path / "token").write_text("Bearer x\n")
    (tmp_path / "token").chmod(0o600)
    _, said = judge(FORWARD + mirror(origin="http://a.example", more=f'token = "{tmp_path}/token"'))
    assert said == ["forward.mirror[0].token: it is sent to `http://a.example` in clear"]


def test_mirrors_side_by_side_are_fine():
    assert judge(FORWARD + mirror("/a/") + mirror("/ab/") + mirror("/c/d/")) == ("warnings", [])
    assert accept((FORWARD + mirror()).encode(), "t").forward.mirror[0].index == 60.0


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path"),
    [
        ("https://a.example", "https", "a.example", 443, "/"),
        ("HTTP://A.example:8080/x", "http", "a.example", 8080, "/x/"),
        ("https://[fd00::1]/x/y/", "https", "fd00::1", 443, "/x/y/"),
    ],
)
def test_a_place_is_an_origin_and_a_path(text, scheme, host, port, path):
    assert parse_place(text) == ((scheme, host, port), path)
