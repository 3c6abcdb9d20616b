"""The benchmark of a GPU on one that is not there: the back end of `fake_device`, and what CuPy has on NumPy arrays."""

import contextlib
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import fake_device
import gpu_promise
import numpy as np
import pytest
from fake_device import DeviceArray

from particles import kernels
from particles.bench import accelerator, command, device, measure, peers, regimes
from particles.bench.check import UnequalError
from particles.bench.device import Gpu, Host, device_of
from particles.bench.measure import Effort
from particles.bench.peers import NATIVE, Peer, Place
from particles.bench.problems import Problem
from particles.bench.regimes import DEFAULT, FULL, QUICK, Regime
from particles.cli import main

ONCE = Effort(rounds=2, budget=0.0, patience=60.0)
LIMITS = {
    "fma_GFLOPs": {"float32": {"all": 200.0}, "float64": {"all": 100.0}},
    "matrix_product_GFLOPs": {"float32": 150.0, "float64": 75.0, "tf32": 900.0},
}


class Threads:
    """numba.cuda for kernels that run one block of one thread after another."""

    local = SimpleNamespace(array=np.empty)

    def __init__(self):
        self.blockIdx, self.blockDim, self.threadIdx = (SimpleNamespace(x=value) for value in (0, 1, 0))
        self.multiply_adds = 0

    def fma(self, a, b, c):
        self.multiply_adds += 1
        return a * b + c


class FakeGpu:
    """particles.kernels.cuda.device, with a log of what happens."""

    def __init__(self):
        self.log, self.waits, self.tf32 = [], 0, False
        self.cuda = Threads()
        runtime = SimpleNamespace(driverGetVersion=lambda: 13020, runtimeGetVersion=lambda: 13000)
        current = SimpleNamespace(synchronize=self.wait)
        pool = SimpleNamespace(free_all_blocks=lambda: self.log.append("freed"))
        self.xp = SimpleNamespace(
            ndarray=DeviceArray, cuda=SimpleNamespace(runtime=runtime, Device=lambda: current),
            get_default_memory_pool=lambda: pool, matmul=self.matmul, copyto=np.copyto,
            **{name: getattr(np, name) for name in ("arange", "empty", "ones", "sin")},
        )  # fmt: skip

    def wait(self):
        self.waits += 1

    def matmul(self, a, b, out):
        self.log.append(("product", a.dtype.name, "tf32" if self.tf32 else "full"))
        return np.matmul(a, b, out=out)

    @contextlib.contextmanager
    def precision(self, tf32):
        self.tf32 = tf32
        yield
        self.tf32 = False

    def describe(self):
        return {"name": "Abacus 9000", "capability": (9, 0), "multiprocessors": 2, "memory": 16 << 30}

    def Kernel(self, function, threads):  # noqa: N802
        def launch(blocks, constants, out, rounds):
            for self.cuda.blockIdx.x in range(blocks):
                function(constants._host, out, rounds)

        return launch

    def to_device(self, array):
        return array if isinstance(array, DeviceArray) else DeviceArray(np.array(array))

    def to_host(self, array):
        return array._host.copy()


