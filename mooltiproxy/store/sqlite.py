"""The store in a file: for the processes of one machine, and over restarts.

One thread of each process does all that touches the file. A batch is one transaction of four statements, since each
statement costs the thread a turn at Python's lock: rows go in and out as JSON.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import date, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, TypeVar
from uuid import uuid4

import orjson

from mooltiproxy.store.addresses import KEPT, Known, Record, changed
from mooltiproxy.store.backend import Answer, Batch, Changes, Seen, StoreDown
from mooltiproxy.store.records import Usage, Used
from mooltiproxy.store.usage import MOST_ROWS, OTHER
from mooltiproxy.store.windows import Counter, Verdict, verdict

try:
    import fcntl
except ImportError:  # Windows has none: SQLite's own locks do it there, less fairly
    fcntl = None  # type: ignore[assignment]

VERSION = 1
"""Of the tables; in the file's `user_version`."""
BUSY = 0.1
"""Seconds to wait for somebody who has locked the file in another way than we do."""
CLEANING = 60.0
"""Seconds between two looks at what has expired."""
RECORDS_AT_ONCE = 1000
MOST_WINDOWS = 500_000
MOST_ADDRESSES = 20_000
USAGE_DAYS = 400
CLOSING = 1.0
"""Seconds that closing may take: what hangs is left alone."""

TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS windows (
    name TEXT PRIMARY KEY, start REAL NOT NULL, now REAL NOT NULL, before REAL NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS windows_expires ON windows (expires);
CREATE TABLE IF NOT EXISTS addresses (
    address TEXT PRIMARY KEY, score REAL NOT NULL, at REAL NOT NULL, until REAL NOT NULL, length REAL NOT NULL,
    times INTEGER NOT NULL, number INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS addresses_number ON addresses (number);
CREATE TABLE IF NOT EXISTS usage (
    day TEXT, key TEXT, model TEXT, requests INTEGER NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
    cost REAL NOT NULL, PRIMARY KEY (day, key, model)
) WITHOUT ROWID;
INSERT OR IGNORE INTO facts VALUES ('epoch', :epoch), ('number', '0');
"""
READ_WINDOWS = """
SELECT json_group_array(json_array(name, start, now, before)) FROM windows
WHERE name IN (SELECT value FROM json_each(?))
"""
WRITE_WINDOWS = """
INSERT OR REPLACE INTO windows
SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?)
"""
ANY_TABLE = "SELECT name FROM sqlite_master"
FACT = "SELECT value FROM facts WHERE name = ?"
READ_ADDRESS = "SELECT score, at, until, length, times FROM addresses WHERE address = ?"
WRITE_ADDRESS = "INSERT OR REPLACE INTO addresses VALUES (?, ?, ?, ?, ?, ?, ?)"
CHANGES = """
SELECT address, score, at, until, length, times, number FROM addresses WHERE number > ? ORDER BY number LIMIT ?
"""
ADD_USAGE = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out, cost = cost + excluded.cost
"""
CLEAN = (
    "DELETE FROM windows WHERE expires < :now",
    "DELETE FROM windows WHERE name IN (SELECT name FROM windows ORDER BY expires DESC LIMIT -1 OFFSET :windows)",
    "DELETE FROM addresses WHERE until < :old AND at < :old AND until + length < :now",
    "DELETE FROM addresses WHERE address IN "
    "(SELECT address FROM addresses ORDER BY until > :now DESC, number DESC LIMIT -1 OFFSET :addresses)",
    "DELETE FROM usage WHERE day < :day",
)

T = TypeVar("T")
_Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any]"]


