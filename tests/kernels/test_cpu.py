"""What only the compiled CPU back end promises: the same bits on any number of threads, O(n + m) memory, speed kept."""

import subprocess
import sys

import numpy as np
import pytest

from particles import kernels
from particles.errors import ArgumentError
from particles.kernels import cpu, threads
from particles.units import Unit

WORDS = {"predict": "theta x", "drift": "theta x r", "push": "theta u x", "gram": "theta x x2"}
each_sum = pytest.mark.parametrize("name", WORDS)
each_precision = pytest.mark.parametrize("dtype", ["float64", "float32"])


@pytest.fixture
def any_threads():
    yield
    threads.use(None)


def arguments(name, m, n, dtype="float64", d=2, bias=True):
    rng = np.random.default_rng([m, n])
    p = d + 1 + bias
    shapes = {"theta": (m, p), "u": (m, p), "x": (n, d), "x2": (n // 3 + 1, d), "r": n}
    drawn = {word: rng.standard_normal(shape).astype(dtype) for word, shape in shapes.items()}
    return [drawn[word] for word in WORDS[name].split()]


# All above the threshold of work, below which one thread does it all; none a multiple of a tile; one sample, one
# particle: fewer tasks than threads.
@pytest.mark.parametrize(("m", "n"), [(1777, 613), (200_003, 1), (1, 200_003), (16_390, 37)])
@each_sum
@each_precision
def test_any_number_of_threads_gives_the_same_bits(name, m, n, dtype, any_threads):
    given = arguments(name, m, n if name != "gram" else min(n, 37), dtype)
    assert m * n > threads.SERIAL
    results = []
    for count in (1, 2, 3, 5):
        threads.use(count)
        results.append(getattr(kernels.load("cpu", "tanh", dtype), name)(*given))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_work_is_shared_among_the_threads_in_runs_of_tasks(any_threads):
    threads.use(3)
    shares = []
    threads.share(7, threads.SERIAL, lambda first, last: shares.append((first, last)))
    assert sorted(shares) == [(0, 2), (2, 4), (4, 7)]
    shares.clear()
    threads.share(7, threads.SERIAL - 1, lambda first, last: shares.append((first, last)))
    assert shares == [(0, 7)]


def test_an_error_in_a_thread_is_an_error_of_the_call(any_threads):
    def kernel(first, last):
        if first:
            raise ZeroDivisionError

    threads.use(2)
    with pytest.raises(ZeroDivisionError):
        threads.share(2, threads.SERIAL, kernel)


def test_the_number_of_threads_is_chosen_and_checked(monkeypatch, any_threads):
    monkeypatch.setenv("PARTICLES_THREADS", "3")
    assert threads.count() == 3
    threads.use(2)
    assert threads.count() == 2
    threads.use(None)
    monkeypatch.setenv("PARTICLES_THREADS", "none")
    with pytest.raises(ArgumentError, match=r"PARTICLES_THREADS.*'none'.*at least 1"):
        threads.count()
    for bad in (0, -1, "many"):
        with pytest.raises(ArgumentError, match="at least 1"):
            threads.use(bad)


@each_sum
def test_the_layout_of_arrays_changes_no_bit(name):
    given = arguments(name, 301, 67)
    k = kernels.load("cpu", "tanh")
    straight = getattr(k, name)(*given)
    for layout in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2]):
        assert np.array_equal(straight, getattr(k, name)(*map(layout, given)))


# The peak of memory, in a process of its own: what NumPy and the compiled kernels take alike.
MEMORY = """
import resource, sys
import numpy as np
from particles import kernels
from particles.kernels import threads

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

threads.use(2)
k = kernels.load("cpu", "tanh")
def sums(m, n):
    rng = np.random.default_rng(0)
    theta, x, r = rng.standard_normal((m, 4)), rng.standard_normal((n, 2)), rng.standard_normal(n)
    k.predict(theta, x), k.push(theta, theta, x), k.drift(theta, x, r)
sums(1000, 300)  # compile, and start the threads
before = peak()
sums(20_000, 2_000)
print(peak() - before)
"""


