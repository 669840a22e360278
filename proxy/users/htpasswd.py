"""Password files in htpasswd's format: read, judged line by line, and written again with one user changed. Pure.

bcrypt and SHA-512-crypt are accepted, apr1 with a warning; anything weaker is a fault that names line and user, never
the hash. Also group files as Apache has them, and what a client says of itself (Basic, RFC 7617 §2).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, assert_never

import bcrypt

if TYPE_CHECKING:
    from collections.abc import Mapping

COST = 10  # of new bcrypt hashes: 70 ms each, which a client costs once per lifetime of its login
LONGEST_PASSWORD = 72  # bytes that bcrypt looks at
_MOST_COST = 15  # 2 s; a login must end some time
_MOST_ROUNDS = 1_000_000
_LONGEST = 2048  # bytes of what a client says
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_SHA512 = re.compile(r"\$6\$(?:rounds=([0-9]{1,9})\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}")
_APR1 = re.compile(r"\$apr1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}")
_USER = re.compile(r"[^\x00-\x20\x7f:#][^\x00-\x1f\x7f:]{0,254}")
_WEAK = {  # how they begin, and what they are
    "{SHA}": "SHA-1 without salt",
    "$1$": "MD5-crypt",
    "$5$": "SHA-256-crypt",
    "$argon2": "Argon2, which is not supported",
    "$2": "a bcrypt hash that is cut or not bcrypt's",
    "$6$": "a SHA-512-crypt hash that is cut or not its own",
    "$apr1$": "an apr1 hash that is cut",
}


class Scheme(Enum):
    BCRYPT = "bcrypt"
    SHA512 = "SHA-512-crypt"
    APR1 = "apr1"


@dataclass(frozen=True, slots=True)
class Passwords:
    """The users of one file with their hashes, and one for who is not in it, which no password fits."""

    hashes: Mapping[str, str]
    dummy: str
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def parse_passwords(data: bytes, name: str) -> Passwords:
    """The users in this file; `name` stands in faults. Never raises."""
    hashes: dict[str, str] = {}
    faults: list[str] = []
    warnings: list[str] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            text = line.decode().rstrip("\r")
        except UnicodeDecodeError:
            faults.append(f"{name}:{number}: not UTF-8; save the file as UTF-8")
            continue
        if not text.strip() or text.startswith("#"):
            continue
        user, colon, rest = text.partition(":")
        shown = ascii(user[:64])[1:-1]
        hashed = rest.partition(":")[0].strip()
        if not colon or not _USER.fullmatch(user):
            faults.append(f"{name}:{number}: no user: a line is `user:hash`")
        elif user in hashes:
            faults.append(f"{name}:{number}: user {shown} is given twice")
        elif (wrong := _refuse(hashed)) is not None:
            faults.append(f"{name}:{number}: user {shown} has {wrong}; set it again: tandem user add {shown}")
        else:
            hashes[user] = hashed
            if scheme_of(hashed) is Scheme.APR1:
                warnings.append(
                    f"{name}:{number}: user {shown} has an apr1 hash, which is quick to guess; "
                    f"set it again: tandem user add {shown}"
                )
    return Passwords(hashes, _dummy(hashes), tuple(faults), tuple(warnings))


def scheme_of(hashed: str) -> Scheme | None:
    """The accepted scheme of a hash that is whole; None for all else."""
    if _BCRYPT.fullmatch(hashed):
        return Scheme.BCRYPT
    if _SHA512.fullmatch(hashed):
        return Scheme.SHA512
    return Scheme.APR1 if _APR1.fullmatch(hashed) else None


def _refuse(hashed: str) -> str | None:
    """What the hash is instead of an acceptable one; None if it is one."""
    if found := _BCRYPT.fullmatch(hashed):
        return None if 4 <= int(found[1]) <= _MOST_COST else f"bcrypt at cost {found[1]}; at most {_MOST_COST}"
    if found := _SHA512.fullmatch(hashed):
        many = int(found[1] or 5000) > _MOST_ROUNDS
        return f"SHA-512-crypt with {found[1]} rounds; at most {_MOST_ROUNDS}" if many else None
    if _APR1.fullmatch(hashed):
        return None
    if not hashed:
        return "no password"
    weak = next((what for start, what in _WEAK.items() if hashed.startswith(start)), "a password in clear or DES-crypt")
    return f"{weak}, not bcrypt or SHA-512-crypt"


def _dummy(hashes: Mapping[str, str]) -> str:
    """A hash as dear to check as most of these. No password has it: its own part is no digest of anything."""
    prefixes = Counter(_prefix(hashed) for hashed in hashes.values())
    prefix = prefixes.most_common(1)[0][0] if prefixes else f"$2b${COST:02d}$"
    if prefix.startswith("$2"):
        return prefix + "." * 53
    return f"{prefix}{'.' * 16}${'.' * 86}" if prefix.startswith("$6$") else f"{prefix}{'.' * 8}${'.' * 22}"


def _prefix(hashed: str) -> str:
    """Scheme and cost."""
    if found := _BCRYPT.fullmatch(hashed):
        return f"$2b${found[1]}$"
    if found := _SHA512.fullmatch(hashed):
        return f"$6$rounds={max(1000, int(found[1]))}$" if found[1] else "$6$"
    return "$apr1$"


def check_password(hashed: str, password: bytes) -> bool:
    """Whether it is the password of this hash. Takes as long as the hash asks for: not for the loop."""
    if b"\0" in password:
        return False
    match scheme_of(hashed):
        case Scheme.BCRYPT:
            return bcrypt.checkpw(password[:LONGEST_PASSWORD], hashed.encode())
        case Scheme.SHA512 | Scheme.APR1 as scheme:
            # Loaded only where a file has such a hash: 65 ms, and most have none.
            from passlib.hash import apr_md5_crypt, sha512_crypt  # noqa: PLC0415

            kind = sha512_crypt if scheme is Scheme.SHA512 else apr_md5_crypt
            return bool(kind.verify(password, hashed))
        case None:
            return False
        case unreachable:
            assert_never(unreachable)


# ---- writing ---------------------------------------------------------------------------------------------------------


def hash_password(password: str) -> str:
    """A new bcrypt hash. ValueError, with what is wanted, for what can be no password."""
    data = password.encode("utf-8", "surrogateescape")
    if not data:
        raise ValueError("the password is empty")
    if len(data) > LONGEST_PASSWORD:
        raise ValueError(f"the password has {len(data)} bytes; bcrypt takes at most {LONGEST_PASSWORD}")
    if any(byte < 0x20 or byte == 0x7F for byte in data):
        raise ValueError("the password has a control character")
    return bcrypt.hashpw(data, bcrypt.gensalt(COST)).decode()


def check_user(name: str) -> None:
    """ValueError, with what is wanted, for what can be no user's name."""
    if not _USER.fullmatch(name):
        raise ValueError("a user's name has at most 255 visible characters, no `:`, and no `#` in front")


