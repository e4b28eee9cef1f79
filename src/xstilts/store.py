"""The store: one folder a finished stage, under the stage's key.

Layout below the store's folder:

    store.json               {"format": 1}
    entries/<kk>/<key>/      a finished stage: its files and manifest.json, which was written last
    drafts/<key>/out, state  a stage in work: its files so far, and what it needs to go on
    locks/<key>.lock         held while a process works on a stage; the kernel frees it when the process dies
    cache/                   tokenised rows, file hashes, planned stages: may be deleted at any time

An entry appears by one rename, so a crash leaves no half entry. Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xstilts.canon import plain
from xstilts.errors import Stopped, StoreError
from xstilts.stages import Stage

FORMAT = 1
Manifest = Mapping[str, Any]
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}


def disk_error(error: OSError, path: Path) -> StoreError:
    """The one line for an operating system's refusal: its meaning, where, and what to do."""
    where = error.filename if isinstance(error.filename, str) else str(path)
    meaning = os.strerror(error.errno) if error.errno else str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            then = "free some space and run again: finished stages are kept"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            then = "choose a folder that can be written with --store (or XSTILTS_STORE), or mend its permissions"
        case _:
            then = "finished stages are kept; mend this and run again"
    return StoreError(f"{where}: {meaning}; {then}")


