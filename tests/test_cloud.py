import math
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from particles.checks import count_of, dtype_of
from particles.cloud import Cloud
from particles.errors import ArgumentError, DataError, PrecisionError, ShapeError, TooLargeError, UnknownNameError
from particles.laws import Gaussian, Uniform, Zero
from particles.units import Unit

M = 40_000
EPS = np.finfo(float).eps

# The variance of a sample variance is v²(κ - 1)/M with the kurtosis κ, 3 for normal and 9/5 for uniform numbers.
# Seeds are fixed, so that the tests always pass or never; 4 standard errors are a few percent here.
MARGIN = 4


def assert_centred(values, variance, kurtosis):
    assert abs(values.mean()) < MARGIN * math.sqrt(variance / values.size)
    assert abs(values.var() - variance) < MARGIN * variance * math.sqrt((kurtosis - 1) / values.size)


def test_gaussian_law():
    cloud = Cloud.gaussian(m=M, d=3, variance_c=0.25, variance_w=2.0, variance_b=9.0, seed=5)
    for values, variance in ((cloud.c, 0.25), *((w, 2.0) for w in cloud.w.T), (cloud.b, 9.0)):
        assert_centred(values, variance, kurtosis=3)
        z4 = (values**4).mean() / variance**2
        assert abs(z4 - 3) < MARGIN * math.sqrt(96 / M)  # Var z⁴ = 105 - 9
    correlation = np.corrcoef(cloud.theta.T)[np.triu_indices(5, 1)]
    assert np.abs(correlation).max() < MARGIN / math.sqrt(M)


def test_uniform_law():
    cloud = Cloud.uniform(m=M, d=2, variance_c=3.0, variance_w=0.01, variance_b=1 / 3, seed=5)
    for values, half in ((cloud.c, 3.0), *((w, math.sqrt(0.03)) for w in cloud.w.T), (cloud.b, 1.0)):
        assert_centred(values, half**2 / 3, kurtosis=9 / 5)
        assert np.abs(values).max() <= half
        assert np.abs(values).max() > half * (1 - 20 / M)  # all M miss the outer part 20/M: e^-20


@pytest.mark.parametrize("d", [1, 2, 5])
def test_sphere_law(d):
    cloud = Cloud.sphere(m=M, d=d, radius=3.0, seed=5)
    # Squares, sum, root, quotient and product: each rounds once, d of them add.
    np.testing.assert_allclose(np.linalg.norm(cloud.w, axis=1), 3.0, rtol=(d + 4) * EPS)
    for w in cloud.w.T:
        assert abs(w.mean()) < MARGIN * 3 / math.sqrt(d * M)
        if d > 1:  # a coordinate of the unit sphere has E u⁴ = 3/(d (d + 2)), so Var u² = (2d - 2)/(d² (d + 2))
            fourth = 3 / (d * (d + 2))
            assert abs((w * w).mean() / 9 - 1 / d) < MARGIN * math.sqrt((fourth - 1 / d**2) / M)
            assert abs((w**4).mean() / 81 - fourth) < MARGIN * math.sqrt(fourth / M)  # Var u⁴ ≤ E u⁸ ≤ E u⁴
    assert set(cloud.c) == {-1.0, 1.0}
    assert not cloud.b.any()


def test_the_sphere_takes_a_law_for_c_and_a_variance_for_b():
    cloud = Cloud.sphere(m=M, d=2, c=Uniform(0, 1), variance_b=4.0, seed=5)
    assert cloud.c.min() >= 0
    assert abs(cloud.c.mean() - 0.5) < MARGIN / math.sqrt(12 * M)
    assert_centred(cloud.b, 4.0, kurtosis=3)


def test_a_variance_of_zero_for_the_biases_gives_zero_biases():
    for family in (Cloud.gaussian, Cloud.uniform, Cloud.sphere):
        cloud = family(m=10, d=2, variance_b=0)
        assert cloud.bias
        assert cloud.p == 4
        assert not cloud.b.any()


