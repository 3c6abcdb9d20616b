"""Sweeps: the same bits on any executor, and nothing but its own cell is lost by an error, a kill or a stop."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from thread_world import on_ranks

import particles as pt
from particles.cli import main
from particles.errors import (
    ArgumentError,
    DamagedRunError,
    MissingExtraError,
    RunMismatchError,
    ShapeError,
    StorageError,
    SweepError,
    UnknownNameError,
)
from particles.kernels import threads
from particles.record.cells import HEAD
from particles.study import read_summary
from particles.sweeps import read

GRID = {"gamma": [0.5, 1.0], "m": [32, 64]}


# What is swept. Workers import this module, so that these are functions of it.


def displacement(gamma, m, seed):
    """A small simulation: a number and an array."""
    data = pt.data.circle(n=8, teachers=2, seed=0)
    cloud = pt.Cloud.gaussian(m, 2, bias=False, seed=seed)
    recorder = pt.record.Recorder(pt.at_times([0.5, 1.0]), ["risk", "displacement_rms"])
    run = pt.simulate(cloud, data, scaling=pt.Scaling(gamma), t_end=1.0, recorders=recorder, progress=False)
    return {"rms": run.displacement_rms[-1], "risk": run.risk}


def product(a, b, seed):
    return a * b + seed


def noted(a, seed, folder, broken=(), killed=()):
    """a + seed; each call leaves a note; some raise, and some kill their process."""
    with (Path(folder) / "calls").open("a") as calls:
        calls.write(f"{a} {seed}\n")
    if (Path(folder) / "mended").exists():
        return a + seed
    if a in broken:
        raise KeyError(a)
    if a in killed:
        os.kill(os.getpid(), signal.SIGKILL)
    return a + seed


def killed_once(a, seed, folder):
    """a, but the first call for a = 2 kills its process."""
    if a == 2 and not (Path(folder) / "killed").exists():
        (Path(folder) / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return a


def threads_seen(a, seed):
    return threads.count()


def calls(folder):
    path = Path(folder) / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(tuple(map(int, line.split())) for line in lines)


def script(folder, text):
    path = Path(folder) / "program.py"
    path.write_text(textwrap.dedent(text))
    return path


def environment():
    """That of a program which imports this module."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}


