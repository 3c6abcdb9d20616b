"""How much memory may be taken: of the machine, and of the cgroups around the process."""

import pytest

from particles import memory
from particles.errors import TooLargeError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 24 GB free of which a test says what its cgroups are."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 32000000 kB\nMemAvailable: 24000000 kB\nHugePages_Total: 0\n")

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return write


FREE = 24_000_000 * 1024


def test_no_cgroup_leaves_what_the_machine_has(machine):
    assert memory.available() == FREE


def test_the_second_version_with_a_limit_on_a_group_above(machine):
    machine("proc/self/cgroup", "0::/job/step\n")
    machine("cgroup/job/step/memory.max", "max\n")
    machine("cgroup/job/step/memory.current", "500\n")
    machine("cgroup/job/step/memory.stat", "inactive_file 100\n")
    machine("cgroup/job/memory.max", "10000\n")
    machine("cgroup/job/memory.current", "5000\n")
    machine("cgroup/job/memory.stat", "anon 3000\ninactive_file 1500\nactive_file 500\n")
    assert memory.available() == 10000 - (5000 - 2000)  # files cached make room


def test_the_first_version_in_a_container_that_sees_its_group_as_the_root(machine):
    machine("proc/self/cgroup", "5:devices:/\n4:memory:/docker/1234\n0::/\n")
    machine("cgroup/memory/memory.limit_in_bytes", "10000\n")
    machine("cgroup/memory/memory.usage_in_bytes", "9000\n")
    machine("cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 1000\ntotal_active_file 0\n")
    assert memory.available() == 2000


def test_a_group_beyond_its_limit_leaves_nothing(machine):
    machine("proc/self/cgroup", "0::/\n")
    machine("cgroup/memory.max", "10000\n")
    machine("cgroup/memory.current", "10001\n")
    machine("cgroup/memory.stat", "")
    assert memory.available() == 0


def test_where_there_is_no_proc_it_is_the_memory_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    assert memory.available() > 2**28


def test_to_the_byte(machine):
    memory.check(FREE, "a cloud")
    with pytest.raises(TooLargeError, match=r"a cloud takes 24.6 GB of memory, 24.6 GB are free: take fewer"):
        memory.check(FREE + 1, "a cloud")