@pytest.mark.parametrize(
    ("unit", "variance"),
    [
        ("relu", 1 / 2),
        (Unit("erf(z/√2)", lambda z: math.erf(z / math.sqrt(2)), lambda z: 0 * z, lambda z: 0 * z), 1 / 3),
    ],
)
def test_the_output_at_the_start_has_the_variance_of_the_closed_form(unit, variance):
    """m·Var[φ_0(x)] = E g² in mean field, at |x| = 1 with c, w ~ N(0, 1)."""
    cloud = Cloud.gaussian(m=M, d=2, unit=unit, bias=False, seed=5)
    g2 = (cloud.c * cloud.unit(cloud.w @ [0.6, 0.8])) ** 2
    assert abs(g2.mean() - variance) < MARGIN * g2.std() / math.sqrt(M)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_symmetric_clouds_are_pairs_of_opposite_outputs(bias, dtype):
    cloud = Cloud.gaussian(m=3000, d=2, bias=bias, symmetric=True, seed=1, tau=0.3, dtype=dtype)
    first, second = cloud.theta[:1500], cloud.theta[1500:]
    np.testing.assert_array_equal(first[:, 0], -second[:, 0])
    np.testing.assert_array_equal(first[:, 1:], second[:, 1:])
    half = Cloud.gaussian(m=1500, d=2, bias=bias, seed=1, tau=0.3, dtype=dtype)
    np.testing.assert_array_equal(first, half.theta)
    np.testing.assert_array_equal(Cloud.doubled(half).theta, cloud.theta)


@given(st.integers(1, 2100), st.integers(1, 2100), st.integers(1, 3), st.booleans())
def test_a_wide_cloud_contains_the_narrow_one(m, other, d, bias):
    narrow, wide = (Cloud.gaussian(m=k, d=d, bias=bias, seed=2) for k in sorted((m, other)))
    np.testing.assert_array_equal(narrow.theta, wide.theta[: narrow.m])


CLOUDS = st.builds(
    dict,
    m=st.integers(1, 1600).map(lambda k: 2 * k),
    d=st.integers(1, 3),
    bias=st.booleans(),
    symmetric=st.booleans(),
    tau=st.sampled_from([1.0, 0.3]),
    dtype=st.sampled_from(["float32", "float64"]),
)


@given(CLOUDS, st.data())
def test_any_rows_are_drawn_without_the_rest(options, data):
    first, last = sorted(data.draw(st.tuples(*2 * [st.integers(0, options["m"])])))
    cloud, rows = Cloud.uniform(**options), Cloud.uniform(**options).rows(first, last)
    np.testing.assert_array_equal(rows, cloud.theta[first:last], strict=True)
    np.testing.assert_array_equal(cloud.rows(first, last), rows, strict=True)  # and once they are there
    assert not rows.flags.writeable


