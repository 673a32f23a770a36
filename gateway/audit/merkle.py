"""The Merkle tree of RFC 6962: hashes, roots and proofs. Pure: where the hashes are kept is the caller's.

A node is named by its level and index: node (k, i) covers the leaves from i * 2^k up to (i + 1) * 2^k.
"""

import hashlib
from collections.abc import Callable, Sequence

Node = Callable[[int, int], bytes]  # (level, index) -> hash of a complete subtree

EMPTY_ROOT = hashlib.sha256(b"").digest()
TILE_LEVELS = 8  # a tile is a complete subtree of 256 leaves, or of 256 tiles
TILE = 1 << TILE_LEVELS
_MAX_PROOF = 64
_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """Hash the bytes of one leaf."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into one."""
    return _sha256(b"\x01" + left + right).digest()


class Frontier:
    """What must be remembered of a tree to append to it: one hash for each complete subtree."""

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)  # the biggest subtree first

    def copy(self) -> "Frontier":
        """Give one that can go its own way."""
        return Frontier(self.size, self.hashes)

    def push(self, leaf: bytes) -> list[tuple[int, bytes]]:
        """Append a leaf hash; give the tiles that it completes, each as its tile level and its hash."""
        node, size, level = leaf, self.size, 0
        tiles: list[tuple[int, bytes]] = []
        hashes = self.hashes
        while size & 1:
            node = _sha256(b"\x01" + hashes.pop() + node).digest()
            size >>= 1
            level += 1
            if level % TILE_LEVELS == 0:
                tiles.append((level // TILE_LEVELS, node))
        hashes.append(node)
        self.size += 1
        return tiles

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append leaf hashes, many at a time."""
        begin, count = 0, len(leaves)
        while begin < count:
            # INVARIANT: a block is as long as it is aligned, so that it is a complete subtree of its own.
            aligned = self.size & -self.size if self.size else 1 << count.bit_length()
            length = min(aligned, 1 << (count - begin).bit_length() - 1)
            nodes = leaves[begin : begin + length]
            while len(nodes) > 1:
                nodes = [_sha256(b"\x01" + a + b).digest() for a, b in zip(nodes[::2], nodes[1::2], strict=True)]
            self._put(nodes[0], length)
            begin += length

    def _put(self, node: bytes, length: int) -> None:
        """Append a complete subtree of `length` leaves, a power of two that divides the size."""
        size = self.size
        while size & length:
            node = _sha256(b"\x01" + self.hashes.pop() + node).digest()
            size -= length
            length *= 2
        self.hashes.append(node)
        self.size = size + length

    def root(self) -> bytes:
        """Give the hash of the whole tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def read_frontier(size: int, node: Node) -> Frontier:
    """Build the frontier of a tree of `size` leaves from its nodes."""
    hashes = []
    done = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            hashes.append(node(level, done >> level))
            done += 1 << level
    return Frontier(size, hashes)


def root_at(size: int, node: Node) -> bytes:
    """Give the root that the tree had when it had `size` leaves."""
    return read_frontier(size, node).root()


def _span_root(begin: int, end: int, node: Node) -> bytes:
    """Hash the leaves from `begin` up to `end`; `begin` is where RFC 6962 splits."""
    count = end - begin
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, begin >> level)
    split = _split(count)
    return node_hash(_span_root(begin, begin + split, node), _span_root(begin + split, end, node))


def _split(count: int) -> int:
    """Give the largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Prove that leaf `index`, counted from 0, is in the tree of `size` leaves (RFC 6962 section 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(_span_root(middle, end, node))
            end = middle
        else:
            proof.append(_span_root(begin, middle, node))
            begin = middle
    proof.reverse()
    return proof


def consistency_proof(old: int, size: int, node: Node) -> list[bytes]:
    """Prove that the tree of `old` leaves is the beginning of the tree of `size` (RFC 6962 section 2.1.2)."""
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} has no beginning of {old}")
    if old in (0, size):
        return []
    proof: list[bytes] = []
    begin, end, whole = 0, size, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(_span_root(middle, end, node))
            end = middle
        else:
            proof.append(_span_root(begin, middle, node))
            begin, whole = middle, False
    if not whole:
        proof.append(_span_root(begin, end, node))
    proof.reverse()
    return proof


def proves_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether `proof` shows `leaf` at `index` under `root` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or len(proof) > _MAX_PROOF:
        return False
    at, last, result = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            result = node_hash(step, result)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            result = node_hash(result, step)
        at >>= 1
        last >>= 1
    return last == 0 and result == root


def proves_consistency(old: int, size: int, roots: tuple[bytes, bytes], proof: Sequence[bytes]) -> bool:
    """Tell whether `proof` shows the old root to be a beginning of the new (RFC 9162 section 2.1.4.2)."""
    old_root, new_root = roots
    if not 0 <= old <= size or len(proof) > 2 * _MAX_PROOF:
        return False
    if old == size:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    return _walk_consistency(old, size, path) == roots


def _walk_consistency(old: int, size: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    at, last = old - 1, size - 1
    while at & 1:
        at >>= 1
        last >>= 1
    old_root = new_root = path[0]
    for step in path[1:]:
        if last == 0:
            return None
        if at & 1 or at == last:
            old_root, new_root = node_hash(step, old_root), node_hash(step, new_root)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            new_root = node_hash(new_root, step)
        at >>= 1
        last >>= 1
    return (old_root, new_root) if last == 0 else None