def run(starter, program, folder):
    """Run a program, what dask and MPI change in a process staying there; it imports what is swept."""
    lines = ["import particles as pt", "from test_sweeps import GRID, displacement", 'if __name__ == "__main__":']
    text = "\n".join([*lines, textwrap.indent(textwrap.dedent(program), "    ")])
    words = [*starter, script(folder, text)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def serial():
    return pt.sweep(displacement, GRID, 2, executor="serial")


# What comes out.


def test_the_data_set_has_every_cell_in_its_place(serial):
    assert serial.rms.dims == ("gamma", "m", "seed")
    assert serial.risk.dims == ("gamma", "m", "seed", "risk_0")
    assert serial.risk.shape == (2, 2, 2, 3)
    for gamma in GRID["gamma"]:
        for m in GRID["m"]:
            for seed in (0, 1):
                found = displacement(gamma, m, seed)
                place = serial.sel(gamma=gamma, m=m, seed=seed)
                assert place.rms == found["rms"]
                np.testing.assert_array_equal(place.risk, found["risk"])


def test_a_number_is_a_value_and_keeps_its_type():
    found = pt.sweep(product, {"a": [3, 1], "b": [2]}, seeds=[5, 7], executor=None)
    assert found["value"].values.tolist() == [[[11, 13]], [[7, 9]]]
    assert found["value"].dtype.kind == "i"
    assert found.a.values.tolist() == [3, 1]
    assert found.seed.values.tolist() == [5, 7]


def word(name, flag, seed):
    return len(name) + flag


def test_an_axis_may_be_of_words_or_of_flags():
    found = pt.sweep(word, {"name": ["relu", "erf"], "flag": [True, False]}, 1, executor=None)
    assert found["value"].sel(name="erf", flag=True, seed=0) == 4


def same(found, expected):
    assert set(found.data_vars) == set(expected.data_vars)
    for name in expected.data_vars:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == expected[name].dtype


def test_processes_give_the_same_bits(serial):
    same(pt.sweep(displacement, GRID, 2, workers=2, cost="m"), serial)


def test_threads_give_the_same_bits(serial):
    with ThreadPoolExecutor(3) as executor:
        same(pt.sweep(displacement, GRID, 2, executor=executor), serial)


def test_dask_gives_the_same_bits(serial, tmp_path):
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("NOT TESTED on dask: distributed is not installed")
    program = f"""
        from dask.distributed import Client, LocalCluster
        cluster = LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None)
        with cluster, Client(cluster) as client, client.get_executor() as executor:
            pt.sweep(displacement, GRID, 2, executor=executor, record={str(tmp_path / "record")!r})
    """
    run([sys.executable], program, tmp_path)
    same(read(tmp_path / "record"), serial)


def test_ranks_of_mpi_that_take_cells_give_the_same_bits(serial, tmp_path):
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists() or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("NOT TESTED over MPI: the extra mpi is not installed")
    program = f"""
        from mpi4py.futures import MPIPoolExecutor
        with MPIPoolExecutor() as executor:
            pt.sweep(displacement, GRID, 2, executor=executor, record={str(tmp_path / "record")!r})
    """
    run([mpiexec, "-n", "2", sys.executable, "-m", "mpi4py.futures"], program, tmp_path)
    same(read(tmp_path / "record"), serial)


def test_ranks_that_run_the_same_program_share_each_cell(serial, tmp_path):
    found = on_ranks(2, lambda _: pt.sweep(displacement, GRID, 2, record=tmp_path / "record", progress=False))
    for each in [*found, read(tmp_path / "record")]:
        same(each, serial)


def test_the_costliest_begin_first(tmp_path):
    seen = []

    def see(a, b, seed):
        seen.append((a, b))
        return 0.0

    pt.sweep(see, {"a": [1, 3, 2], "b": ["x", "y"]}, 1, executor=None, cost="a")
    assert seen == [(3, "x"), (3, "y"), (2, "x"), (2, "y"), (1, "x"), (1, "y")]


# Threads.


def test_processes_do_not_take_more_threads_than_there_are_cores():
    found = pt.sweep(threads_seen, {"a": [1, 2]}, 1, workers=2)["value"].values
    assert (found == max(1, threads.cores() // 2)).all()
    assert (pt.sweep(threads_seen, {"a": [1, 2]}, 1, workers=2, threads=3)["value"].values == 3).all()
    assert not {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"} & (os.environ.keys() - BEFORE)


BEFORE = set(os.environ)


def test_an_executor_of_threads_has_one_for_each_cell_and_the_number_is_as_before_afterwards():
    before = threads.count()
    with ThreadPoolExecutor(2) as executor:
        assert (pt.sweep(threads_seen, {"a": [1, 2]}, 1, executor=executor)["value"].values == 1).all()
        assert executor.submit(threads.count).result() == before
    assert (pt.sweep(threads_seen, {"a": [1]}, 1, executor=None)["value"].values == before).all()
    assert threads.count() == before


# Cells that fail.


def test_a_killed_process_costs_its_cell_one_more_try(tmp_path):
    found = pt.sweep(partial(killed_once, folder=tmp_path), {"a": [1, 2, 3]}, 1, workers=2)
    assert found["value"].values.ravel().tolist() == [1, 2, 3]


def test_a_cell_that_kills_is_given_up_and_the_others_go_on(tmp_path):
    function = partial(noted, folder=str(tmp_path), killed=(2,), broken=(4,))
    with pytest.raises(SweepError, match="2 of 6 cells failed") as raised:
        pt.sweep(function, {"a": [1, 2, 3, 4, 5, 6]}, 1, workers=2, record=tmp_path / "record")
    assert "a=2, seed=0: its process was killed, twice" in str(raised.value)
    assert f"a=4, seed=0: KeyError: 4 ({Path(__file__).name}, line " in str(raised.value)
    np.testing.assert_array_equal(raised.value.values["value"].ravel(), [1, np.nan, 3, np.nan, 5, 6])
    assert calls(tmp_path) == [(a, 0) for a in (1, 2, 2, 3, 4, 5, 6)]
    (tmp_path / "mended").touch()
    found = pt.sweep(function, {"a": [1, 2, 3, 4, 5, 6]}, 1, executor=None, record=tmp_path / "record")
    assert found["value"].values.ravel().tolist() == [1, 2, 3, 4, 5, 6]
    assert calls(tmp_path) == [(2, 0), (4, 0)]


def test_errors_are_kept_beside_the_results(tmp_path):
    function = partial(noted, folder=tmp_path, broken=(2,))
    found = pt.sweep(function, {"a": [1, 2]}, [3], executor=None, errors="keep")
    np.testing.assert_array_equal(found["value"].values, [[4], [np.nan]])
    assert found.error.sel(a=1, seed=3) == ""
    assert str(found.error.sel(a=2, seed=3).values).startswith("KeyError: 2 (")


def test_a_function_of_which_nothing_succeeds_is_given_up_soon(tmp_path):
    function = partial(noted, folder=tmp_path, broken=range(10))
    with pytest.raises(SweepError, match="none succeeded, and 7 were not tried"):
        pt.sweep(function, {"a": range(10)}, 1, executor=None, record=tmp_path / "record")
    assert len(calls(tmp_path)) == 3
    assert not (tmp_path / "record").exists()
    found = pt.sweep(function, {"a": range(10)}, 1, executor=None, errors="keep")
    assert (found.error != "").all()
    assert len(calls(tmp_path)) == 10


def test_an_executor_of_the_caller_that_breaks_says_so_and_keeps_what_there_is(tmp_path):
    function = partial(noted, folder=str(tmp_path), killed=(2,))
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as executor,
        pytest.raises(SweepError, match="executor is broken"),
    ):
        pt.sweep(function, {"a": [1, 2, 3]}, 1, executor=executor, record=tmp_path / "record")
    np.testing.assert_array_equal(read(tmp_path / "record")["value"].values.ravel(), [1, np.nan, np.nan])


# The record.


def swept(folder, grid, seeds=1, function=noted, **more):
    given = {"folder": folder, **more} if function is noted else more
    return pt.sweep(partial(function, **given), grid, seeds, executor=None, record=folder / "record")["value"].values


def test_what_is_kept_is_not_computed_again_and_axes_may_grow(tmp_path):
    assert swept(tmp_path, {"a": [1, 3]}).tolist() == [[1], [3]]
    assert calls(tmp_path) == [(1, 0), (3, 0)]
    assert swept(tmp_path, {"a": [1, 2, 3]}, seeds=2).tolist() == [[1, 2], [2, 3], [3, 4]]
    assert calls(tmp_path) == [(1, 1), (2, 0), (2, 1), (3, 1)]
    assert swept(tmp_path, {"a": [3, 1, 2]}, seeds=[1, 0]).tolist() == [[4, 3], [2, 1], [3, 2]]
    assert calls(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"grid": {"a": [1, 4]}}, "over a a with other values"),
        ({"seeds": [1, 2]}, "over a seed with other values"),
        ({"grid": {"a": [1, 3], "broken": [7]}}, "over other axes, a, seed"),
        ({"killed": (9,)}, "another function, or with other arguments"),
        ({"function": product, "b": 2}, "another function"),
    ],
)
def test_another_sweep_is_refused_and_force_replaces_it(tmp_path, change, named):
    first = {"grid": {"a": [1, 3]}, "seeds": 1}
    swept(tmp_path, **first)
    before = {path.name: path.read_bytes() for path in (tmp_path / "record").glob("*.*")}
    with pytest.raises(RunMismatchError, match=named) as raised:
        swept(tmp_path, **{**first, **change})
    assert "force" in raised.value.remedy
    assert {path.name: path.read_bytes() for path in (tmp_path / "record").glob("*.*")} == before
    found = pt.sweep(product, {"a": [5], "b": [2]}, 1, executor=None, record=tmp_path / "record", force=True)
    assert found["value"].values.tolist() == [[[10]]]


