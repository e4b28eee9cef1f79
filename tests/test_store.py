"""The store: entries appear whole or not at all, locks die with their process, a refusal of the disk is one line."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from fake_engine import predict, train
from xstilts import store as store_module
from xstilts.errors import Stopped, StoreError
from xstilts.store import Store

MADE = {"versions": {"python": "3"}}


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def put(store, stage, files=None):
    with store.claim(stage.key) as draft:
        if draft is None:
            return None
        for name, text in (files or {"encoder/model.safetensors": "weights", "log.json": "{}"}).items():
            path = draft / "out" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return store.finish(stage, 1.5, MADE, {"dev": 60.0})


def test_finish_and_find(store):
    stage = train("toy")
    assert store.find(stage.key) is None
    folder = put(store, stage)
    assert folder == store.find(stage.key) == store.find_weights(stage.key) == store.entry(stage.key)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["key"] == stage.key and manifest["format"] == 1 and manifest["seconds"] == 1.5
    assert manifest["made"] == MADE and manifest["facts"] == {"dev": 60.0}
    assert manifest["stage"]["type"] == "Train"
    digest = hashlib.sha256(b"weights").hexdigest()
    assert manifest["files"]["encoder/model.safetensors"] == {"bytes": 7, "sha256": digest}
    assert set(manifest["files"]) == {"encoder/model.safetensors", "log.json"}
    assert not store.draft(stage.key).exists()
    assert list(store.keys()) == [stage.key]


def test_a_stage_is_done_once(store):
    put(store, train("toy"))
    with store.claim(train("toy").key) as draft:
        assert draft is None


def test_claim_keeps_state_and_empties_out(store):
    key = train("toy").key
    with store.claim(key) as draft:
        (draft / "state").mkdir()
        (draft / "state" / "half").write_text("x")
        (draft / "out" / "half").write_text("x")
    with store.claim(key) as draft:
        assert (draft / "state" / "half").exists()
        assert list((draft / "out").iterdir()) == []
    assert store.drafts() == (key,)
    assert store.find(key) is None


@pytest.mark.parametrize("harm", ["short", "gone", "manifest", "no manifest"])
def test_truncated_entry_counts_as_missing(store, harm):
    stage = train("toy")
    folder = put(store, stage)
    match harm:
        case "short":
            (folder / "log.json").write_text("")
        case "gone":
            (folder / "log.json").unlink()
        case "manifest":
            (folder / "manifest.json").write_text('{"format": 1')
        case "no manifest":
            (folder / "manifest.json").unlink()
    assert store.find(stage.key) is None
    assert store.find_weights(stage.key) is None
    assert stage.key[:12] in store.broken(stage.key) and "\n" not in store.broken(stage.key)
    put(store, stage)
    assert store.find(stage.key) is not None
    assert store.broken(stage.key) is None


def test_entry_of_a_newer_format_counts_as_missing(store):
    folder = put(store, train("toy"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))
    assert store.find(train("toy").key) is None
    assert "newer" in store.broken(train("toy").key)


def test_crash_between_manifest_and_rename(store, monkeypatch):
    stage = train("toy")

    def crash(draft, entry):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_place", crash)
        with pytest.raises(KeyboardInterrupt):
            put(store, stage)
    assert store.find(stage.key) is None
    with store.claim(stage.key) as draft:
        assert draft is None, "the finished draft is put in its place"
    assert store.find(stage.key) is not None


def test_newer_store(tmp_path):
    (tmp_path / "store.json").write_text('{"format": 2}')
    with pytest.raises(StoreError, match="newer xstilts"):
        Store.open(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}'])
def test_not_a_store(tmp_path, text):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError):
        Store.open(tmp_path)


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match="thesis.tex"):
        Store.open(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError):
        Store.open(tmp_path / "store")


@pytest.mark.parametrize(
    "number, then", [(errno.ENOSPC, "free some space"), (errno.EROFS, "--store"), (errno.EDQUOT, "free some space")]
)
def test_disk_refuses(store, monkeypatch, number, then):
    stage = train("toy")

    def refuse(handle):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match=os.strerror(number)) as caught:
            put(store, stage)
    assert then in str(caught.value)
    assert store.find(stage.key) is None
    assert store.drafts() == (stage.key,), "what was done so far stays"
    assert put(store, stage) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_really_full_and_really_read_only_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        store = Store.open(disk / "store")
        put(store, train("toy"), {"log.json": "{}"})
        with (
            pytest.raises((StoreError, OSError), match="No space left on device"),
            store.claim(train("toy", seed=2).key) as draft,
        ):
            with open(draft / "out" / "log.json", "w") as file:
                file.write("x" * 10_000)
            with open(draft / "out" / "filler", "wb", buffering=0) as file:
                while file.write(b"x" * 512):
                    pass
        assert store.find(train("toy", seed=2).key) is None
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        again = Store.open(disk / "store")
        assert again.find(train("toy").key) is not None, "reading goes on"
        with pytest.raises(StoreError, match="Read-only file system"), again.claim(train("toy", seed=3).key):
            pass
        with pytest.raises(StoreError, match="Read-only file system"):
            Store.open(disk / "other")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_drop_weights(store):
    stage = train("toy")
    folder = put(store, stage)
    assert store.drop_weights(stage.key) == len("weights")
    assert store.find(stage.key) == folder
    assert store.find_weights(stage.key) is None
    assert store.manifest(stage.key)["dropped"]["encoder/model.safetensors"]["bytes"] == 7
    assert not (folder / "encoder" / "model.safetensors").exists() and (folder / "log.json").exists()
    assert store.drop_weights(stage.key) == 0
    with store.claim(stage.key, weights=False) as draft:
        assert draft is None
    with store.claim(stage.key, weights=True) as draft:
        (draft / "out" / "model.safetensors").write_text("new")
        store.finish(stage, 1.0, MADE)
    assert store.find_weights(stage.key) is not None


def test_lock_is_free_after_kill(store):
    code = (
        "import sys, time; from pathlib import Path; from xstilts.store import Store\n"
        "with Store.open(Path(sys.argv[1])).lock('k'):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(store.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert store.busy("k")
    with pytest.raises(Stopped), store.lock("k", stop=lambda: True):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not store.busy("k")
    with store.lock("k"):
        assert store.busy("k")
    assert not store.busy("k")


def test_lock_excludes(store):
    inside, most = [], []

    def use():
        for _ in range(20):
            with store.lock("k"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80 and max(most) == 1


def test_file_hash_reads_a_file_once(store, tmp_path, monkeypatch):
    path = tmp_path / "rows.tsv"
    path.write_text("one")
    assert store.file_hash(path) == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        assert store.file_hash(path) == hashlib.sha256(b"one").hexdigest()
        assert Store.open(store.path).file_hash(path) == hashlib.sha256(b"one").hexdigest(), "a later process knows it too"
    path.write_text("two")
    assert store.file_hash(path) == hashlib.sha256(b"two").hexdigest()
    with pytest.raises(StoreError, match="no.tsv"):
        store.file_hash(tmp_path / "no.tsv")


def test_why_names_the_fields(store):
    first, second = train("toy"), train("toy", seed=2)
    put(store, first)
    put(store, predict(first), {"predictions.parquet": "x"})
    store.remember([second])
    why = store.why(second.key[:10])
    assert (why.key, why.stored, why.nearest) == (second.key, False, first.key)
    assert [(d.path, d.here, d.there) for d in why.differences] == [("seed", "2", "1")]
    third = train("other", start=second, steps=9)
    put(store, third)
    why = store.why(predict(third).key) if store.remember([predict(third)]) else store.why(third.key)
    assert why.stored and why.nearest == first.key
    assert {"start.type", "start.recipe.lr", "mix.0.rows.task", "recipe.steps"} <= {d.path for d in why.differences}
    assert store.why(first.key).nearest == third.key


def test_why_refuses(store):
    put(store, train("toy"))
    with pytest.raises(StoreError, match='no stage with key "zz"'):
        store.why("zz")
    with pytest.raises(StoreError):
        store.why("")
    seeds = range(40)
    store.remember([train("toy", seed=seed) for seed in seeds])
    digits = [train("toy", seed=seed).key[0] for seed in seeds]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(StoreError, match="give more digits"):
        store.why(twice)


def test_gc(store):
    first, second = train("toy"), train("toy", seed=2)
    put(store, first)
    put(store, second)
    with store.claim(train("toy", seed=3).key) as draft:
        (draft / "state").mkdir()
    found = store.gc({first.key}, dry_run=True)
    assert found.entries == (second.key,) and found.drafts == (train("toy", seed=3).key,)
    assert found.bytes > 9 and store.find(second.key)
    assert store.gc({first.key}) == found
    assert list(store.keys()) == [first.key] and store.drafts() == ()


def test_gc_waits_for_no_run(store):
    with store.used(), pytest.raises(StoreError, match="in use"):
        store.gc(set())
    with store.alone() as got:
        assert got
        with pytest.raises(StoreError, match="gc"), store.used():
            pass
