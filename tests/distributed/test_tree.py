"""The fixed tree of sums, without processes."""

import numpy as np
import pytest

from nnpar.distributed import tree


def reference(leaves):
    """The sum of a power of two of arrays, halves first."""
    if len(leaves) == 1:
        return leaves[0]
    half = len(leaves) // 2
    return reference(leaves[:half]) + reference(leaves[half:])


@pytest.mark.parametrize("shards", [1, 2, 4, 8, 64])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 7, 8])
def test_each_shard_has_an_owner_and_nodes_are_those_of_the_tree(shards, ranks):
    if ranks > shards:
        return
    owners = [tree.owned(rank, ranks, shards) for rank in range(ranks)]
    assert [shard for owner in owners for shard in owner] == list(range(shards))
    assert max(map(len, owners)) - min(map(len, owners)) <= 1
    for owner in owners:
        nodes = list(tree.nodes_of(owner))
        assert [first + k for first, size in nodes for k in range(size)] == list(owner)
        assert all(size & (size - 1) == 0 and first % size == 0 for first, size in nodes)
        # None could be part of a larger one.
        assert all(
            (first - first % (2 * size), size) not in nodes or first % (2 * size) == 0 or nodes.count(
                (first - size, size)) == 0
            for first, size in nodes
        )  # fmt: skip


@pytest.mark.parametrize("shards", [1, 2, 4, 8, 16])
def test_sums_of_any_part_are_nodes_of_the_tree(shards):
    rng = np.random.default_rng(0)
    leaves = [rng.standard_normal(37).astype(np.float32) * 10.0**k for k in range(shards)]
    kept = tree.TreeSum(37)
    for start in range(shards):
        for stop in range(start + 1, shards + 1):
            kept.begin()
            for shard in range(start, stop):
                values = kept.new()
                values[...] = leaves[shard]
                kept.add(shard, values)
            assert list(kept.nodes) == list(tree.nodes_of(range(start, stop)))
            for (first, size), values in kept.nodes.items():
                np.testing.assert_array_equal(values, reference(leaves[first : first + size]))
    out = np.empty(37, np.float32)
    tree.SumOverRanks(None, shards).add({(0, shards): reference(leaves)}, out)
    np.testing.assert_array_equal(out, reference(leaves))


def test_memory_is_used_again():
    kept = tree.TreeSum(5)
    seen = set()
    for _ in range(3):
        kept.begin()
        for shard in range(8):
            values = kept.new()
            seen.add(id(values))
            values[...] = 1
            kept.add(shard, values)
    assert len(seen) <= 4
