"""What we are made of is told, the parser first."""

import aiohttp

from proxy import versions


def test_the_parser_is_the_c_one_and_named_with_its_release():
    lines = versions.describe()
    assert lines[0] == f"tandem {versions.version()}"
    assert lines[1].startswith("HTTP parser: C, aiohttp._http_parser, with the llhttp")
    assert lines[1].endswith(f"aiohttp {aiohttp.__version__}")
    assert any(line.startswith("uvloop ") for line in lines)
