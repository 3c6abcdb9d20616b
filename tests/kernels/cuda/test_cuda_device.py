"""What is asked of CuPy and Numba beside arrays, seen by stand-ins: graphs, the precision of products, launches."""

import gc
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from particles import kernels
from particles.errors import ArgumentError, BackendError
from particles.kernels.cuda import available

if reason := available.missing():
    pytest.skip(f"NOT TESTED on cuda: {': '.join(reason)}", allow_module_level=True)

from particles.kernels.cuda import device, panels
from particles.units import UNITS, Unit


class Stream:
    """A stream that tells what happens on it."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def __enter__(self):
        self.log.append(f"to {self.name}")

    def __exit__(self, *error):
        self.log.append(f"from {self.name}")

    def record(self):
        return self.name

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event}")

    def begin_capture(self):
        self.log.append("begin")

    def end_capture(self):
        self.log.append("end")
        return SimpleNamespace(launch=lambda: self.log.append("launch"))


@pytest.fixture
def log(monkeypatch):
    """What a stand-in for CuPy was asked to do."""
    log = []

    class Allocator:
        def __init__(self, allocate):
            self.allocate = allocate

        def __enter__(self):
            log.append("own memory")

        def __exit__(self, *error):
            log.append("shared memory")

    def side(non_blocking):
        assert non_blocking, "it could not be captured while another thread uses the default stream"
        return Stream(log, "side")

    cuda = SimpleNamespace(
        MemoryPool=lambda: SimpleNamespace(malloc=None, free_all_blocks=lambda: log.append("own memory back")),
        Stream=side,
        get_current_stream=lambda: Stream(log, "main"),
        using_allocator=Allocator,
    )
    monkeypatch.setattr(device, "simulated", lambda: False)
    shared = SimpleNamespace(free_all_blocks=lambda: log.append("room"))
    monkeypatch.setattr(device, "xp", SimpleNamespace(cuda=cuda, get_default_memory_pool=lambda: shared))
    return log


ASIDE = ["side waits for main", "to side", "own memory"]
BACK = ["shared memory", "from side", "main waits for side"]


def test_a_step_is_run_then_captured_then_replayed(log):
    step = device.captured(lambda: log.append("work"), lambda: True)
    step()
    assert log == [*ASIDE, "room", "work", *BACK]
    log.clear()
    step()
    assert log == [*ASIDE, "begin", "work", "end", *BACK, "launch"]
    log.clear()
    step(), step()
    assert log == ["launch", "launch"]
    log.clear()
    del step
    assert log == ["own memory back"]  # at once, and not when the garbage collector comes by


def test_what_cannot_be_captured_is_run_each_time(log):
    step = device.captured(lambda: log.append("work"), lambda: False)
    for _ in range(3):
        step()
    assert [word for word in log if word != "room"] == 3 * [*ASIDE, "work", *BACK]


def test_it_is_asked_once_before_others_come_between(log):
    """A recorder multiplies matrices on the same back end between two steps: that is no reason against a capture."""
    answers = iter([True])
    step = device.captured(lambda: log.append("work"), lambda: next(answers))
    for _ in range(4):
        step()
    assert log.count("launch") == 3


def test_a_capture_that_fails_is_ended(log):
    def fails():
        if log[-1] == "begin":
            raise MemoryError

    step = device.captured(fails, lambda: True)
    step()
    with pytest.raises(MemoryError):
        step()
    assert log[-5:] == ["begin", "end", *BACK]
    assert gc.isenabled()
    log.clear()
    with pytest.raises(MemoryError):
        step()
    assert "launch" not in log


@pytest.mark.parametrize("tf32", [False, True])
def test_products_are_in_true_float32_unless_tf32_is_asked_for(monkeypatch, tf32):
    """Whatever CuPy was told before, and it is told so again afterwards."""
    linalg = ModuleType("cupy._core._routines_linalg")
    linalg.types = {np.float32: 1}
    linalg.get_compute_type, linalg.set_compute_type = linalg.types.get, linalg.types.__setitem__
    core = ModuleType("cupy._core")
    core._routines_linalg = linalg
    for name, module in {"cupy": ModuleType("cupy"), "cupy._core": core, linalg.__name__: linalg}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(panels, "simulated", lambda: False)
    with panels.precision(tf32):
        assert linalg.types[np.float32] == (7 if tf32 else 4)  # COMPUTE_TYPE_TF32, COMPUTE_TYPE_FP32
    assert linalg.types[np.float32] == 1


def test_products_of_matrices_are_not_captured():
    """CuPy refuses cuBLAS in a capture: the back end knows when there was some."""
    k = kernels.load("cuda", UNITS["relu"])
    asked = []
    k._device = SimpleNamespace(captured=lambda function, capturable: asked.append(capturable))
    k.captured(None)
    k.predict(k.xp.ones((2, 4)), k.xp.ones((3, 2)))
    assert asked[0]()
    k.predict(k.xp.ones((2, 42)), k.xp.ones((3, 40)))
    assert not asked[0]()


def test_a_launch_hands_over_pointers_and_whole_numbers(monkeypatch):
    """As Numba's pointer arguments want them, on CuPy's stream, compiled once for each set of types."""
    launches, compiled = [], []

    class Compiled:
        def __getitem__(self, configuration):
            return lambda *arguments: launches.append((configuration, arguments))

    class Array:
        def __init__(self, dtype, pointer, contiguous=True):
            self.dtype, self.data = np.dtype(dtype), SimpleNamespace(ptr=pointer)
            self.flags = SimpleNamespace(c_contiguous=contiguous)

    kernel = device.Kernel(None, threads=64)
    monkeypatch.setattr(device, "simulated", lambda: False)
    monkeypatch.setattr(device, "xp", SimpleNamespace(ndarray=Array))
    monkeypatch.setattr(device, "_stream", lambda: "stream")
    monkeypatch.setattr(kernel, "compiled", lambda kinds: compiled.append(kinds) or Compiled())
    kernel((3, 2), Array("float32", 1000), Array("float64", 2000), np.int64(5))
    kernel(1, Array("float32", 1008), Array("float64", 2000), 7)
    assert compiled == [("float32*", "float64*", "int32")]
    assert launches == [(((3, 2), 64, "stream"), (1000, 2000, 5)), ((1, 64, "stream"), (1008, 2000, 7))]
    assert all(type(argument) is int for _, arguments in launches for argument in arguments)
    with pytest.raises(ArgumentError, match="2147483648 numbers are too many"):
        kernel(1, Array("float32", 1000), Array("float64", 2000), 2**31)
    with pytest.raises(AssertionError, match="flat"):
        kernel(1, Array("float32", 1000, contiguous=False), Array("float64", 2000), 5)


def test_the_kinds_of_arguments_are_numbas_types():
    assert str(device.signature(("float32*", "int32"))) == "(float32*, int32) -> none"


def test_constants_have_the_precision_of_the_kernel(monkeypatch):
    monkeypatch.setattr(device, "device_function", lambda function: function)  # what is compiled runs on a device only
    unit = Unit("half", lambda z: 0.5 * z, lambda z: 0.5, lambda z: 0.0)
    sigma = device.scalar(unit.sigma, np.float32)
    assert type(sigma(np.float32(3))) is np.float32
    assert type(device.scalar(unit.sigma, np.float64)(np.float64(3))) is np.float64


def _calls_itself(z):
    return z if z < 0 else _calls_itself(z - 1)


@pytest.mark.parametrize("d", [2, 40], ids=["fused", "panels"])
def test_a_function_that_calls_itself_cannot_be_compiled(d):
    k = kernels.load("cuda", Unit("odd", _calls_itself, _calls_itself, _calls_itself))
    with pytest.raises(BackendError, match=r"the unit 'odd' cannot be compiled.*backend='reference'"):
        k.predict(k.xp.ones((2, d + 2)), k.xp.ones((3, d)))


def test_a_function_that_cannot_be_compiled_says_so(monkeypatch):
    def refuses(*arguments, **options):
        error = type("TypingError", (Exception,), {"__module__": "numba.core.errors"})
        raise error("Failed in cuda mode\nno such function")

    monkeypatch.setattr(device, "simulated", lambda: False)
    monkeypatch.setattr(device.cuda, "jit", refuses)
    kernel = device.Kernel(None, 1, what="the unit 'odd'")
    with pytest.raises(BackendError, match=r"'odd' cannot be compiled \(no such function\).*backend='reference'"):
        kernel.compiled(("float32*",))