def test_memory_grows_with_n_plus_m_only():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # θ, a force of its size and 64 partial sums of n take 2.3 MB; one n × m array of a byte an entry would take 40 MB.
    assert int(done.stdout) < 20e6


def test_the_users_unit_with_a_helper_and_a_closure():
    def helper(z):
        return z * z * z

    def make(scale):
        def sigma(z):
            return scale * helper(z)

        def dsigma(z):
            return scale * 3.0 * z * z

        return sigma, dsigma

    unit = Unit("cube", *make(0.5), lambda z: 3 * z)
    theta, x = np.array([[2.0, 1.0]]), np.array([[1.0], [-2.0]])
    k = kernels.load("cpu", unit)
    assert k.predict(theta, x).tolist() == [1, -8]
    assert k.drift(theta, x, np.ones(2)).tolist() == [[-3.5, 2 * (1.5 - 2 * 6)]]


@each_sum
def test_float32_computes_in_float32(name):
    """Of sums of one term, float64 rounded once at the end would give every last digit; float32 gives some of them."""
    m, n = (500, 1) if name == "drift" else (1, 500)
    given = arguments(name, m, n, "float32")
    single = getattr(kernels.load("cpu", "tanh", "float32"), name)(*given)
    rounded = getattr(kernels.load("reference", "tanh", "float32"), name)(*given)
    np.testing.assert_allclose(single, rounded, rtol=0, atol=64 * np.finfo(np.float32).eps * abs(rounded).max())
    assert np.mean(single != rounded) > 0.1


@pytest.mark.parametrize("c", [0.3, 0.7])
def test_float32_sums_of_many_terms_are_flushed_into_float64(c):
    """10⁵ equal terms: float32 alone loses up to 10⁵ ε/2 of the sum (here 1400 ε or more), blocks of 256 only 256 ε."""
    count, c = 100_000, np.float32(c)
    particle, sample = np.array([[c, 0, 0, 0.5]], np.float32), np.ones((1, 2), np.float32)
    k, exact = kernels.load("cpu", "tanh", "float32"), count * float(c) * np.tanh(0.5)
    rtol = 260 * np.finfo(np.float32).eps  # and a few roundings in the term itself
    np.testing.assert_allclose(k.predict(particle.repeat(count, axis=0), sample), exact, rtol=rtol)
    weights = np.full(count, c)
    np.testing.assert_allclose(k.drift(particle, sample.repeat(count, axis=0), weights)[0, 0], exact, rtol=rtol)


@each_precision
def test_the_terms_of_a_block_are_added_first_to_last(dtype):
    """Of numbers from 1 to 10¹⁰ any other order, or several sums side by side, has other bits. σ(z) = z = 1 here."""
    rng = np.random.default_rng(0)
    terms = (rng.choice([-1.0, 1.0], 250) * 10 ** rng.uniform(0, 10, 250)).astype(dtype)
    in_order = terms.dtype.type(0)
    for term in terms:
        in_order += term
    k, one = kernels.load("cpu", "relu", dtype), np.ones((1, 2), dtype)
    theta = np.zeros((500, 3), dtype)  # without a bias; the second half of the cloud is a sum of its own, here of zeros
    theta[:, 1] = 1
    theta[:250, 0] = terms
    assert k.predict(theta, one)[0] == in_order
    assert k.drift(theta[:1], one.repeat(250, axis=0), terms)[0, 0] == in_order
    u, still = np.zeros_like(theta), theta.copy()
    u[:, 0], still[:, 0] = theta[:, 0], 0
    assert k.push(still, u, one)[0] == in_order


def test_a_kernel_is_compiled_once_for_each_unit_dimension_and_precision():
    k = kernels.load("cpu", "tanh")
    theta, x = np.ones((3, 4)), np.ones((2, 2))
    k.predict(theta, x)
    kernel = cpu._compiled(cpu._predict, k.unit, 2, True, "float64")
    theta.flags.writeable = False  # as a Cloud's
    k.predict(theta, x[:1])
    kernels.load("cpu", "tanh").predict(np.asfortranarray(theta[:2]), x)
    assert cpu._compiled(cpu._predict, k.unit, 2, True, "float64") is kernel
    assert len(kernel.signatures) == 1
