"""`tandem user`, as people use it: the file it leaves, what it says, and how it ends."""

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import bcrypt
import pytest

from proxy.users.htpasswd import check_password, parse_passwords

ROOT = str(Path.cwd())
CHEAP = bcrypt.hashpw(b"old", bcrypt.gensalt(4)).decode()


def tandem(*words, cwd, given="", expect=0):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "proxy", "user", *words],
        cwd=cwd,
        input=given,
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        start_new_session=True,  # no terminal to ask on
    )
    assert done.returncode == expect, done.stderr
    return done.stdout + done.stderr


def names_in(folder):
    return [one.name for one in folder.iterdir()]


def users_in(path):
    return parse_passwords(path.read_bytes(), "u").hashes


def test_a_user_is_added_changed_listed_and_removed(tmp_path):
    file = tmp_path / "users.htpasswd"
    assert "anna added to users.htpasswd" in tandem("add", "anna", "--stdin", cwd=tmp_path, given="one\n")
    assert check_password(users_in(file)["anna"], b"one")
    assert file.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP) == 0
    assert "has another password" in tandem("add", "anna", "--stdin", cwd=tmp_path, given="two")
    assert check_password(users_in(file)["anna"], b"two")
    assert tandem("list", cwd=tmp_path) == "anna  bcrypt\n"
    assert "removed" in tandem("remove", "anna", cwd=tmp_path)
    assert users_in(file) == {}
    assert "has no user anna" in tandem("remove", "anna", cwd=tmp_path, expect=1)
    assert names_in(tmp_path) == ["users.htpasswd"]


def test_a_change_keeps_mode_owner_other_lines_and_links(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text(f"# ours\nben:{CHEAP}\n")
    real.chmod(0o640)
    link.symlink_to(real)
    tandem("add", "anna", "--stdin", "--file", str(link), cwd=tmp_path, given="one\n")
    assert link.is_symlink()
    assert real.read_text().startswith(f"# ours\nben:{CHEAP}\nanna:$2b$10$")
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_file_that_others_could_read_is_theirs_no_more(tmp_path):
    file = tmp_path / "users.htpasswd"
    file.write_text("")
    file.chmod(0o644)
    tandem("add", "anna", "--stdin", cwd=tmp_path, given="one\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("words", "given", "status", "said"),
    [
        (("add", "a:b", "--stdin"), "x", 2, "a user's name has"),
        (("add", "anna", "--stdin"), "", 1, "the password is empty"),
        (("add", "anna", "--stdin"), "x" * 80, 1, "at most 72"),
        (("add", "anna"), "", 2, "no terminal to ask on; give the password by --stdin"),
        (("add", "anna", "--stdin", "--file", "no/where"), "x", 1, "No such file or directory"),
        (("add", "anna", "--stdin", "--file", "folder"), "x", 1, "is no file"),
        (("list",), "", 1, "No such file or directory"),
        (("remove", "anna"), "", 1, "No such file or directory"),
        (("frobnicate",), "", 2, "invalid choice"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line_and_leaves_nothing_behind(tmp_path, words, given, status, said):
    (tmp_path / "folder").mkdir()
    assert said in tandem(*words, cwd=tmp_path, given=given, expect=status)
    assert names_in(tmp_path) == ["folder"]


def test_faulty_lines_are_listed_with_their_numbers(tmp_path):
    (tmp_path / "users.htpasswd").write_text(f"anna:{CHEAP}\nben:secret\n")
    said = tandem("list", cwd=tmp_path, expect=1)
    assert "anna  bcrypt" in said
    assert "users.htpasswd:2: user ben has a password in clear or DES-crypt" in said
    assert "secret" not in said


def type_in(tmp_path, *lines):
    """Runs `user add anna` on a terminal and types these lines: (exit status, what the terminal shows)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(
            sys.executable,
            [sys.executable, "-P", "-m", "proxy", "user", "add", "anna"],
            {**os.environ, "PYTHONPATH": ROOT},
        )
    shown = b""
    for line in lines:
        before = shown.count(b": ")
        while shown.count(b": ") == before:
            shown += os.read(terminal, 4096)
        os.write(terminal, line.encode() + b"\n")
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # its end
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_the_password_is_asked_for_twice_and_not_shown(tmp_path):
    status, shown = type_in(tmp_path, "hidden", "hidden")
    assert status == 0, shown
    assert "Password of anna: " in shown
    assert "hidden" not in shown
    assert check_password(users_in(tmp_path / "users.htpasswd")["anna"], b"hidden")


def test_two_different_passwords_change_nothing(tmp_path):
    status, shown = type_in(tmp_path, "hidden", "hiddem")
    assert status == 1
    assert "two different passwords" in shown
    assert names_in(tmp_path) == []