def change_user(data: bytes, user: str, hashed: str | None) -> tuple[bytes, bool]:
    """The file with this user's hash set, or without the user if it is None; and whether the user was in it. Other
    lines stay as they are, comments too.
    """
    start = user.encode() + b":"
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    at = [number for number, line in enumerate(lines) if line.startswith(start)]
    new = None if hashed is None else start + hashed.encode()
    for number in reversed(at):
        if new is not None and number == at[0]:
            lines[number] = new
        else:
            del lines[number]
    if new is not None and not at:
        lines.append(new)
    return b"".join(line + b"\n" for line in lines), bool(at)


# ---- groups ----------------------------------------------------------------------------------------------------------


def parse_groups(data: bytes, name: str) -> tuple[dict[str, frozenset[str]], tuple[str, ...]]:
    """The members of each group, and what is wrong with the lines: `group: user user`. Never raises."""
    groups: dict[str, frozenset[str]] = {}
    faults: list[str] = []
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        group, colon, members = text.partition(":")
        if not colon or not re.fullmatch(r"[^\s:]{1,64}", group.strip()):
            faults.append(f"{name}:{number}: no group: a line is `group: user user`")
            continue
        group = group.strip()
        groups[group] = groups.get(group, frozenset()) | frozenset(members.split())
    return groups, tuple(faults)


# ---- what a client says ----------------------------------------------------------------------------------------------


def parse_basic(value: bytes) -> tuple[str, bytes] | None:
    """User and password of a (Proxy-)Authorization field's value; None for what is not Basic. Never raises."""
    scheme, _, rest = value.strip().partition(b" ")
    if scheme.lower() != b"basic" or len(value) > _LONGEST:
        return None
    try:
        said = base64.b64decode(rest.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, password = said.partition(b":")
    if not colon:
        return None
    try:
        name = user.decode()
    except UnicodeDecodeError:
        name = user.decode("latin-1")  # what clients sent before RFC 7617 §2.1
    return (name, password) if _USER.fullmatch(name) else None