def test_a_record_tells_arrays_and_data_sets_apart(tmp_path):
    for data, refused in ((pt.data.circle(n=8, seed=0), False), (pt.data.circle(n=8, seed=1), True)):
        how = {"executor": None, "record": tmp_path / "record"}
        if refused:
            with pytest.raises(RunMismatchError):
                pt.sweep(partial(mean, data=data), {}, 1, **how)
        else:
            pt.sweep(partial(mean, data=data), {}, 1, **how)
    with pytest.raises(ArgumentError, match="cannot be told from another"):
        pt.sweep(partial(mean, data=object()), {}, 1, executor=None, record=tmp_path / "other")


def mean(data, seed):
    return data.y.mean()


def test_every_damage_to_a_file_of_cells_is_found(tmp_path):
    swept(tmp_path, {"a": [1, 2]})
    (path,) = (tmp_path / "record").glob("cells.*")
    whole = path.read_bytes()
    for k in range(0, len(whole), 7):
        for damaged in (whole[:k], whole[:k] + bytes([whole[k] ^ 16]) + whole[k + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(DamagedRunError, match=path.name):
                read(tmp_path / "record")
    path.unlink()  # the remedy
    calls(tmp_path)
    swept(tmp_path, {"a": [1, 2]})
    assert calls(tmp_path) == [(1, 0), (2, 0)]


def test_nothing_in_a_file_is_run(tmp_path):
    """An array of objects, in a file with the right checksum, would be unpickled by a reader that allows it."""

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    swept(tmp_path, {"a": [1]})
    put(tmp_path, np.savez, np.array([Bomb()]))
    with pytest.raises(DamagedRunError, match="000009"):
        swept(tmp_path, {"a": [1]})
    assert not (tmp_path / "run").exists()


def test_a_file_that_would_swell_is_not_read(tmp_path):
    swept(tmp_path, {"a": [1]})
    put(tmp_path, np.savez_compressed, np.zeros((1, 1 << 20)))
    with pytest.raises(DamagedRunError, match="compressed"):
        swept(tmp_path, {"a": [1]})


def put(folder, save, values):
    """A file of cells, with the right checksum."""
    file = io.BytesIO()
    save(file, **{"at.a": np.array([1]), "at.seed": np.array([0]), "of.value": values})
    data = file.getvalue()
    (folder / "record" / f"cells.000009.{zlib.crc32(data):08x}.npz").write_bytes(data)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"axes": {"a": 3}}', '{"axes": {"a": [[1]]}}', '{"axes": [1]}'])
def test_a_damaged_head_is_found(tmp_path, text):
    swept(tmp_path, {"a": [1]})
    (tmp_path / "record" / HEAD).write_text(text)
    for act in (lambda: read(tmp_path / "record"), lambda: swept(tmp_path, {"a": [1]})):
        with pytest.raises(DamagedRunError, match=HEAD):
            act()


def test_what_is_no_sweep_is_left_alone(tmp_path):
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "mine").touch()
    with pytest.raises(StorageError, match="not empty and not a sweep"):
        swept(tmp_path, {"a": [1]})
    with pytest.raises(StorageError, match="no sweep"):
        read(tmp_path / "record")
    assert [path.name for path in (tmp_path / "record").iterdir()] == ["mine"]


