"""Commands without a file, as the file that they stand for.

`tandem reverse :80 http://127.0.0.1:8080` is parsed and checked as that text, and `--print-config` prints it: there is
one way into the configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.render import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "command line"  # in place of the file's name in faults


def build_reverse(
    listen: Sequence[str], origins: Sequence[str], *, preset: str = "none", memory: str = "", admin: str = ""
) -> str:
    """TOML of one site on these addresses in front of these origins; what is empty keeps its default."""
    lines = ["[[site]]", f"listen = {_texts(listen)}", f"upstream = {_texts(origins)}"]
    if preset != "none":
        lines.append(f"preset = {quote(preset)}")
    return "\n".join([*lines, *_others(memory, admin)]) + "\n"


def build_forward(
    listen: Sequence[str], clients: Sequence[str], *, private: Sequence[str] = (), memory: str = "", admin: str = ""
) -> str:
    """TOML of a forward proxy on these addresses for these networks; what is empty keeps its default."""
    lines = ["[forward]", f"listen = {_texts(listen)}", f"clients = {_texts(clients)}"]
    if private:
        lines.append(f"allow_private = {_texts(private)}")
    return "\n".join([*lines, *_others(memory, admin)]) + "\n"


def build_transparent(
    interface: str,
    clients: Sequence[str],
    *,
    method: str = "redirect",
    https: str = "splice",
    memory: str = "",
    admin: str = "",
) -> str:
    """TOML of a gateway's proxy for clients of these networks behind this interface."""
    lines = ["[transparent]", f"interface = {quote(interface)}", f"clients = {_texts(clients)}"]
    if method != "redirect":
        lines.append(f"method = {quote(method)}")
    if https != "splice":
        lines.append(f"https = {quote(https)}")
    return "\n".join([*lines, *_others(memory, admin)]) + "\n"


def _others(memory: str, admin: str) -> list[str]:
    lines = []
    if memory:
        lines += ["", "[cache]", f"memory = {quote(memory)}"]
    if admin:
        lines += ["", "[admin]", f"listen = {quote(admin)}"]
    return lines


def _texts(values: Sequence[str]) -> str:
    if len(values) == 1:
        return quote(values[0])
    return f"[{', '.join(quote(value) for value in values)}]"
