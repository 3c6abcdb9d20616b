"""Disks that are full, fail or may not be written: an error with its remedy, every commit kept, a resume ends well.

Run as a script, `test_full_disk.py DIRECTORY`, in a file system of a few hundred kB that is mounted there.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import arrays_and_last_checkpoint, in_memory, seen, small_chunks, write

from particles import durable
from particles.errors import StorageError
from particles.record.disk import DiskStore, check_free

ROOT = Path(__file__).parents[2]
LAST = 6
NAMES = ("write", "write_at", "cut", "sync", "rename", "make")
REMEDIES = {
    errno.ENOSPC: "free some space and resume",
    errno.EIO: "take another path",
    errno.EROFS: "take another path",
}


def failing(patch, code, operations):
    """Let the disk fail from one of the next operations on; a write is half done."""
    count = iter(range(10**9))

    def wrapped(name, good):
        def called(path, *rest):
            if next(count) < operations:
                return good(path, *rest)
            if name in ("write", "write_at"):
                data = b"".join(bytes(part) for part in rest[-1])
                good(path, *rest[:-1], [data[: len(data) // 2]])
            raise OSError(code, os.strerror(code), str(path))

        return called

    for name in NAMES:
        patch.setattr(durable, name, wrapped(name, getattr(durable, name)))


def fail_everywhere(folder, monkeypatch, every):
    small_chunks(monkeypatch)
    monkeypatch.setattr(durable, "sync", lambda path: None)
    write(folder / "whole.run", LAST)
    expected = arrays_and_last_checkpoint(folder / "whole.run")
    for code, remedy in REMEDIES.items():
        operations, failed = 0, 0
        while failed is not None:
            path, finished = folder / f"{code}.{operations}.run", False
            with monkeypatch.context() as patch:
                failing(patch, code, operations)
                try:
                    write(path, LAST)
                    finished = True
                except StorageError as error:
                    said = str(error)
            if finished:
                break
            assert remedy in said
            state = seen(path)
            assert state is None or state[0] == "tiny"
            write(path, LAST)
            assert arrays_and_last_checkpoint(path) == expected, (code, operations)
            operations += every
        assert operations > 100


def test_a_disk_that_fails_at_any_operation(tmp_path, monkeypatch):
    with in_memory(tmp_path) as folder:
        fail_everywhere(folder, monkeypatch, every=37)


@pytest.mark.slow
def test_a_disk_that_fails_at_every_operation(tmp_path, monkeypatch):
    with in_memory(tmp_path) as folder:
        fail_everywhere(folder, monkeypatch, every=1)


def room(root):
    disk = os.statvfs(root)
    return disk.f_bavail * disk.f_frsize


def fill_up(root):
    """On a real small disk: full at several moments, freed, resumed; then read-only."""
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch)
        before = room(root)
        write(root / "whole.run", LAST)
        needed = before - room(root)
        expected = arrays_and_last_checkpoint(root / "whole.run")
        path, ballast, states = root / "a.run", root / "ballast", []
        for tenths in range(10):
            shutil.rmtree(path, ignore_errors=True)
            ballast.write_bytes(bytes(room(root) - needed * tenths // 10))
            with pytest.raises(StorageError, match=f"the disk is full.*{REMEDIES[errno.ENOSPC]}"):
                write(path, LAST)
            states.append(seen(path))
            ballast.unlink()
            write(path, LAST)
            assert arrays_and_last_checkpoint(path) == expected
        assert len(set(states)) >= 3, states  # in the creation, and after some commits
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        assert seen(path)[1] == LAST + 1
        for attempt in (lambda: DiskStore.open(path, writable=True), lambda: write(root / "b.run", LAST)):
            with pytest.raises(StorageError, match="cannot be read or written"):
                attempt()
        check_free(root / "b.run")
    print("as it should be")


def test_a_real_disk_that_is_full_or_read_only(tmp_path):
    mounted = f"mount -t tmpfs -o size=600k none {tmp_path}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mounted], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a disk; the errors that are injected above stand for it")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mounted} && exec {sys.executable} {__file__} {tmp_path}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "as it should be" in done.stdout


if __name__ == "__main__":
    fill_up(Path(sys.argv[1]))