class SQLiteBackend:
    """A file; `wall` is a clock that all who share it have."""

    def __init__(self, file: Path, wall: Callable[[], float] = time.time) -> None:
        self.name = f"sqlite:{file}"
        self._wall = wall
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._file = _File(file)
        self._thread: threading.Thread | None = None
        self._next_cleaning = 0.0
        self._written = 0

    async def open(self) -> None:
        """Open the file, or make it; raises StoreDown."""
        await self._do(self._file.open)

    async def exchange(self, batch: Batch) -> Answer:
        """Carry out a batch in one transaction; one that is cancelled before its end is rolled back."""
        return await self._do(self._exchange, batch)

    async def usage(self, first: date, last: date) -> list[Usage]:
        """What was used on these days."""
        return await self._do(self._usage, first, last)

    async def close(self) -> None:
        """Close the file."""
        if self._thread is None:
            return
        with suppress(StoreDown, TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self._do(self._file.close)
        self._jobs.put(None)
        self._thread = None

    async def _do(self, function: Callable[..., T], *arguments: Any) -> T:
        """Have the thread call a function; raises StoreDown."""
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs, self._file), name="store", daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((function, arguments, future))
        return await future

    # In the thread.

    def _exchange(self, batch: Batch) -> Answer:
        now = self._wall()
        if not (batch.takes or batch.adds or batch.notes or batch.used):
            with self._file.reading() as db:
                return Answer([], _changes(db, batch.since, now))
        with self._file.writing() as db:
            verdicts = _count(db, batch, now)
            if not 0 < batch.parcel <= self._written:
                _note(db, batch, now)
                _use(db, batch)
            self._clean(db, now)
            answer = Answer(verdicts, _changes(db, batch.since, now))
        self._written = max(batch.parcel, self._written)
        return answer

    def _clean(self, db: sqlite3.Connection, now: float) -> None:
        if 0 <= self._next_cleaning - now < CLEANING:
            return
        self._next_cleaning = now + CLEANING
        day = (date.fromtimestamp(now) - timedelta(days=USAGE_DAYS)).isoformat()
        limits = {"now": now, "old": now - KEPT, "day": day, "windows": MOST_WINDOWS, "addresses": MOST_ADDRESSES}
        for statement in CLEAN:
            db.execute(statement, limits)

    def _usage(self, first: date, last: date) -> list[Usage]:
        with self._file.reading() as db:
            rows = db.execute("SELECT * FROM usage WHERE day BETWEEN ? AND ?", (first.isoformat(), last.isoformat()))
            return [Usage(date.fromisoformat(day), Used(*used)) for day, *used in rows]


def _work(jobs: "SimpleQueue[_Job | None]", file: "_File") -> None:
    """The thread: do one job after the other. One that nobody waits for any more is not begun."""
    while job := jobs.get():
        function, arguments, future = job
        if future.cancelled():
            continue
        file.is_wanted = future
        outcome: Any = None
        error: Exception | None = None
        try:
            outcome = function(*arguments)
        except (sqlite3.Error, OSError) as failed:
            error = StoreDown(getattr(failed, "strerror", None) or str(failed))
        except Exception as failed:  # noqa: BLE001 - it is raised where it is waited for
            error = failed
        with suppress(RuntimeError):  # the loop has been closed
            future.get_loop().call_soon_threadsafe(_settle, future, outcome, error)


def _settle(future: "asyncio.Future[Any]", outcome: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)


