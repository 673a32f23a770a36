"""The Merkle tree as the database keeps it: leaves beside the records, tiles of 256 above them."""

import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from gateway.audit.merkle import TILE, TILE_LEVELS, Frontier, Node, node_hash

CACHED_TILES = 64  # some 40 kB each
_LEAVES = "SELECT seq - 1, leaf FROM record WHERE seq > ? AND seq <= ? ORDER BY seq"
_TILES = "SELECT idx, hash FROM tile WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"


def stored_node(connection: sqlite3.Connection) -> Node:
    """Give a reader of the tree's nodes, which keeps the tiles that it read last.

    It knows the tree as it was when a tile was read: nodes that were completed later may be missing.

    Raises (when called):
        LookupError: the database lacks a part of the tree.

    """

    @lru_cache(CACHED_TILES)
    def levels(tile_level: int, tile: int) -> list[list[bytes]]:
        """Read a tile, and hash what is complete in it: each level from the bottom up."""
        first = tile * TILE
        if tile_level == 0:
            rows = connection.execute(_LEAVES, (first, first + TILE)).fetchall()
        else:
            rows = connection.execute(_TILES, (tile_level, first, first + TILE)).fetchall()
        found = [[bytes(row[1]) for row in rows]]
        if rows and rows[-1][0] - rows[0][0] != len(rows) - 1:
            raise LookupError(f"the log lacks hashes in tile {tile_level}/{tile}")
        if rows and rows[0][0] != first:
            return _hash_tail(rows[0][0] - first, found[0])
        while len(hashes := found[-1]) > 1:
            pairs = zip(hashes[::2], hashes[1::2], strict=False)
            found.append([sha256(b"\x01" + left + right).digest() for left, right in pairs])
        return found

    def node(level: int, index: int) -> bytes:
        tile_level, inner = divmod(level, TILE_LEVELS)
        tile, place = divmod(index, TILE >> inner)
        found = levels(tile_level, tile)
        if inner >= len(found) or place >= len(found[inner]) or not found[inner][place]:
            raise LookupError(f"the log lacks hashes below node {level}/{index}")
        return found[inner][place]

    return node


def _hash_tail(missing: int, hashes: list[bytes]) -> list[list[bytes]]:
    """Hash what is complete in a tile whose first nodes lie in another file; what is not is empty."""
    found = [[b""] * missing + hashes]
    while len(level := found[-1]) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        found.append([node_hash(left, right) if left and right else b"" for left, right in pairs])
    return found


def chained_node(parts: Sequence[tuple[int, int, Node]], before: Frontier) -> Node:
    """Give a reader of the nodes of a tree that lies in several files, one behind the other.

    Each part is the first and the last record in a file, and the reader of its nodes; a tile lies in the file
    of the record that completed it. Of what came before the first part only the frontier is known, and no
    node that an inclusion proof of a later record could ask for is lacking.

    Raises (when called):
        LookupError: a node lies in what is not there.

    """
    known = _frontier_nodes(before)
    lasts = [last for _, last, _ in parts]

    def node(level: int, index: int) -> bytes:
        end = (index + 1) << level
        if end <= before.size:
            if (level, index) not in known:
                raise LookupError(f"the log no longer has node {level}/{index}: records up to {before.size} are gone")
            return known[level, index]
        tile_level, inner = divmod(level, TILE_LEVELS)
        holder = bisect_left(lasts, end)
        if holder == len(parts):
            raise LookupError(f"the log ends before node {level}/{index}")
        first, _, read = parts[holder]
        if inner == 0 or ((index << inner) + 1) << (TILE_LEVELS * tile_level) >= first:
            return read(level, index)
        return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    return node


def _frontier_nodes(frontier: Frontier) -> dict[tuple[int, int], bytes]:
    known: dict[tuple[int, int], bytes] = {}
    done = 0
    levels = [level for level in range(frontier.size.bit_length() - 1, -1, -1) if frontier.size >> level & 1]
    for level, found in zip(levels, frontier.hashes, strict=True):
        known[level, done >> level] = found
        done += 1 << level
    return known
