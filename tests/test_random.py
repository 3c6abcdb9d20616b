import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from particles.cloud import Cloud
from particles.errors import ArgumentError
from particles.random import BLOCK, blocks, generator


def uniforms(*key, count=4096):
    return generator(*key).uniform(size=count)


# Frozen numbers: whoever changes the streams changes every published run, and must notice.
@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ((0, "golden"), [15044421124486774354, 5070021707097034069, 4910454188282929261]),
        ((1, "golden", 2, 3), [8783447184516118096, 17094520988976438430, 14199468678835922677]),
        ((2**100, "golden"), [7217874470599383691, 7241108651846442482, 11592956616697860465]),
    ],
)
def test_the_streams_are_frozen(key, raw):
    assert generator(*key).bit_generator.random_raw(3).tolist() == raw


def test_the_clouds_are_frozen():
    theta = Cloud.gaussian(m=2, d=1, seed=0).theta
    # Four ulps: the normals pass through the C library's log and exp.
    np.testing.assert_allclose(
        theta,
        [
            [1.681799944386341, -0.7742155520992346, -0.3687094153655756],
            [0.621457928282331, -0.10735149175779322, -0.9923495329378862],
        ],
        rtol=1e-15,
    )


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), np.uint8(7), 2**200])
def test_the_same_key_gives_the_same_numbers(seed):
    np.testing.assert_array_equal(uniforms(seed, "s", 5, 6), uniforms(int(seed), "s", 5, 6))


def test_streams_of_different_keys_are_uncorrelated():
    keys = itertools.product((0, 1), ("cloud.c", "cloud.w"), (0, 1), (0, 1, 2))
    draws = np.array([uniforms(*key) for key in keys])
    correlation = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    # 276 correlations of standard deviation 1/√4096: one of them is beyond 5 standard errors with probability 2e-4,
    # and the keys are fixed.
    assert np.abs(correlation).max() < 5 / np.sqrt(4096)


def test_streams_do_not_overlap():
    # Blocks share a key and differ in a counter: a long draw from one must not run into the next.
    keys = [*itertools.product((0, 1), ("s",), (0, 1), (0, 1, 2)), (0, "s", 10), (0, "s1"), (10, "s")]
    values = [generator(*key).bit_generator.random_raw(20_000) for key in keys]
    assert len(np.unique(np.concatenate(values))) == 20_000 * len(keys)  # a chance repetition: 1e-9


@given(st.integers(1, 3 * BLOCK), st.integers(1, 3 * BLOCK))
def test_the_first_rows_do_not_depend_on_the_count(one, other):
    def draw(g, count):
        return g.uniform(size=(count, 2))

    short, long = (blocks(3, "s", count, draw) for count in sorted((one, other)))
    assert short.shape == (min(one, other), 2)
    np.testing.assert_array_equal(short, long[: len(short)])


def test_each_block_can_be_drawn_alone():
    whole = blocks(3, "s", 2 * BLOCK + 5, lambda g, count: g.uniform(size=(count, 1)))
    alone = generator(3, "s", block=1).uniform(size=(BLOCK, 1))
    np.testing.assert_array_equal(whole[BLOCK : 2 * BLOCK], alone)


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0", None, np.float64(1)])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(ArgumentError, match=r"the seed is .*: give an integer that is not negative"):
        generator(seed, "s")
