"""Stored responses in one SQLite file: what a worker's cache has on disk. Synchronous; one thread owns it (disk.py).

A file of SQLite's and not of ours: it is consistent after a kill at any moment, and damage shows as an error, where a
store that is mapped into memory would take the process along. Each row carries the response as encoding.py writes it,
under its digest, so that a row that is no longer what was written is not there. Nothing in it depends on the
configuration. Full means full: what was longest unused leaves first, and the file has a bound of its own beside that.

Invariant: a key and its selecting fields have one row, the last that was put.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from proxy.cache.encoding import Undecodable, decode, encode
from proxy.policy.freshness import current_age

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from config.units import MonoTime, WallTime
    from proxy.http.stored import StoredResponse

VERSION: Final = 1  # of the tables below; another one's file is begun anew
LEAST: Final = 8 * 2**20  # bytes of disk below which it is not worth a file
_PAGE: Final = 4096
_FULL: Final = 0.95  # of the pages that may be used: from here on rows leave, until
_ROOM: Final = 0.9  # of them are in use
_AT_ONCE: Final = 64  # rows that leave in one step

_TABLES: Final = """
CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL, variant BLOB NOT NULL, used INTEGER NOT NULL,
                      outdated INTEGER NOT NULL);
CREATE UNIQUE INDEX by_key ON entries (key, variant);
CREATE INDEX by_use ON entries (used);
CREATE TABLE bodies (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE tags (tag BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (tag, id)) WITHOUT ROWID;
CREATE INDEX by_id ON tags (id);
CREATE TRIGGER left AFTER DELETE ON entries BEGIN
  DELETE FROM bodies WHERE id = old.id;
  DELETE FROM tags WHERE id = old.id;
END;
"""


_DELETE: Final = "DELETE FROM entries WHERE {}"
_OUTDATE: Final = "UPDATE entries SET outdated = 1 WHERE {}"


class Named(Protocol):
    """What a purge of many looks at: of a stored response in memory, or of a row."""

    @property
    def key(self) -> bytes: ...
    @property
    def tags(self) -> tuple[bytes, ...]: ...


class _Row:
    __slots__ = ("_db", "_id", "key")

    def __init__(self, db: sqlite3.Connection, row: int, key: bytes) -> None:
        self._db = db
        self._id = row
        self.key = key

    @property
    def tags(self) -> tuple[bytes, ...]:
        return tuple(tag for (tag,) in self._db.execute("SELECT tag FROM tags WHERE id = ?", (self._id,)))


class ShelfError(Exception):
    """The file cannot be used; `damaged`: because of what is in it, and not of rights, space or another owner."""

    def __init__(self, why: str, *, damaged: bool) -> None:
        super().__init__(why)
        self.damaged = damaged


def variant_of(stored: StoredResponse) -> bytes:
    """Names a variant among those of its key."""
    return blake2b(msgspec.msgpack.encode(stored.selecting), digest_size=8).digest() if stored.selecting else b""


class Shelf:
    """The file, opened for this process alone. Every method may raise ShelfError."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._use = 0
        self.entries = 0  # rows
        self._db = self._open()
        self.resize(limit)

    def _open(self) -> sqlite3.Connection:
        try:
            # SQLite gives its side files the rights of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self.path.chmod(0o600)
        except OSError as problem:
            raise ShelfError(f"{self.path}: {problem.strerror}", damaged=False) from problem
        db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with _translated(self.path):
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
                if not db.execute("PRAGMA user_version").fetchone()[0]:
                    db.execute(f"PRAGMA page_size = {_PAGE}")
                    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                self._make_tables(db)
                self._use, self.entries = db.execute("SELECT coalesce(max(used), 0), count(*) FROM entries").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def _make_tables(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        if version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise ShelfError(f"{self.path}: another program's or version's", damaged=True)
        db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT")

    def resize(self, limit: int) -> None:
        """The file has at most so many bytes from now on; the journal beside it comes out of them too."""
        journal = min(32 * 2**20, limit // 4)
        self._most = max(64, (max(limit, LEAST) - journal) // _PAGE)
        with _translated(self.path):
            self._db.execute(f"PRAGMA journal_size_limit = {journal}")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {max(64, journal // 4 // _PAGE)}")
            self._db.execute(f"PRAGMA max_page_count = {self._most}")
            self.make_room()

    # ---- one step of writing -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """What follows until `commit` comes all or not at all."""
        with _translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")

    def sync(self) -> None:
        """What was committed outlasts a loss of power."""
        with _translated(self.path):
            self._db.execute("PRAGMA wal_checkpoint(FULL)").fetchall()

    def commit(self) -> None:
        with _translated(self.path):
            self._db.execute("COMMIT")

    def roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
                (self.entries,) = self._db.execute("SELECT count(*) FROM entries").fetchone()

    def fits(self, size: int) -> bool:
        """A response of so many bytes is not more than its share."""
        return size <= self._most * _PAGE // 4

    def put(self, stored: StoredResponse, *, wall: WallTime, mono: MonoTime) -> None:
        """In place of what the variant had; rows leave for it first where the file is full."""
        data = encode(stored, wall=wall, mono=mono)
        with _translated(self.path):
            self.drop(stored.key, variant_of(stored))
            self.make_room(len(data))
            self._use += 1
            row = self._db.execute(
                "INSERT INTO entries (key, variant, used, outdated) VALUES (?, ?, ?, 0)",
                (stored.key, variant_of(stored), self._use),
            ).lastrowid
            self.entries += 1
            self._db.execute("INSERT INTO bodies VALUES (?, ?)", (row, data))
            self._db.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, row) for tag in stored.tags])

    def drop(self, key: bytes, variant: bytes) -> None:
        with _translated(self.path):
            gone = self._db.execute("DELETE FROM entries WHERE key = ? AND variant = ?", (key, variant))
        self.entries -= gone.rowcount

    def purge_key(self, key: bytes, *, soft: bool) -> None:
        """And keys that only add lines to it: what a configuration or a trusted hop has added in an earlier life need
        not be known any more. A hop that ends TLS asks under http for what its clients know as https.
        """
        self._purge("key = ?", key, soft=soft)
        for whole in {key, key.replace(b"https://", b"http://", 1)}:
            self._purge("key > ? AND key < ?", whole + b"\n", whole + b"\x0b", soft=soft)

    def purge_tag(self, tag: bytes, *, soft: bool) -> None:
        self._purge("id IN (SELECT id FROM tags WHERE tag = ?)", tag, soft=soft)

    def purge_where(self, matches: Callable[[Named], bool], *, soft: bool) -> None:
        """All that matches; of a row, its key and tags are known."""
        with _translated(self.path):
            rows = self._db.execute("SELECT id, key FROM entries").fetchall()
            found = [(row,) for row, key in rows if matches(_Row(self._db, row, key))]
            self._db.executemany(_OUTDATE.format("id = ?") if soft else _DELETE.format("id = ?"), found)
        if not soft:
            self.entries -= len(found)

    def _purge(self, where: str, *values: bytes, soft: bool) -> None:
        with _translated(self.path):
            gone = self._db.execute((_OUTDATE if soft else _DELETE).format(where), values)
        if not soft:
            self.entries -= gone.rowcount

    def used(self, key: bytes) -> None:
        """The key was of use: it leaves later."""
        self._use += 1
        with _translated(self.path):
            self._db.execute("UPDATE entries SET used = ? WHERE key = ?", (self._use, key))

    def make_room(self, size: int = 0) -> None:
        """What was longest unused leaves, until so many bytes fit."""
        need = size // _PAGE
        if self._pages() + need <= _FULL * self._most:
            return
        while self._pages() + need > _ROOM * self._most:
            gone = self._db.execute(
                "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY used LIMIT ?)", (_AT_ONCE,)
            )
            if not gone.rowcount:
                return
            self.entries -= gone.rowcount

    # ---- reading -----------------------------------------------------------------------------------------------------

    def load(
        self, key: bytes, most: int, *, wall: WallTime, mono: MonoTime
    ) -> tuple[list[StoredResponse], list[bytes]]:
        """The newest responses of a key, oldest first, and the variants of those that were not what was written."""
        with _translated(self.path):
            rows = self._db.execute(
                "SELECT variant, outdated, data FROM entries JOIN bodies USING (id) WHERE key = ?"
                " ORDER BY id DESC LIMIT ?",
                (key, most),
            ).fetchall()
        found, damaged = [], []
        for variant, outdated, data in reversed(rows):
            try:
                stored = decode(data, wall=wall, mono=mono)
            except Undecodable:
                damaged.append(variant)
                continue
            if stored.key != key or variant_of(stored) != variant:
                damaged.append(variant)
                continue
            if outdated:
                stored.outdate(current_age(stored, mono))
            found.append(stored)
        return found, damaged

    def endings(self, most: int) -> list[bytes]:
        """What keys have behind their addresses, each once, at most so many."""
        with _translated(self.path):
            rows = self._db.execute(
                "SELECT DISTINCT substr(key, instr(key, x'0a')) FROM entries WHERE instr(key, x'0a') > 0 LIMIT ?",
                (most,),
            )
            return [bytes(ending) for (ending,) in rows]

    def _pages(self) -> int:
        """Pages in use."""
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free)

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._db.close()

    # `bytes` means this below, as in store.py.
    @property
    def bytes(self) -> int:
        """Bytes of the pages in use."""
        with _translated(self.path):
            return self._pages() * _PAGE


class _translated:  # noqa: N801 - reads as a word in `with`; a class is half the price of a generator
    """SQLite's errors as ours."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, problem: BaseException | None, _trace: object) -> None:
        if isinstance(problem, sqlite3.Error):
            name = getattr(problem, "sqlite_errorname", "")
            # Locked by another process, full, no rights, the disk's own errors: the file is not to blame.
            outside = name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_CANTOPEN"))
            outside = outside or name.startswith(("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_NOMEM"))
            raise ShelfError(f"{self._path}: {problem} ({name})", damaged=not outside) from problem


def set_aside(path: Path) -> Path:
    """A file that cannot be used is out of the way, under another name; an earlier one in its place is gone."""
    aside = path.with_name(path.name + ".damaged")
    for end in ("-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + end).unlink()
    path.replace(aside)
    return aside


def files_of(path: Path) -> Iterator[Path]:
    """The file and what SQLite keeps beside it."""
    for end in ("", "-wal", "-shm"):
        yield path.with_name(path.name + end)
