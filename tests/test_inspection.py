"""`tandem check` looks into the files of forward mode."""

import bcrypt
import pytest

from proxy import cli

TEXT = """
[forward]
listen = ":3128"
clients = "192.168.8.0/24"
users = "users"
groups = "groups"
[[rule]]
name = "games"
match = { mode = "forward", group = "pupils", domain = "list:games" }
action = "deny"
[lists]
games = "games.txt"
"""
HASH = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()


@pytest.fixture
def check(tmp_path, capsys):
    """Writes the files, and gives (exit status, what is said)."""

    def run(users=f"anna:{HASH}\n", groups="pupils: anna\n", games="games.test\n"):
        for name, text in {"tandem.toml": TEXT, "users": users, "groups": groups, "games.txt": games}.items():
            (tmp_path / name).write_text(text)
        (tmp_path / "users").chmod(0o600)
        status = cli.run(["check", "-c", str(tmp_path / "tandem.toml")])
        return status, capsys.readouterr().err

    return run


def test_sound_files_are_fine(check):
    assert check() == (0, "")


def test_a_weak_hash_and_a_line_that_is_no_group_are_faults(check):
    status, said = check(users=f"anna:{HASH}\nben:secret\n", groups="nonsense\n")
    assert status == 1
    assert "users:2: user ben has a password in clear or DES-crypt" in said
    assert "groups:1: no group" in said
    assert "secret" not in said


def test_junk_in_a_list_and_apr1_are_warnings(check):
    status, said = check(users="anna:$apr1$WzDUJGm5$Yz8fsxiHiczkQBRTDXDB60\n", games="a.test\nj u n k\nb.test\n")
    assert status == 0
    assert "warning: games.txt: 1 line is no name (line 2)" in said
    assert "warning: users:1: user anna has an apr1 hash" in said