def is_disk_error(error: OSError) -> bool:
    """True when the disk (full, read-only, failing) refused, and not our own logic."""
    return error.errno in _DISK


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which two stages differ; None where one of them has no such field."""

    path: str
    here: str | None
    there: str | None


@dataclass(frozen=True, slots=True)
class Why:
    """What `Store.why` found: the stage asked for, the nearest stored one of its type, and how they differ."""

    key: str
    stored: bool
    stage: Mapping[str, Any]
    nearest: str | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Garbage:
    """What `Store.gc` removed or would remove: keys of entries and drafts, and the bytes they take."""

    entries: tuple[str, ...]
    drafts: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Store:
    """A store in the folder `path`. Make one with `Store.open`."""

    path: Path

    @staticmethod
    def open(path: Path) -> Store:
        """The store in `path`, made when there is none. Raises StoreError: not a store, newer format, cannot be written."""
        path = Path(os.path.abspath(path))
        about = path / "store.json"
        try:
            text = about.read_text(encoding="utf-8")
        except FileNotFoundError:
            return _make(path)
        except OSError as error:
            raise disk_error(error, path) from error
        try:
            form = json.loads(text)["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f'{about} does not read as {{"format": {FORMAT}}}; is this an xstilts store?') from error
        if not isinstance(form, int) or form > FORMAT:
            raise StoreError(f"{path} was made by a newer xstilts (store format {form}, this one reads {FORMAT}); update xstilts")
        return Store(path)

    # ---- looking ----

    def entry(self, key: str) -> Path:
        """Where the finished stage of this key lies, or will lie."""
        return self.path / "entries" / key[:2] / key

    def draft(self, key: str) -> Path:
        """Where the stage of this key is worked on."""
        return self.path / "drafts" / key

    @property
    def cache(self) -> Path:
        """The folder of everything that can be made again."""
        return self.path / "cache"

    def manifest(self, key: str) -> Manifest | None:
        """The manifest of a whole entry, else None."""
        found = _read(self.entry(key))
        return found if isinstance(found, dict) else None

    def find(self, key: str) -> Path | None:
        """The finished stage's folder, or None when there is none or a file of it is missing or of another size."""
        folder = self.entry(key)
        return folder if isinstance(_read(folder), dict) else None

    def find_weights(self, key: str) -> Path | None:
        """As `find`, but None also where the weights were dropped."""
        folder = self.entry(key)
        found = _read(folder)
        return folder if isinstance(found, dict) and not found.get("dropped") else None

    def broken(self, key: str) -> str | None:
        """One line that says what is wrong with an entry that `find` refuses; None when it is whole or not there."""
        found = _read(self.entry(key))
        return f"entry {key[:12]} is damaged: {found}; it is made again when needed" if isinstance(found, str) else None

    def keys(self) -> Iterator[str]:
        """The keys of all entries, whole or not, sorted."""
        root = self.path / "entries"
        for shelf in sorted(root.iterdir()) if root.is_dir() else ():
            yield from sorted(entry.name for entry in shelf.iterdir() if len(entry.name) == 64)

    def drafts(self) -> tuple[str, ...]:
        """The keys of the stages that were begun and not finished."""
        root = self.path / "drafts"
        return tuple(sorted(entry.name for entry in root.iterdir())) if root.is_dir() else ()

    def size(self, key: str) -> int:
        """Bytes on disk of the entry and the draft of a key."""
        return sum(_tree_bytes(folder) for folder in (self.entry(key), self.draft(key)))

    # ---- locks ----

    def busy(self, key: str) -> bool:
        """True while some process works on this stage."""
        path = self.path / "locks" / f"{key}.lock"
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise disk_error(error, path) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    @contextmanager
    def lock(self, key: str, stop: Callable[[], bool] = bool) -> Iterator[None]:
        """Work on a stage alone: waits for the process that holds the lock. Raises Stopped when `stop()` turns true meanwhile.

        The kernel frees the lock when the process dies, however it dies.
        """
        path = self.path / "locks" / f"{key}.lock"
        pause = 0.02
        while True:
            try:
                path.parent.mkdir(exist_ok=True)
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise disk_error(error, self.path) from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The holder before us removed the file: our lock is on a name that is gone. Try again with the new one.
                if _same_file(handle, path):
                    break
            except BlockingIOError:
                if stop():
                    os.close(handle)
                    raise Stopped(f"stopped while waiting for another run to finish stage {key[:12]}") from None
                time.sleep(pause)
                pause = min(0.5, 2 * pause)
            os.close(handle)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)

    @contextmanager
    def claim(self, key: str, weights: bool = False, stop: Callable[[], bool] = bool) -> Iterator[Path | None]:
        """Lock a stage, look again, and give its draft folder to work in; None when it is already there.

        With `weights`, an entry whose weights were dropped does not count. The draft of an earlier,
        interrupted attempt is given as it was left, except that its `out` is empty.
        """
        with self.lock(key, stop):
            there = self.find_weights if weights else self.find
            draft = self.draft(key)
            if there(key) is None and isinstance(_read(draft / "out"), dict):
                _place(draft, self.entry(key))  # a crash came between the manifest and the rename
            if there(key) is not None:
                shutil.rmtree(draft, ignore_errors=True)
                yield None
                return
            try:
                shutil.rmtree(draft / "out", ignore_errors=True)
                (draft / "out").mkdir(parents=True)
            except OSError as error:
                raise disk_error(error, self.path) from error
            yield draft

    @contextmanager
    def used(self) -> Iterator[None]:
        """Say that a run uses the store: `alone` waits for nobody and refuses while any run does."""
        with self._hold(fcntl.LOCK_SH) as got:
            if not got:
                raise StoreError(f"{self.path}: xstilts gc is at work there; run again when it has ended")
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """True while no run uses the store and none can begin; False when one does."""
        with self._hold(fcntl.LOCK_EX) as got:
            yield got

    def in_use(self) -> bool:
        """True while any run uses the store."""
        with self.alone() as got:
            return not got

    @contextmanager
    def _hold(self, mode: int) -> Iterator[bool]:
        try:
            (self.path / "locks").mkdir(exist_ok=True)
            handle = os.open(self.path / "locks" / "store", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise disk_error(error, self.path) from error
        try:
            try:
                fcntl.flock(handle, mode | fcntl.LOCK_NB)
                got = True
            except BlockingIOError:
                got = False
            yield got
        finally:
            os.close(handle)

    # ---- writing ----

    def finish(self, stage: Stage, seconds: float, made: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Path:
        """Make the files in the draft's `out` an entry, and give its folder. Call it inside `claim`.

        `seconds` is the time the stage took, `made` its provenance. The manifest is
        written last, everything is flushed, then the folder is renamed into place. Raises
        StoreError when the disk is full or read-only: nothing is recorded then, the draft stays.
        """
        key = stage.key
        draft = self.draft(key)
        out = draft / "out"
        try:
            files = {str(path.relative_to(out)): _seal(path) for path in sorted(out.rglob("*")) if path.is_file()}
            if not files:
                raise StoreError(f"stage {key[:12]} left no files; this is a defect of xstilts, please report it")
            manifest = {
                "format": FORMAT,
                "key": key,
                "stage": plain(stage),
                "made": made,
                "seconds": round(seconds, 3),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "facts": dict(facts or {}),
                "files": files,
            }
            write_json(out / "manifest.json", manifest)
            _place(draft, self.entry(key))
        except OSError as error:
            raise disk_error(error, self.path) from error
        return self.entry(key)

    def drop_weights(self, key: str) -> int:
        """Delete the weights of an entry but keep its manifest, log and facts; gives the bytes freed."""
        folder = self.entry(key)
        manifest = self.manifest(key)
        if manifest is None:
            return 0
        gone = [name for name in manifest["files"] if name.endswith(".safetensors")]
        if gone:
            files = {name: facts for name, facts in manifest["files"].items() if name not in gone}
            dropped = {name: manifest["files"][name] for name in gone}
            try:
                # The manifest goes first: from here on the entry says that it has no weights, whatever happens.
                write_json(folder / "manifest.json", {**manifest, "files": files, "dropped": dropped})
            except OSError as error:
                raise disk_error(error, self.path) from error
        freed = 0
        for name, facts in {**manifest.get("dropped", {}), **{name: manifest["files"][name] for name in gone}}.items():
            if (folder / name).exists():
                (folder / name).unlink()
                freed += int(facts["bytes"])
        return freed

    def gc(self, keep: set[str], dry_run: bool = False) -> Garbage:
        """Remove the entries and drafts whose key is not in `keep`. Raises StoreError while a run uses the store."""
        with self.alone() as got:
            if not got:
                raise StoreError(f"{self.path} is in use by a run; collect garbage when it has ended")
            entries = tuple(key for key in self.keys() if key not in keep)
            drafts = tuple(key for key in self.drafts() if key not in keep)
            size = sum(_tree_bytes(self.entry(key)) for key in entries) + sum(_tree_bytes(self.draft(key)) for key in drafts)
            try:
                for key in () if dry_run else entries:
                    # Out of the way by one rename, so that a crash leaves no half entry.
                    aside = self.draft(key) / "replaced"
                    aside.parent.mkdir(parents=True, exist_ok=True)
                    shutil.rmtree(aside, ignore_errors=True)
                    self.entry(key).rename(aside)
                    shutil.rmtree(self.draft(key))
                for key in () if dry_run else drafts:
                    shutil.rmtree(self.draft(key), ignore_errors=True)
            except OSError as error:
                raise disk_error(error, self.path) from error
        return Garbage(entries, drafts, size)

    # ---- the index in cache/ ----

    @cached_property
    def _index(self) -> sqlite3.Connection | None:
        """The index of file hashes and planned stages; None where the store cannot be written."""
        try:
            self.cache.mkdir(exist_ok=True)
            base = sqlite3.connect(self.cache / "index.sqlite", timeout=30, isolation_level=None, check_same_thread=False)
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=OFF")  # only a cache
            base.execute("CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, size INT, mtime INT, sha256 TEXT)")
            base.execute("CREATE TABLE IF NOT EXISTS planned (key TEXT PRIMARY KEY, stage TEXT)")
        except (OSError, sqlite3.Error):
            return None
        weakref.finalize(self, base.close)
        return base

    def file_hash(self, path: Path) -> str:
        """SHA-256 of a file's contents, 64 hexadecimal digits; read again only when its size or time has changed.

        Raises StoreError when the file cannot be read.
        """
        try:
            name, stat = os.path.abspath(path), os.stat(path)
            asked = (name, stat.st_size, stat.st_mtime_ns)
            if self._index is not None:
                known = self._index.execute("SELECT sha256 FROM hashes WHERE path=? AND size=? AND mtime=?", asked).fetchone()
                if known is not None:
                    return str(known[0])
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise StoreError(f"{path}: {os.strerror(error.errno or 0)}") from error
        if self._index is not None:
            try:
                self._index.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)", (*asked, digest))
            except sqlite3.OperationalError:
                return digest  # a full or read-only disk only costs the next plan some time
        return digest

    def remember(self, stages: Iterable[Stage]) -> None:
        """Note planned stages, so that `why` can explain one that was never run."""
        rows = [(stage.key, json.dumps(plain(stage), sort_keys=True)) for stage in stages]
        if self._index is None or not rows:
            return
        try:
            self._index.execute("BEGIN")
            self._index.executemany("INSERT OR IGNORE INTO planned VALUES (?, ?)", rows)
            self._index.execute("COMMIT")
        except sqlite3.OperationalError:
            return

    # ---- explaining ----

    def why(self, key: str) -> Why:
        """The nearest stored stage of the same type as the stage of `key` (or of a key that begins so), and where they differ.

        Raises StoreError when no stored or planned stage has that key, or several have.
        """
        stored = {name: manifest for name in self.keys() if (manifest := self.manifest(name)) is not None}
        planned: dict[str, str] = {}
        if self._index is not None:
            query = "SELECT key, stage FROM planned WHERE substr(key, 1, ?) = ?"
            planned = dict(self._index.execute(query, (len(key), key)).fetchall())
        matches = sorted({name for name in stored if name.startswith(key)} | set(planned))
        if not key or not matches:
            raise StoreError(f'no stage with key "{key}" in {self.path}; xstilts plan STUDY and scores.csv show keys')
        if len(matches) > 1:
            raise StoreError(f'"{key}" begins {len(matches)} keys; give more digits ({matches[0][: len(key) + 8]}, ...)')
        full = matches[0]
        stage: Mapping[str, Any] = stored[full]["stage"] if full in stored else json.loads(planned[full])
        mine = flat(stage)
        near: tuple[int, str, tuple[Difference, ...]] | None = None
        for name, manifest in stored.items():
            other = manifest["stage"]
            if name == full or other["type"] != stage["type"]:
                continue
            theirs = flat(other)
            paths = [path for path in {**mine, **theirs} if mine.get(path) != theirs.get(path)]
            if near is None or len(paths) < near[0]:
                near = (len(paths), name, tuple(Difference(path, mine.get(path), theirs.get(path)) for path in paths))
        return Why(full, full in stored, stage, near[1] if near else None, near[2] if near else ())


def _make(path: Path) -> Store:
    try:
        path.mkdir(parents=True, exist_ok=True)
        strangers = [name for name in os.listdir(path) if not name.startswith(("store.json", "."))]
        if strangers and not (path / "store.json").exists():
            raise StoreError(
                f"{path} is no store and not empty (it holds {strangers[0]}); name an empty or new folder with --store"
            )
        write_json(path / "store.json", {"format": FORMAT})
        for name in ("entries", "drafts", "locks", "cache"):
            (path / name).mkdir(exist_ok=True)
    except OSError as error:
        raise disk_error(error, path) from error
    return Store(path)


def _read(folder: Path) -> dict[str, Any] | str | None:
    """The manifest of a whole entry; what is wrong with it as text; None when there is no entry."""
    path = os.path.join(folder, "manifest.json")
    try:
        with open(path, "rb") as file:
            manifest = json.loads(file.read())
        if manifest["format"] > FORMAT:
            return f"its format {manifest['format']} is newer than this xstilts"
        for name, facts in manifest["files"].items():
            size = os.stat(os.path.join(folder, name)).st_size
            if size != facts["bytes"]:
                return f"{name} has {size} bytes, not {facts['bytes']}"
    except FileNotFoundError as error:
        if error.filename != path:
            return f"{os.path.relpath(str(error.filename), folder)} is missing"
        return "it has no manifest" if folder.is_dir() and folder.parent.parent.name == "entries" else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest cannot be read ({' '.join(str(error).split())})"
    return manifest if isinstance(manifest, dict) else "its manifest is no table"


def _seal(path: Path) -> dict[str, int | str]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest}


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is either the old one or the whole new one, flushed to the disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _place(draft: Path, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    if entry.exists():  # damaged, or without its weights: the new one takes its place
        shutil.rmtree(draft / "replaced", ignore_errors=True)
        entry.rename(draft / "replaced")
    (draft / "out").rename(entry)
    # The files are flushed, the rename is not: should the power fail now, the stage is simply done again.
    shutil.rmtree(draft, ignore_errors=True)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def flat(value: object, path: str = "") -> dict[str, str]:
    """Every leaf of a JSON value under its dotted path."""
    match value:
        case dict():
            items: Iterable[tuple[str, object]] = value.items()
        case list():
            items = ((str(place), item) for place, item in enumerate(value))
        case _:
            return {path: json.dumps(value, ensure_ascii=False)}
    leaves: dict[str, str] = {}
    for name, item in items:
        leaves.update(flat(item, f"{path}.{name}" if path else name))
    return leaves
