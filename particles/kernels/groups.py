"""The blocks and groups that the particles of a cloud are cut into, for sums that do not depend on who adds which part.

Each half of the cloud, [0, m - m//2) and the rest, is cut into blocks of FLUSH particles, and these into groups, runs
of blocks. Inside a group blocks are added first to last in float64; the groups of a half are added by an aligned binary
tree (`tiles.add_tree`); then the two halves, which cancel exactly where they are twins. All of it depends on m alone.

Plain Python, which `tiles` makes known to compiled code.
"""

from __future__ import annotations

GROUPS = 32  # at most so many partial sums over each half of the cloud, unless the groups would become too large
LARGE = 1 << 21  # particles in a group at most: work for thousands of ranks where m is a million millions
FLUSH = 256  # terms summed in the kernel's precision before they are added in float64


def half_blocks(m):
    """The number of blocks of FLUSH particles in the first half of the cloud, [0, m - m//2)."""
    return -(-(m - m // 2) // FLUSH)


def rows_of(block, m):
    """First and last particle of a block; those of the second half, [m - m//2, m), follow those of the first."""
    blocks, first = half_blocks(m), m - m // 2
    if block < blocks:
        return block * FLUSH, min((block + 1) * FLUSH, first)
    begin = first + (block - blocks) * FLUSH
    return begin, min(begin + FLUSH, m)


def groups_of_half(m):
    """The number of groups of particles in each half of the cloud: a function of m alone."""
    blocks = half_blocks(m)
    return min(blocks, max(GROUPS, -(-blocks * FLUSH // LARGE)))


def blocks_of(group, m):
    """First and last block of a group; the groups of the second half follow those of the first."""
    blocks, groups = half_blocks(m), groups_of_half(m)
    return group * blocks // groups, (group + 1) * blocks // groups


def row_of(group, m):
    """The first particle of a group; m for the one after the last."""
    return m if group == 2 * groups_of_half(m) else rows_of(blocks_of(group, m)[0], m)[0]


def nodes(first, last, groups):
    """What `add_tree` leaves of groups [first, last), a list of (group, width): the sum of [group, group + width)."""
    found, group = [], first
    while group < last:
        width = 1
        while width < groups and group % (2 * width) == 0 and min(group + 2 * width, groups) <= last:
            width *= 2
        found.append((group, width))
        group += width
    return found


def added(terms, first, groups):
    """The same for arrays that come one after another, a few of which are kept: {group: the sum of its node}."""
    held = []
    for last, term in enumerate(terms, first + 1):
        held.append((last - 1, 1, term))
        while True:
            group, width, total = held[-1]
            if width < groups and group % (2 * width) == 0 and min(group + 2 * width, groups) <= last:
                held[-1] = group, 2 * width, total  # nothing is to its right
            elif group % (2 * width) and len(held) > 1 and held[-2][:2] == (group - width, width):
                held.pop()
                held[-1][2][...] += total
            else:
                break
    return {group: total for group, _, total in held}
