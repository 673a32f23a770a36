import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit import merkle

VECTORS = json.loads((Path(__file__).parents[1] / "testdata" / "decision-log" / "rfc6962.json").read_text())
SIZES = st.integers(1, 600)


def leaves(size: int) -> list[bytes]:
    return [merkle.leaf_hash(index.to_bytes(2, "big")) for index in range(size)]


def naive_root(hashes: list[bytes]) -> bytes:
    """The definition of RFC 6962 section 2.1, word for word."""
    if len(hashes) < 2:
        return hashes[0] if hashes else merkle.EMPTY_ROOT
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return merkle.node_hash(naive_root(hashes[:split]), naive_root(hashes[split:]))


def nodes_of(hashes: list[bytes]) -> merkle.Node:
    return lambda level, index: naive_root(hashes[index << level : (index + 1) << level])


@pytest.mark.parametrize("size", range(len(VECTORS["roots"])))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    frontier = merkle.Frontier()
    for leaf in VECTORS["leaves"][:size]:
        frontier.push(merkle.leaf_hash(bytes.fromhex(leaf)))
    assert frontier.root().hex() == VECTORS["roots"][size]


@given(SIZES)
def test_the_frontier_gives_the_root_of_the_definition(size: int) -> None:
    hashes = leaves(size)
    frontier = merkle.Frontier()
    for leaf in hashes:
        frontier.push(leaf)
    assert frontier.root() == naive_root(hashes) == merkle.root_at(size, nodes_of(hashes))


@pytest.mark.parametrize("size", [255, 256, 257, 512, 65536])
def test_a_full_tile_comes_out_with_its_hash(size: int) -> None:
    frontier, tiles = merkle.Frontier(), []
    for leaf in leaves(size):
        tiles += frontier.push(leaf)
    wanted = [(1, naive_root(leaves(size)[at : at + 256])) for at in range(0, size - 255, 256)]
    assert [tile for tile in tiles if tile[0] == 1] == wanted
    assert [tile for tile in tiles if tile[0] == 2] == ([(2, frontier.root())] if size == 65536 else [])


@given(SIZES, st.data())
def test_an_inclusion_proof_proves_its_leaf_and_nothing_else(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    root, proof = naive_root(hashes), merkle.inclusion_proof(index, size, nodes_of(hashes))
    assert merkle.proves_inclusion(index, size, hashes[index], proof, root)
    assert not merkle.proves_inclusion(index, size, merkle.leaf_hash(b"other"), proof, root)
    assert not merkle.proves_inclusion(index, size, hashes[index], [*proof, root], root)
    assert not merkle.proves_inclusion(index, size, hashes[index], proof, hashes[0] if size > 1 else merkle.EMPTY_ROOT)
    if proof:
        elsewhere = data.draw(st.integers(-1, size).filter(lambda other: other != index))
        assert not merkle.proves_inclusion(elsewhere, size, hashes[index], proof, root)
        assert not merkle.proves_inclusion(index, size, hashes[index], proof[1:], root)
        spoilt = data.draw(st.integers(0, len(proof) - 1))
        changed = [merkle.EMPTY_ROOT if at == spoilt else each for at, each in enumerate(proof)]
        assert not merkle.proves_inclusion(index, size, hashes[index], changed, root)


@given(SIZES, st.data())
def test_a_consistency_proof_proves_a_beginning_and_nothing_else(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    old = data.draw(st.integers(0, size))
    roots = (naive_root(hashes[:old]), naive_root(hashes))
    proof = merkle.consistency_proof(old, size, nodes_of(hashes))
    assert merkle.proves_consistency(old, size, roots, proof)
    assert not merkle.proves_consistency(old, size, (merkle.leaf_hash(b"other"), roots[1]), proof)
    assert not merkle.proves_consistency(old, size, roots, [*proof, merkle.EMPTY_ROOT])
    if 0 < old < size:
        assert not merkle.proves_consistency(old, size, (roots[0], merkle.leaf_hash(b"other")), proof)
        assert not merkle.proves_consistency(old, size, roots, proof[:-1])
        assert not merkle.proves_consistency(old, size, roots, [merkle.EMPTY_ROOT, *proof[1:]])


def test_a_proof_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion_proof(3, 3, nodes_of(leaves(3)))
    with pytest.raises(ValueError, match="no beginning"):
        merkle.consistency_proof(4, 3, nodes_of(leaves(3)))