def test_a_cloud_larger_than_memory_is_there_when_some_of_it_is_enough():
    cloud = Cloud.gaussian(m=10**15, d=2, symmetric=True, seed=1)
    last, twins = cloud.rows(10**15 - 3, 10**15), cloud.rows(10**15 // 2 - 3, 10**15 // 2)
    np.testing.assert_array_equal(last, twins * [-1, 1, 1, 1])
    assert "m=1000000000000000" in repr(cloud)
    assert "the first 100000 particles" in cloud._repr_html_()


def test_a_drawn_cloud_takes_little_more_memory_than_its_numbers():
    tracemalloc.start()
    theta = Cloud.gaussian(m=400_000, d=2, symmetric=True, tau=2.0, seed=1).theta
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.15 * theta.nbytes  # a block of each stream, and 65 536 particles looked at for a NaN: 0.6 MB


def test_families_of_one_seed_differ_and_parts_are_drawn_apart():
    draws = [Cloud.gaussian(m=50, d=2, seed=s).theta for s in (0, 1)]
    assert not np.isin(*draws).any()
    # w does not depend on the law of c, nor on whether there is a bias.
    a = Cloud.draw(m=50, d=2, c=Zero(), w=Gaussian(), seed=0)
    np.testing.assert_array_equal(a.w, Cloud.gaussian(m=50, d=2, seed=0).w)


@given(st.integers(1, 20), st.integers(1, 6), st.booleans(), st.sampled_from(["float32", "float64"]))
def test_shapes_and_views(m, d, bias, dtype):
    cloud = Cloud.uniform(m=m, d=d, bias=bias, dtype=dtype)
    assert (cloud.m, cloud.d, cloud.p, cloud.bias, cloud.dtype) == (m, d, d + 1 + bias, bias, dtype)
    assert (cloud.c.shape, cloud.w.shape, cloud.b.shape) == ((m,), (m, d), (m,))
    assert {cloud.c.dtype, cloud.w.dtype, cloud.b.dtype} == {np.dtype(dtype)}
    columns = [cloud.c[:, None], cloud.w] + ([cloud.b[:, None]] if bias else [])
    np.testing.assert_array_equal(np.hstack(columns), cloud.theta)


def test_precision():
    wide, narrow = (Cloud.gaussian(m=100, d=2, seed=3, dtype=dtype) for dtype in ("float64", "float32"))
    np.testing.assert_array_equal(narrow.theta, wide.theta.astype(np.float32))
    np.testing.assert_array_equal(wide.astype("float32").theta, narrow.theta)
    assert Cloud([[1, 2], [3, 4]], bias=False).dtype == np.float64
    assert Cloud(np.ones((2, 3), np.float32)).dtype == np.float32
    assert Cloud(np.ones((2, 3), ">f8")).dtype.isnative
    assert narrow.scaled(1 / 3).dtype == np.float32


def test_tau_scales_all_parameters():
    cloud = Cloud.gaussian(m=10, d=2, seed=3)
    for scaled in (cloud.scaled(0.25), Cloud.gaussian(m=10, d=2, seed=3, tau=0.25)):
        np.testing.assert_array_equal(scaled.theta, 0.25 * cloud.theta)


def test_a_cloud_is_frozen_and_owns_its_numbers():
    theta = np.ones((2, 3))
    cloud = Cloud(theta)
    theta[0, 0] = 7
    assert cloud.theta[0, 0] == 1
    for array in (cloud.theta, cloud.c, cloud.w, cloud.b):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    with pytest.raises(AttributeError):
        cloud.theta = theta
    with pytest.raises(AttributeError):
        cloud.m = 7
    other = Cloud(theta, "tanh", bias=False).replace(2 * theta)
    assert (other.theta[0, 0], other.unit.name, other.bias) == (14, "tanh", False)


def test_a_cloud_shows_itself():
    cloud = Cloud(np.ones((2, 4)), "relu")
    assert repr(cloud) == "Cloud(m=2, d=2, unit='relu', bias=True, dtype='float64')"
    html = cloud._repr_html_()
    assert html.count("<tr>") == 4  # head, c, w, b
    assert "<td>w</td><td>1</td><td>0</td>" in html
    assert "<td>b</td>" not in Cloud(np.ones((2, 4)), bias=False)._repr_html_()


def test_a_drawn_cloud_can_be_sent_to_another_process():
    cloud = Cloud.gaussian(m=10**9, d=2, seed=1)
    twin = pickle.loads(pickle.dumps(cloud))
    np.testing.assert_array_equal(twin.rows(5, 9), cloud.rows(5, 9))


def draw(m=4, d=2, **options):
    return Cloud.gaussian(**{"m": m, "d": d, **options})


NAN, INF = math.nan, math.inf
BAD = [
    (lambda: draw(m=0), ArgumentError, "m is 0: give an integer of at least 1"),
    (lambda: draw(m=-3), ArgumentError, "m is -3"),
    (lambda: draw(m=2.5), ArgumentError, "m is 2.5"),
    (lambda: draw(m=2.0), ArgumentError, "m is 2.0"),
    (lambda: draw(m=True), ArgumentError, "m is True"),
    (lambda: draw(m="4"), ArgumentError, "m is '4'"),
    (lambda: draw(m=None), ArgumentError, "m is None"),
    (lambda: draw(d=0), ArgumentError, "d is 0"),
    (lambda: draw(d=1.5), ArgumentError, "d is 1.5"),
    (lambda: draw(m=5, symmetric=True), ArgumentError, "m is 5 and symmetric=True needs pairs: take m=6"),
    (lambda: draw(seed=-1), ArgumentError, "the seed is -1"),
    (lambda: draw(seed=1.0), ArgumentError, "the seed is 1.0"),
    (lambda: draw(tau=0), ArgumentError, "tau is 0"),
    (lambda: draw(tau=-1.0), ArgumentError, "tau is -1.0"),
    (lambda: draw(tau=NAN), ArgumentError, "tau is nan"),
    (lambda: draw(tau=INF), ArgumentError, "tau is inf"),
    (lambda: draw(unit="rellu"), UnknownNameError, "did you mean 'relu'"),
    (lambda: draw(variance_c=0), ArgumentError, "the variance is 0"),
    (lambda: draw(variance_w=-1.0), ArgumentError, "the variance is -1.0"),
    (lambda: draw(variance_b=-1.0), ArgumentError, "the variance is -1.0"),
    (lambda: draw(variance_w=NAN), ArgumentError, "the variance is nan"),
    (lambda: draw(variance_w=INF), ArgumentError, "the variance is inf"),
    (lambda: Cloud.uniform(4, 2, variance_w=0), ArgumentError, "the variance is 0"),
    (lambda: Cloud.sphere(4, 2, radius=0), ArgumentError, "the radius is 0"),
    (lambda: Cloud.sphere(4, 2, radius=-1.0), ArgumentError, "the radius is -1.0"),
    (lambda: Uniform(1, 1), ArgumentError, "give low < high"),
    (lambda: Uniform(0, INF), ArgumentError, "interval"),
    (lambda: Uniform(NAN, 1), ArgumentError, "interval"),
    (lambda: draw(dtype="float16"), PrecisionError, "'float16': choose one of float64, float32"),
    (lambda: draw(dtype="complex128"), PrecisionError, "complex128"),
    (lambda: draw(dtype="double precision"), PrecisionError, "double precision"),
    (lambda: draw(dtype=int), PrecisionError, "int"),
    (lambda: draw().astype("float16"), PrecisionError, "float16"),
    (lambda: Cloud(np.ones((2, 3), np.float16)), PrecisionError, "float16"),
    (lambda: Cloud(np.ones((2, 3), complex)), PrecisionError, "complex128"),
    (lambda: Cloud(np.ones((2, 3), object)), PrecisionError, "dtype"),
    (lambda: Cloud(np.ones((2, 3), bool)), PrecisionError, "bool"),
    (lambda: Cloud([["a", "b", "c"]]), PrecisionError, "<U1"),
    (lambda: Cloud([[1.0, NAN, 1.0]]), DataError, "particle 0 has a NaN or infinite parameter"),
    (lambda: Cloud([[1.0, 1.0, 1.0], [1.0, 1.0, -INF]]), DataError, "particle 1 "),
    (lambda: Cloud(np.ones((0, 3))), ShapeError, r"shape \(0, 3\), expected \(m, p\) with m ≥ 1"),
    (lambda: Cloud(np.ones(3)), ShapeError, r"shape \(3,\)"),
    (lambda: Cloud(np.ones((2, 3, 4))), ShapeError, r"shape \(2, 3, 4\)"),
    (lambda: Cloud(np.ones((2, 2))), ShapeError, "p ≥ 3: .*bias=False"),
    (lambda: Cloud(np.ones((2, 1)), bias=False), ShapeError, "p ≥ 2"),
    (lambda: Cloud([[1.0, 2.0, 3.0], [1.0, 2.0]]), ShapeError, "rows of several lengths"),
    (lambda: Cloud(np.ones((2, 3))).scaled(-2), ArgumentError, "tau is -2"),
    (lambda: draw().rows(-1, 2), ArgumentError, "first is -1"),
    (lambda: draw().rows(0, 2.5), ArgumentError, "last is 2.5"),
    (lambda: draw().rows(3, 2), ArgumentError, "particles 3 to 2 of 4: give 0 ≤ first ≤ last ≤ m"),
    (lambda: draw().rows(0, 5), ArgumentError, "particles 0 to 5 of 4"),
    (lambda: draw(m=10**15).theta, TooLargeError, "a cloud of 1000000000000000 particles takes 32 PB .*float32"),
    (lambda: draw(m=10**15).rows(3, 10**14), TooLargeError, "takes 3.2 PB"),
    (lambda: Cloud.draw(4, 2, c="normal", w=Gaussian()), ArgumentError, "the law of c is 'normal'"),
    (lambda: Cloud.draw(4, 2, c=Gaussian(), w=None), ArgumentError, "the law of w is None"),
    (lambda: Cloud.draw(4, 2, c=Gaussian(), w=lambda g, k, dim: g.random(k)).theta, ShapeError, "numbers of shape"),
    (lambda: Cloud.draw(4, 2, c=Gaussian(), w=lambda g, k, dim: g.random((k, 1))).theta, ShapeError, "numbers of"),
    (lambda: draw(m=3000, variance_c=1e300, dtype="float32").rows(2000, 2004), DataError, "particle 2000 has a NaN"),
    (lambda: Cloud(np.ones((2, 3)), "rellu"), UnknownNameError, "did you mean 'relu'"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_input_is_refused_with_the_remedy(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert caught.value.remedy


@pytest.mark.parametrize(("value", "expected"), [(3, 3), (np.int32(3), 3), (np.uint8(3), 3)])
def test_counts(value, expected):
    assert count_of("m", value) == expected
    assert type(count_of("m", value)) is int
    assert count_of("n_test", 0, least=0) == 0
    for bad in (-1, 0.0, False):
        with pytest.raises(ArgumentError, match="give an integer of at least 0"):
            count_of("n_test", bad, least=0)


@pytest.mark.parametrize("which", ["float64", float, np.float64, "f8", ">f8", np.dtype("float64")])
def test_precisions_by_any_name(which):
    assert dtype_of(which) == np.dtype("float64")
    assert dtype_of(which).isnative
