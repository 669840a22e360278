"""Files that the configuration names: readable, regular, and secrets closed to others."""

import os
import subprocess

import pytest

from config.files import check_files, locate
from proxy.observe.gate import LEAST_TOKEN, find_token, parse_tokens


def leaf(kind, text, *path):
    return [(kind, path or ("x",), text)]


def test_a_readable_file_is_fine(tmp_path):
    (tmp_path / "a").write_text("a")
    assert check_files(leaf("file", "a"), tmp_path) == []
    assert check_files(leaf("file", str(tmp_path / "a")), tmp_path) == []


def test_a_missing_file_is_told_where_it_was_looked_for(tmp_path):
    (problem,) = check_files(leaf("file", "a"), tmp_path)
    assert problem.what == '"a" cannot be read: no such file or directory'
    assert str(tmp_path / "a") in problem.hint


def test_a_missing_token_file_is_told_how_to_make_it_and_that_makes_it(tmp_path):
    (problem,) = check_files(leaf("secret", "t", "admin", "tokens", "file"), tmp_path)
    made = problem.hint.removeprefix("make it by: ")
    shown = subprocess.run(["/bin/sh", "-c", made], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert check_files(leaf("secret", "t", "admin", "tokens", "file"), tmp_path) == []
    (token,) = parse_tokens((tmp_path / "t").read_text())
    assert len(shown.strip()) >= LEAST_TOKEN
    assert find_token([token], shown.strip()) is token


def test_folders_and_pipes_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert [one.what for one in check_files(leaf("file", "pipe") + leaf("file", "."), tmp_path)] == [
        '"pipe" is no file',
        '"." is no file',
    ]


@pytest.mark.parametrize(
    ("mode", "sound"), [(0o600, True), (0o640, True), (0o644, False), (0o602, False), (0o601, False)]
)
def test_a_secret_is_closed_to_others(tmp_path, mode, sound):
    """Hardening: secrets that are readable by others stop the start."""
    key = tmp_path / "key"
    key.write_text("k")
    key.chmod(mode)
    found = check_files(leaf("secret", "key"), tmp_path)
    assert (found == []) is sound
    assert check_files(leaf("file", "key"), tmp_path) == []


def test_files_are_located_from_the_folder_of_the_configuration(tmp_path):
    leaves = leaf("file", "a") + leaf("secret", "/b") + leaf("output", "c")
    assert locate(leaves, tmp_path, "file") == {"a": tmp_path / "a"}
    assert list(locate(leaves, tmp_path, "secret").values()) == [tmp_path.joinpath("/b")]
