"""What the documents name exists."""

import argparse
import ast
import re
from pathlib import Path

import pytest

from config.load import parse
from proxy.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| [^|]+ \| `([^`]+)` \| `([^`]+)` \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "ARCHITECTURE.md").read_text())


def test_the_table_of_changes_has_its_rows():
    assert len(ROWS) > 25


@pytest.mark.parametrize(("path", "name"), ROWS)
def test_each_place_named_to_change_something_exists(path, name):
    tree = ast.parse((ROOT / path).read_text())
    defined = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    targets = [node.targets for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    targets += [[node.target] for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    defined |= {target.id for found in targets for target in found if isinstance(target, ast.Name)}
    assert name in defined


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"])
def test_each_file_that_a_document_names_exists(document):
    text = (ROOT / document).read_text()
    named = set(re.findall(r"\]\(([\w./-]+)\)", text)) | set(
        re.findall(r"`((?:proxy|config|ha|tests|benchmarks|docs|deploy)/[\w./-]*)`", text)
    )
    assert {name for name in named if not (ROOT / name).exists()} == set()


COMMAND = re.compile(r"(?:^|`|\) )tandem ([a-z]+(?: [a-z]+)?(?: \| [a-z]+)*)", re.MULTILINE)


def choices(parser):
    """The commands of a parser, each with its own parser."""
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return found[0] if found else {}


@pytest.mark.parametrize(
    "path", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_each_command_that_a_document_names_exists(path):
    known = choices(build_parser())
    for named in COMMAND.findall(path.read_text()):
        first, *others = named.split(" | ")
        command, *word = first.split()
        assert command in known, named
        inner = choices(known[command])
        if word and inner:  # as in `tandem ha status | handover`; else the word is an argument
            assert {word[0], *others} <= inner.keys(), named
        else:
            assert {*others} <= known.keys(), named


SITE = '[[site]]\nlisten = ":8080"\nupstream = "127.0.0.1:8081"\n'


@pytest.mark.parametrize("document", ["docs/caching.md", "docs/pair.md"])
def test_each_example_is_accepted_with_a_site_and_without_a_warning(document, tmp_path):
    (tmp_path / "ha.key").write_text(64 * "0")
    (tmp_path / "ha.key").chmod(0o600)
    text = (ROOT / document).read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(examples) > 5
    for example in examples:
        loaded = parse((SITE + example).encode(), document, tmp_path)
        doubts = [str(one) for one in loaded.warnings if "no peer link" not in str(one)]  # keepalived has none
        assert not doubts, (example, doubts)


def test_the_examples_of_mirrors_are_accepted_without_a_warning(tmp_path):
    first, *others = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/mirrors.md").read_text(), re.DOTALL)
    assert others
    for example in (first, *(first + other for other in others)):
        assert not parse(example.encode(), "docs/mirrors.md", tmp_path).warnings


def test_each_make_target_in_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
