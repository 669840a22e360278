"""Password and group files: what is accepted, what is refused and how that is said, and what clients say."""

import base64
import subprocess

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.users.htpasswd import (
    Scheme,
    change_user,
    check_password,
    check_user,
    hash_password,
    parse_basic,
    parse_groups,
    parse_passwords,
    scheme_of,
)

SALT = b"$2b$04$" + b"." * 22  # always the same: tests are named by what it gives
CHEAP = bcrypt.hashpw(b"secret", SALT).decode()


def htpasswd(*flags, password="secret"):
    """The line that Apache's own tool makes."""
    command = ["htpasswd", "-n", "-i", *flags, "anna"]
    made = subprocess.run(command, input=password, capture_output=True, text=True, check=True)
    return made.stdout.strip()


@pytest.mark.parametrize(
    ("flags", "scheme"), [(("-B",), Scheme.BCRYPT), (("-m",), Scheme.APR1), (("-5",), Scheme.SHA512)]
)
def test_what_apaches_tool_writes_is_understood(flags, scheme):
    line = htpasswd(*flags)
    found = parse_passwords(line.encode(), "u")
    assert found.faults == ()
    assert scheme_of(found.hashes["anna"]) is scheme
    assert check_password(found.hashes["anna"], b"secret")
    assert not check_password(found.hashes["anna"], b"Secret")
    assert bool(found.warnings) is (scheme is Scheme.APR1)


@pytest.mark.parametrize(
    ("hashed", "what"),
    [
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1 without salt"),
        ("$1$abcdefgh$irWbblnpmw.5z7wgBnprh0", "MD5-crypt"),
        ("$5$abc$" + "a" * 43, "SHA-256-crypt"),
        ("$argon2id$v=19$m=65536", "Argon2"),
        ("XMouwI3cvP1Dc", "a password in clear or DES-crypt"),
        ("secret", "a password in clear or DES-crypt"),
        ("", "no password"),
        (CHEAP[:-1], "a bcrypt hash that is cut"),
        (CHEAP.replace("$04$", "$31$"), "bcrypt at cost 31; at most 15"),
        ("$6$rounds=999999999$abc$" + "a" * 86, "SHA-512-crypt with 999999999 rounds"),
    ],
)
def test_other_hashes_are_a_fault_that_names_line_and_user_and_not_the_hash(hashed, what):
    found = parse_passwords(f"# first\nanna:{hashed}\n".encode(), "users.htpasswd")
    assert not found.hashes
    assert len(found.faults) == 1
    assert found.faults[0].startswith(f"users.htpasswd:2: user anna has {what}")
    assert "tandem user add anna" in found.faults[0]
    assert not hashed or hashed not in found.faults[0]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"nobody", "no user"),
        (b":" + CHEAP.encode(), "no user"),
        (b"a\x07b:x", "no user"),
        (b"\xff:x", "not UTF-8"),
        (f"anna:{CHEAP}\nanna:{CHEAP}".encode(), "user anna is given twice"),
    ],
)
def test_lines_that_are_none_are_faults(line, what):
    (fault,) = parse_passwords(line, "u").faults
    assert what in fault


def test_comments_blank_lines_line_ends_and_further_fields_do_no_harm():
    found = parse_passwords(f"# all\r\n\r\nanna:{CHEAP}:more\r\nbén ro:{CHEAP}\n".encode(), "u")
    assert list(found.hashes) == ["anna", "bén ro"]
    assert found.faults == ()


@given(st.binary(max_size=400))
def test_no_bytes_make_the_parsers_raise(data):
    parse_passwords(data, "u")
    parse_groups(data, "g")
    parse_basic(data)
    parse_basic(b"Basic " + data)
    parse_basic(b"Basic " + base64.b64encode(data))


@pytest.mark.parametrize(
    "line", [CHEAP, "$6$abc$" + "a" * 86, "$6$rounds=9000$abc$" + "a" * 86], ids=["bcrypt", "sha512", "rounds"]
)
def test_who_is_not_in_the_file_costs_as_much_as_who_is(line):
    found = parse_passwords(f"a:{line}\n".encode(), "u")
    assert scheme_of(found.dummy) is scheme_of(line)
    assert ("rounds=9000" in found.dummy) is ("rounds=9000" in line)
    assert found.dummy[:7] == line[:7] or scheme_of(line) is Scheme.SHA512
    assert not check_password(found.dummy, b"")
    assert scheme_of(parse_passwords(b"", "u").dummy) is Scheme.BCRYPT


def test_a_password_beyond_72_bytes_counts_as_bcrypt_always_counted_it():
    hashed = bcrypt.hashpw(b"x" * 72, SALT).decode()
    assert check_password(hashed, b"x" * 100)
    assert not check_password(CHEAP, b"secret\0")


def test_a_hash_of_no_kind_has_no_password():
    assert not check_password("secret", b"secret")


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_a_new_password_is_one():
    assert check_password(hash_password("Grüße"), "Grüße".encode())


@pytest.mark.parametrize("password", ["", "x" * 73, "ä" * 37, "a\tb", "a\x7f"])
def test_what_can_be_no_password_is_refused(password):
    with pytest.raises(ValueError, match="the password"):
        hash_password(password)


@pytest.mark.parametrize("user", ["", "a:b", " a", "#a", "a\n", "x" * 300])
def test_what_can_be_no_user_is_refused(user):
    with pytest.raises(ValueError, match="a user's name"):
        check_user(user)


def test_a_change_leaves_all_other_lines_alone():
    before = b"# ours\nanna:1\n\nben:2"
    assert change_user(before, "anna", "X") == (b"# ours\nanna:X\n\nben:2\n", True)
    assert change_user(before, "carl", "X") == (b"# ours\nanna:1\n\nben:2\ncarl:X\n", False)
    assert change_user(before, "ben", None) == (b"# ours\nanna:1\n\n", True)
    assert change_user(before, "an", None) == (b"# ours\nanna:1\n\nben:2\n", False)
    assert change_user(b"", "anna", "X") == (b"anna:X\n", False)
    assert change_user(b"a:1\na:2\n", "a", "X") == (b"a:X\n", True)


# ---- groups and clients ----------------------------------------------------------------------------------------------


def test_groups_have_their_members():
    groups, faults = parse_groups(b"# x\npupils: anna ben\nteachers:\npupils: carl\nnonsense\n", "groups")
    assert groups == {"pupils": frozenset({"anna", "ben", "carl"}), "teachers": frozenset()}
    assert faults == ("groups:5: no group: a line is `group: user user`",)


def basic(text):
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (basic(b"anna:se:cret"), ("anna", b"se:cret")),
        (b"bAsIc   " + base64.b64encode(b"anna:"), ("anna", b"")),
        (basic("jürgen:ö".encode()), ("jürgen", "ö".encode())),
        (basic(b"j\xfcrgen:x"), ("jürgen", b"x")),
        (basic(b":x"), None),
        (basic(b"anna"), None),
        (basic(b"an\0na:x"), None),
        (b"Bearer abc", None),
        (b"Basic !!!", None),
        (b"Basic", None),
        (b"", None),
        (basic(b"a:" + b"x" * 4000), None),
    ],
)
def test_what_a_client_says_of_itself(value, said):
    assert parse_basic(value) == said
