"""Crashes, shown as SQLite shows them: every disk that a kill or a power cut may leave holds a whole, promised state.

The operations of a writer are recorded once: it creates a run, commits, is killed twice in a commit, resumes, rewinds
and sweeps, spills, changes the set-up, closes, is replaced by force, and meets a disk that fails. Then they are
replayed: cut after each, cut within a write, with any of those lost that were not synced. The same with a barrier taken
out is seen to fail.
"""

import shutil
from contextlib import closing
from dataclasses import replace
from itertools import islice

import pytest
from disk_log import Dead, Log, kills, power_cuts, record
from tiny_run import append, arrays_and_last_checkpoint, in_memory, opened, seen, small_chunks, theta, write

from particles import durable
from particles.errors import ParticlesError, StorageError
from particles.record.disk import DiskStore

LAST = 6
RUN, RECORD = "a.run", "a.run/zarr.json"


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch)
        patch.setattr(durable, "sync", lambda path: None)  # a replay need not wait for the disk
        patch.setattr("particles.record.files._THREADS", 1)  # the same order every time
        yield


@pytest.fixture
def folder(tmp_path):
    with in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A writer's life in a directory, with what it was promised."""
    root = tmp_path_factory.mktemp("recorded")
    path, log = root / RUN, Log()
    log.promise(None)
    with pytest.MonkeyPatch.context() as patch:
        record(log, root, patch)
        note_promises(log, path, patch)
        killed(log, path, lambda operation: operation.path.endswith("checkpoint.1"))  # its name is not safe yet
        records = iter(range(3))
        killed(log, path, lambda operation: operation.place == RECORD and next(records) == 2)  # nor is the new record
        with patch.context() as spill:
            spill.setattr("particles.record.disk._SPILL", 300)  # two frames
            write(path, LAST, "first")
        store = DiskStore.open(path, writable=True)
        store.update_setup({"name": "changed"})
        store.close()
        log.passing = [None]  # the old run has gone and the new one is not there yet
        write(path, LAST // 2, "second", force=True)
        stumbling(log, path)
    return log


def killed(log, path, fatal):
    log.fatal = fatal
    with pytest.raises(Dead):
        write(path, LAST, "first")
    log.fatal, log.dead = (lambda operation: False), False
    log.passing = [seen(path)]  # the commit may have been done, though it did not return


def stumbling(log, path):
    """Two steps on, on a disk that fails once to make the new record safe."""
    with closing(opened(path, "second")) as store:
        step = store.checkpoint()["step"]
        append(store, step + 1, theta(step + 1))
        log.failing = lambda operation: (operation.kind, operation.path) == ("sync", RUN)
        with pytest.raises(StorageError):
            store.commit({"step": step + 1, "theta": theta(step + 1)})
        log.passing = [seen(path)]
        append(store, step + 2, theta(step + 2))
        store.commit({"step": step + 2, "theta": theta(step + 2)})


def note_promises(log, path, patch):
    def noted(good):
        def called(*arguments, **options):
            result = good(*arguments, **options)
            log.promise(seen(path))
            return result

        return called

    for name in ("commit", "rewind", "update_setup"):
        patch.setattr(DiskStore, name, noted(getattr(DiskStore, name)))
    patch.setattr(DiskStore, "create", noted(DiskStore.create))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What each of the runs must end in."""
    root, ends = tmp_path_factory.mktemp("whole"), {}
    for name in ("first", "changed", "second"):
        write(root / name, LAST, name)
        ends[name] = arrays_and_last_checkpoint(root / name)
    return ends


class Checker:
    """Reads disks, each once."""

    def __init__(self, log, root, finished=None):
        self.log, self.root, self.finished = log, root, finished
        self.known = {}

    def wrong(self, count, disk, resume=False):
        """What is wrong with a disk after so many operations of the log; None if nothing."""
        key = disk.key()
        if key not in self.known:
            self.known[key] = self._read(disk, resume)
        state, error = self.known[key]
        return error or (None if state in self.log.allowed(count) else f"after {count} operations: {state}")

    def _read(self, disk, resume):
        path = self.root / "a.run"
        disk.lay_out(self.root)
        try:
            state = seen(path)
            if resume:
                name = state[0] if state else "second"
                write(path, LAST, name)
                assert arrays_and_last_checkpoint(path) == self.finished[name]
            return state, None
        except (ParticlesError, AssertionError) as error:
            return None, f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(self.root)


def wrong_disks(log, disks, root, finished=None, every=1):
    """What is wrong with every so many of the disks; of a resume too, if it is said what that must end in."""
    checker = Checker(log, root / "disk", finished)
    found = [checker.wrong(count, disk, finished is not None) for count, disk in islice(disks, 0, None, every)]
    return [each for each in found if each]


def test_a_kill_leaves_a_whole_promised_state(log, folder):
    assert not wrong_disks(log, kills(log), folder, every=7)


def test_a_power_cut_leaves_a_whole_promised_state(log, folder):
    assert not wrong_disks(log, power_cuts(log, seed=0, drawn=1), folder, every=7)


def test_a_resume_after_a_crash_ends_in_the_same_bytes(log, folder, finished):
    assert not wrong_disks(log, kills(log), folder, finished, every=60)
    assert not wrong_disks(log, power_cuts(log, seed=1, drawn=1), folder, finished, every=60)


@pytest.mark.slow
def test_every_crash(log, folder, finished):
    assert not wrong_disks(log, kills(log), folder, finished)
    assert not wrong_disks(log, power_cuts(log, seed=2, drawn=2), folder, finished)


# The same without a barrier: what the checker must be able to see.


def without(log, dropped):
    """The log of a writer that does not wait for some of its syncs."""
    kept = [(k, operation) for k, operation in enumerate(log.operations) if not dropped(operation)]
    before = {at: sum(k < at for k, _ in kept) for at, _ in log.promises}
    return Log([operation for _, operation in kept], [(before[at], states) for at, states in log.promises])


def record_first(log):
    """The log of a writer that puts the new record in its place, synced, before it writes what the record speaks of."""
    operations, last = list(log.operations), 0
    for at, _ in log.promises:
        commit = operations[last:at]
        of_record = [k for k, operation in enumerate(commit) if RECORD in (operation.place, operation.path)]
        if of_record and last:
            first = min(k for k, operation in enumerate(commit) if operation.place == RECORD) - 2
            operations[last:at] = commit[first:] + commit[:first]
        last = at
    return replace(log, operations=operations)


@pytest.mark.parametrize(
    ("dropped", "seen_as"),
    [
        (lambda operation: operation.kind == "sync", "after"),
        (lambda operation: operation.kind == "sync" and ".c." in operation.path, "Damaged"),
        (lambda operation: operation.kind == "sync" and "." in operation.path.removeprefix(RUN), "Damaged"),
        (lambda operation: operation.kind == "sync" and "." not in operation.path.removeprefix(RUN), "after"),
        (lambda operation: operation.kind == "sync" and operation.path == RUN, "after"),
    ],
    ids=["all", "chunks", "files", "directories", "the directory of the record"],
)
def test_a_missing_barrier_is_seen(log, folder, dropped, seen_as):
    other = without(log, dropped)
    wrong = wrong_disks(other, islice(power_cuts(other, seed=0, drawn=1), 400), folder, every=3)
    assert any(seen_as in each for each in wrong)


def test_a_record_before_its_data_is_seen(log, folder):
    other = record_first(log)
    assert any("Damaged" in each for each in wrong_disks(other, kills(other), folder, every=15))