def test_a_second_writer_is_refused(tmp_path):
    def nested(a, seed):
        with pytest.raises(StorageError, match="being written"):
            pt.sweep(nested, {"a": [1]}, 1, executor=None, record=tmp_path / "record")
        return a

    pt.sweep(nested, {"a": [1]}, 1, executor=None, record=tmp_path / "record")


# Stops.

SLOW = """
    import os, signal, time
    from pathlib import Path
    import particles as pt
    FOLDER = Path({folder!r})
    def slow(a, seed):
        (FOLDER / f"process-{{os.getpid()}}").touch()
        if a >= 4 and not (FOLDER / "mended").exists():
            time.sleep(300)
        return a / 3
    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without
        try:
            pt.sweep(slow, {{"a": range(6)}}, 1, workers=2, record=FOLDER / "record")
        except KeyboardInterrupt as stop:
            print("stopped:", stop)
"""


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    """Until it holds, or the test fails."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("this has not come about within a minute")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stop_ends_the_workers_and_the_rest_is_done_later(tmp_path, how):
    words = [sys.executable, script(tmp_path, SLOW.format(folder=str(tmp_path)))]
    started = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kept():
        files = (tmp_path / "record").glob("cells.*.npz")
        return sorted(value for path in files for value in np.load(path)["at.a"].tolist())

    wait_until(lambda: kept() == [0, 1, 2, 3])  # and the others sleep
    before = {path: path.read_bytes() for path in (tmp_path / "record").glob("cells.*.npz")}
    started.send_signal(how)
    out, err = started.communicate(timeout=60)
    processes = [int(path.name.partition("-")[2]) for path in tmp_path.glob("process-*")]
    wait_until(lambda: not any(map(alive, processes)))
    if how == signal.SIGINT:
        assert out == f"stopped: 4 of 6 cells are kept in {tmp_path / 'record'}: call the sweep again\n"
        assert "Traceback" not in err
    assert np.isnan(read(tmp_path / "record")["value"].values.ravel()).tolist() == [False] * 4 + [True] * 2
    (tmp_path / "mended").touch()
    again = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    np.testing.assert_array_equal(read(tmp_path / "record")["value"].values.ravel(), np.arange(6) / 3)
    assert all(path.read_bytes() == data for path, data in before.items())


def test_a_script_without_a_guard_is_told_so(tmp_path):
    program = script(
        tmp_path,
        """
        import particles as pt
        from test_sweeps import product
        pt.sweep(product, {"a": [1, 2], "b": [1]}, 1, workers=1)
        """,
    )
    done = subprocess.run([sys.executable, program], env=environment(), capture_output=True, text=True, check=False)
    assert "\nparticles.errors.SweepError: a worker process cannot be started" in done.stderr


# What cannot be.


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"grid": {"a": []}}, ArgumentError, "axis 'a'"),
        ({"grid": {"a": [1, 1]}}, ArgumentError, "different numbers"),
        ({"grid": {"a": [1, float("nan")]}}, ArgumentError, "finite"),
        ({"grid": {"a": [1, "1"]}}, ArgumentError, "axis 'a'"),
        ({"grid": {"a": [[1], [2]]}}, ArgumentError, "axis 'a'"),
        ({"grid": {"a": 3}}, ArgumentError, "axis 'a'"),
        ({"grid": {"a": [1], "seed": [1]}}, ArgumentError, "called 'seed'"),
        ({"seeds": 0}, ArgumentError, "number of seeds"),
        ({"seeds": [0.5]}, ArgumentError, "seeds"),
        ({"executor": "process"}, UnknownNameError, "processes"),
        ({"errors": "ignore"}, UnknownNameError, "keep"),
        ({"cost": "c"}, ArgumentError, "cost"),
        ({"cost": "a", "grid": {"a": [0, 1], "b": [1]}}, ArgumentError, "positive"),
        ({"executor": "processes", "workers": 0}, ArgumentError, "number of workers"),
        ({"executor": "processes", "function": lambda a, b, seed: 0}, ArgumentError, "sent to another process"),
        ({"function": lambda a, b, seed: np.zeros(1 + (a > 1)), "grid": {"a": [1, 2], "b": [1]}}, ShapeError, "before"),
        ({"function": lambda a, b, seed: {"a": 1.0}}, ArgumentError, "returns 'a'"),
        ({"function": lambda a, b, seed: "no"}, SweepError, "return numbers"),
    ],
)
def test_what_cannot_be_swept_is_said(change, error, named):
    given = {"function": product, "grid": {"a": [1], "b": [1]}, "seeds": 1, "executor": None, **change}
    with pytest.raises(error, match=named):
        pt.sweep(given.pop("function"), given.pop("grid"), given.pop("seeds"), **given)


def test_without_xarray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingExtraError, match=r"particles\[sweep\]"):
        pt.sweep(product, {"a": [1], "b": [1]}, 1, executor=None)


# Simulations on them.


def numbers(folder):
    summary = read_summary(folder)
    return {key: value for key, value in summary.items() if key not in ("seconds", "command")}


def test_a_simulation_is_the_same_on_workers_and_a_resume_computes_no_cell_again(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)  # the simulations do without
    words = ["run", "displacement_vs_width", "--quick", "--seeds", "2", "--t-end", "1"]
    for name, workers in (("one", 1), ("two", 2)):
        main([*words, "--out", str(tmp_path / name), "--workers", str(workers)])
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two" / "clouds").glob("cells.*")}
    monkeypatch.setattr(pt, "simulate", None)
    main(["resume", str(tmp_path / "two")])
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two" / "clouds").glob("cells.*")} == files


def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, capsys):
    words = ["run", "displacement_vs_width", "--quick", "--unit", "rellu", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "did you mean 'relu'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_record_is_json_and_arrays(tmp_path):
    swept(tmp_path, {"a": [1, 3]})
    head = json.loads((tmp_path / "record" / HEAD).read_text())
    assert head["axes"] == {"a": [1, 3], "seed": [0]}
    (path,) = (tmp_path / "record").glob("cells.*.npz")
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file.files) == ["at.a", "at.seed", "of.value"]