class _File:
    """The file itself, in the thread. `is_wanted` is the future of who waits for what is being done."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._db: sqlite3.Connection | None = None
        self._lock: IO[bytes] | None = None
        self._identity: tuple[int, int] | None = None
        self.is_wanted: asyncio.Future[Any] | None = None

    def open(self) -> None:
        """Open it anew; raises StoreDown, OSError, sqlite3.Error."""
        self.close()
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        lock = self._path.with_name(f"{self._path.name}-lock")
        self._lock = os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR, 0o600), "rb")
        self._db = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        self._identity = self._on_disk()
        with self._locked():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION) or (version == 0 and self._db.execute(ANY_TABLE).fetchone()):
                raise StoreDown("the file is not a store of this version: move it away, or name another")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            with self._transaction() as db:
                for statement in TABLES.split(";")[:-1]:
                    db.execute(statement, {"epoch": uuid4().hex})
                db.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Close it."""
        for one in (self._db, self._lock):
            if one is not None:
                one.close()
        self._db = self._lock = None

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """To read, without a lock; raises as `open` does."""
        return nullcontext(self._checked())

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction; raises as `open` does."""
        self._checked()
        with self._locked(), self._transaction() as db:
            yield db
            if self.is_wanted is not None and self.is_wanted.cancelled():
                raise StoreDown("it took too long")

    def _checked(self) -> sqlite3.Connection:
        if self._db is None or self._on_disk() != self._identity:
            raise StoreDown("the file was removed, or another one has taken its place")
        return self._db

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._db
        assert db is not None
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """In line with the other processes: SQLite itself lets them try again and again, and some starve."""
        if fcntl is None or self._lock is None:
            yield
            return
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def _count(db: sqlite3.Connection, batch: Batch, now: float) -> list[Verdict]:
    """Take and add; the verdicts."""
    windows = {window.name: window for wants in batch.takes for window, _ in wants}
    windows |= {window.name: window for window, _ in batch.adds}
    if not windows:
        return []
    (rows,) = db.execute(READ_WINDOWS, (orjson.dumps(list(windows)).decode(),)).fetchone()
    counters = {name: Counter(*row) for name, *row in orjson.loads(rows)}
    for name in windows.keys() - counters.keys():
        counters[name] = Counter(now)
    for window, amount in batch.adds:
        counters[window.name].used(window.seconds, now)
        counters[window.name].add(amount)
    verdicts = [verdict(wants, [counters[window.name] for window, _ in wants], now) for wants in batch.takes]
    written = [
        (name, one.start, one.now, one.before, one.start + 2 * windows[name].seconds) for name, one in counters.items()
    ]
    db.execute(WRITE_WINDOWS, (orjson.dumps(written).decode(),))
    return verdicts


def _note(db: sqlite3.Connection, batch: Batch, now: float) -> None:
    """Write down news of addresses, each with the next number."""
    if not batch.notes:
        return
    last = int(db.execute(FACT, ("number",)).fetchone()[0])
    for number, note in enumerate(batch.notes, last + 1):
        row = db.execute(READ_ADDRESS, (note.address,)).fetchone()
        known = changed(Known(*row) if row else Known(), note, now)
        db.execute(WRITE_ADDRESS, (note.address, *known, number))
    db.execute("UPDATE facts SET value = ? WHERE name = 'number'", (str(last + len(batch.notes)),))


def _use(db: sqlite3.Connection, batch: Batch) -> None:
    """Add to usage. Where a day has as many rows as it may, another model of a key is one of its others."""
    rows = [(day.isoformat(), *_plain(used)) for day, used in batch.used]
    for day in {day for day, *_ in rows}:
        (count,) = db.execute("SELECT count(*) FROM usage WHERE day = ?", (day,)).fetchone()
        if count >= MOST_ROWS:
            known = set(db.execute("SELECT day, key, model FROM usage WHERE day = ?", (day,)))
            rows = [row if row[0] != day or row[:3] in known else (*row[:2], OTHER, *row[3:]) for row in rows]
    db.executemany(ADD_USAGE, rows)


def _changes(db: sqlite3.Connection, since: Seen | None, now: float) -> Changes | None:
    """What has become known of addresses since then, as far as it fits."""
    if since is None:
        return None
    (epoch,) = db.execute(FACT, ("epoch",)).fetchone()
    number = since.number if since.epoch == epoch else 0
    rows = db.execute(CHANGES, (number, RECORDS_AT_ONCE)).fetchall()
    records = [_record(address, Known(*known), now) for address, *known, _ in rows]
    return Changes(Seen(epoch, rows[-1][-1] if rows else number), records, len(rows) == RECORDS_AT_ONCE)


def _record(address: str, known: Known, now: float) -> Record:
    return Record(address, known.score, now - known.at, known.left(now), known.length, known.times)


def _plain(used: Used) -> Used:
    """The same in words that can be written down: what a path says may be no text."""
    key, model = (name.encode("utf-8", "replace").decode() for name in used[:2])
    return used._replace(key=key, model=model)