class Torch:
    """An array as PyTorch has it on a device: it has to be told to leave."""

    def __init__(self, host):
        self._host = host

    def __array__(self, *arguments, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self._host


def tensors(problem):
    """A peer that computes what NumPy does and leaves it on the device."""
    make = peers.PEERS["numpy"].descent if problem.steps else peers.PEERS["numpy"].gradient
    call = make(problem)
    return lambda: tuple(map(Torch, call()))


def native_drift(problem):
    reference = kernels.load("reference", problem.unit, problem.dtype)
    return lambda: (Torch(reference.drift(problem.theta, problem.x, problem.y)),)


@pytest.fixture
def gpu(monkeypatch):
    """A device on which limits take no time, and kernels.load gives its back end."""
    for name, value in {"PRODUCT": 4, "COPIED": 16, "THREADS": 1, "ROUNDS": 2, "BLOCKS": 1}.items():
        monkeypatch.setattr(accelerator, name, value)
    load = kernels.load

    def on_fake(name, *of):
        if not name.startswith("cuda"):
            return load(name, *of)
        made = fake_device.Device(*of)
        made.name = name
        return made

    monkeypatch.setattr(kernels, "load", on_fake)
    return FakeGpu()


@pytest.fixture
def fake(gpu):
    others = {
        "torch": Peer("PyTorch", "numpy", tensors, tensors),
        NATIVE: Peer("CUDA C", "numpy", drift=native_drift),
    }
    return Gpu(gpu, gpu.precision, others)


def test_the_limits_of_a_device(gpu, fake):
    limits = fake.limits()
    assert limits["fma_GFLOPs"].keys() == {"float32", "float64"}
    assert limits["matrix_product_GFLOPs"].keys() == {"float32", "float64", "tf32"}
    assert min(limits["matrix_product_GFLOPs"].values()) > 0
    assert limits["copy_GBs"] > 0
    products = [entry for entry in gpu.log if entry[0] == "product"]
    full = {("product", dtype, "full") for dtype in ("float32", "float64")}
    assert set(products) == full | {("product", "float32", "tf32")}
    calls = 1 + 8  # one that warms, and TRIES
    assert len(products) == 3 * calls
    assert gpu.waits == 6 * calls  # each is waited for: two of multiply-adds, three products, a copy


def test_the_multiply_adds_that_are_counted_are_those_that_are_done(gpu, monkeypatch):
    monkeypatch.setattr(accelerator, "best", lambda run: run() or 1.0)
    rate = accelerator.multiply_adds(gpu, "float32", gpu.wait)
    assert rate == pytest.approx(2e-9 * gpu.cuda.multiply_adds)
    assert gpu.cuda.multiply_adds == 2 * accelerator.CHAINS * accelerator.DEPTH * 2  # two threads, two rounds
    out = np.empty(2, "float32")
    accelerator.chains(gpu, "float32")(2, gpu.to_device(np.array([0.5, 1, *[1.0] * 8], "float32")), out, 2)
    np.testing.assert_array_equal(out, 16)  # each chain ends in the fixed point of v/2 + 1


def test_an_old_device_has_no_tf32(gpu, fake, monkeypatch):
    monkeypatch.setattr(FakeGpu, "describe", lambda self: {"capability": (7, 5), "multiprocessors": 1, "memory": 1})
    assert "tf32" not in fake.limits()["matrix_product_GFLOPs"]


def test_the_device_says_what_it_is(fake, monkeypatch, tmp_path):
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n")
    monkeypatch.setattr(accelerator, "Path", lambda path: version)
    said = fake.description()
    assert said["device"] == {
        "name": "Abacus 9000", "capability": "9.0", "multiprocessors": 2, "memory_GiB": 16.0, "driver": "580.95.05",
        "driver_cuda": "13.2", "runtime_cuda": "13.0",
    }  # fmt: skip
    assert said["cpu"]
    assert "numba" in said["versions"]
    assert json.loads(json.dumps(said)) == said
    version.unlink()
    assert fake.description()["device"]["driver"] is None
    lines = fake.lines(said, LIMITS | {"copy_GBs": 2e3}).splitlines()
    assert lines[0] == "Abacus 9000, 2 multiprocessors, 16.0 GiB; driver 580.95.05, CUDA 13.2"
    assert any(line.startswith("TF32: 900 GFLOP/s") for line in lines)


def test_a_regime_on_a_device(gpu, fake):
    regime = Regime("sweep", "sweep", Problem(40, 60, 2, bias=False), ("cuda", "cuda-planar"), QUICK)
    record = measure.measure(regime, fake, "cuda", ONCE, LIMITS)
    assert list(record["contenders"]) == ["cuda", "cuda-planar", "torch"]
    assert (record["auto"], record["left_out"]) == ("cuda-planar", {})
    assert record["ratios"].keys() == {"torch"}
    assert all(entry["error"] < 1e-13 for entry in record["contenders"].values())
    # Two to be ready, and two at each of two repetitions and more of the first, for three contenders.
    assert gpu.waits >= 3 * (1 + 2 * 2)
    assert list(measure.measure(regime, fake, "cuda-planar", ONCE, LIMITS)["contenders"]) == ["cuda-planar", "torch"]


def test_steps_on_a_device(fake):
    problem = Problem(15, 16, 2, bias=False, steps=10)
    record = measure.measure(Regime("steps", "steps", problem, ("cuda",), QUICK), fake, "cuda", ONCE, LIMITS)
    assert list(record["contenders"]) == ["cuda", "torch"]


def test_the_drift_is_measured_beside_cuda_c_alone(fake):
    problem = Problem(40, 60, 2, dtype="float32", drift=True)
    record = measure.measure(Regime("native", "native", problem, ("cuda",), QUICK), fake, "cuda", ONCE, LIMITS)
    assert list(record["contenders"]) == ["cuda", NATIVE]
    assert record["left_out"] == {}
    assert record["flops_per_pair"] == 12  # 4d + 4


def test_a_wrong_kernel_in_cuda_c_is_an_error_before_it_is_timed(fake, monkeypatch):
    def twice(problem):
        call = native_drift(problem)
        return lambda: (Torch(2 * call()[0].cpu()),)

    monkeypatch.setattr(measure, "interleaved", None)
    problem = Problem(40, 60, 2, dtype="float32", drift=True)
    wrong = Gpu(fake.gpu, fake.precision, {NATIVE: Peer("CUDA C", "numpy", drift=twice)})
    with pytest.raises(UnequalError, match=f"native, {NATIVE}: the results differ by 1 of"):
        measure.measure(Regime("native", "native", problem, ("cuda",), QUICK), wrong, "cuda", ONCE, LIMITS)


def test_each_repetition_waits_for_the_device_before_and_after():
    seen = []
    timing = measure.interleaved(
        {"A": lambda: seen.append("call")}, 2, synchronise=lambda: seen.append("wait"),
        clock=lambda: len(seen) / 4, sleep=lambda seconds: None,
    )["A"]  # fmt: skip
    assert seen == ["wait", "call", "wait"] * 2
    assert timing.seconds == [0.5, 0.5]  # from after the first wait to after the last: a call and a wait


def test_memory_is_given_back(gpu, fake):
    fake.release()
    assert gpu.log == ["freed"]


def test_no_peer_makes_an_array_beyond_its_share_of_memory(gpu):
    problem = Problem(4096, 10**6, 2, dtype="float32")
    place = Place("cuda", "gpu", panel=5e9)
    cuts = place.cuts(problem)
    assert [cut.stop - cut.start for cut in cuts] == [1024] * 4  # 16 GB in four
    assert [Place().cuts(problem)] == [[slice(0, 4096)]]
    assert sum(cut.stop - cut.start for cut in Place(panel=1).cuts(Problem(7, 3, 2))) == 7
    others = device.rivals(gpu)
    assert list(others) == ["torch", "torch.compile", "jax", NATIVE]
    place = others["torch"].gradient.keywords["place"]
    assert (place.torch, place.jax, place.panel) == ("cuda", "gpu", 2**30)  # of sixteen GiB


def test_products_of_jax_are_in_full_precision_on_a_gpu_and_as_its_users_have_them_on_the_cpu(gpu):
    jax = pytest.importorskip("jax", reason="NOT TESTED: jax is not installed")
    place = device.rivals(gpu)["jax"].gradient.keywords["place"]
    problem = Problem(5, 4, 3, dtype="float32")
    for at, precision in ((replace(place, jax="cpu"), "highest"), (Place(), None)):
        peers.jax_gradient(problem, at)()
        assert jax.config.jax_default_matmul_precision == precision


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_blocks_of_samples_give_what_all_at_once_give(name):
    if peers.PEERS[name].missing():
        pytest.skip(f"NOT TESTED: {peers.PEERS[name].missing()}")
    for problem in (Problem(50, 30, 3), Problem(50, 30, 2, bias=False, steps=3)):
        place = Place(panel=problem.m * 8 * 13)  # blocks of 13, 13, 13 and 11 samples
        assert len(place.cuts(problem)) == 4
        make = peers.PEERS[name].descent if problem.steps else peers.PEERS[name].gradient
        cut, whole = (measure.check.joined(problem, make(problem, at)()) for at in (place, Place()))
        measure.check.compare(name, problem, cut, whole)


def test_a_peer_that_sees_no_device_says_so():
    peer = Peer("NumPy", "numpy", sees=lambda: False)
    assert peer.missing() == "numpy sees no GPU here: install its build for the driver's CUDA"
    assert Peer("NumPy", "numpy", sees=lambda: True).missing() is None


@pytest.mark.parametrize("name", ["torch", "torch.compile", "jax"])
def test_peers_are_asked_whether_they_see_a_device(name, gpu):
    peer = device.rivals(gpu)[name]
    if peers.PEERS[name].missing():
        pytest.skip(f"NOT TESTED: {peers.PEERS[name].missing()}")
    import ctypes

    with contextlib.suppress(OSError):
        ctypes.CDLL("libcuda.so.1")
        pytest.skip("NOT TESTED: there is a driver here")
    assert "sees no GPU" in peer.missing()


def test_the_regimes_of_a_gpu():
    table = regimes.gpu_regimes(FULL)
    for dtype in ("float32", "float64"):
        for d in (2, 3, 5, 8, 10, 100):
            problem = table[f"relu-d{d}-{dtype}"].problem
            assert (problem.n, problem.m, problem.d, problem.bias) == (4096, 10**6, d, True)
    quick, default = (regimes.gpu_regimes(level)["relu-d2-float32"].problem.m for level in (QUICK, DEFAULT))
    assert quick < default < 10**6
    assert max(r.problem.m for r in table.values() if r.family == "plane") == 10**8
    assert {r.family for r in table.values()} == regimes.GPU_FAMILIES.keys()
    assert {name for r in table.values() for name in r.ours} == {"cuda", "cuda-planar"}
    assert table["native-d2-float32"].problem.drift
    for level, fewer in ((DEFAULT, QUICK), (FULL, DEFAULT)):
        more = {r.name for r in regimes.chosen(None, level, table=regimes.GPU)}
        assert {r.name for r in regimes.chosen(None, fewer, table=regimes.GPU)} < more


def test_a_contender_is_tried_on_a_sample_that_fills_the_device(fake):
    asked = []

    def make(problem):
        asked.append((problem.n, problem.m))
        return lambda: sum(range(10_000))

    huge = Problem(10**5, 10**6, 2)
    assert measure.too_much("cuda", make, Problem(1000, 10**6, 2), 0.0, fake) is None  # 10^9 pairs are nothing
    assert "s a call" in measure.too_much("cuda", make, huge, 1e-9, fake)
    assert asked == [(4096, 65_536)]
    assert measure.too_much("torch", make, huge, math.inf, fake) == "makes n × m arrays, 800 GB each"


def test_the_command_on_a_device(gpu, fake, tmp_path, capsys, monkeypatch):
    small = Regime("native-d2-float32", "native", Problem(40, 60, 2, dtype="float32", drift=True), ("cuda",), QUICK)
    made = {r.name: r for r in (regimes.gpu_regimes(QUICK)[f"sweep-n{n}"] for n in (32, 100))} | {small.name: small}
    fake = replace(fake, table=regimes.Table(regimes.GPU_FAMILIES, lambda level: made))
    monkeypatch.setattr(command, "device_of", lambda backend, cpu_peers: fake)
    words = ["bench", "--quick", "--backend", "cuda", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "Abacus 9000, 2 multiprocessors" in said
    assert "native-d2-float32: numba-cuda at" in said
    assert "of the speed of CUDA C" in said
    numbers = json.loads((tmp_path / "out/bench.json").read_text(encoding="utf-8"))
    assert numbers["machine"]["device"]["name"] == "Abacus 9000"
    assert numbers["machine"]["device"]["driver_cuda"] == "13.2"
    assert [r["name"] for r in numbers["regimes"]] == ["sweep-n32", "sweep-n100", "native-d2-float32"]
    assert numbers["limits"]["matrix_product_GFLOPs"].keys() == {"float32", "float64", "tf32"}
    assert gpu.log.count("freed") == 3
    assert (tmp_path / "out/bench.png").stat().st_size > 10_000


def test_without_a_gpu_the_command_is_one_line(tmp_path, capsys):
    if gpu_promise.reason() is None:
        pytest.skip("NOT TESTED: there is a GPU here")
    assert main(["bench", "--backend", "cuda", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "cuda" in said.lower()
    assert not (tmp_path / "out").exists()


def test_every_other_back_end_computes_on_the_cpu():
    assert device_of("planar", {}) == Host({})
