"""The Merkle tree as the database keeps it: leaves beside the records, tiles of 256 above them."""

import sqlite3
from functools import lru_cache

from gateway.audit.merkle import TILE, TILE_LEVELS, Node, node_hash

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
        hashes = [bytes(row[1]) for row in rows]
        if rows and rows[-1][0] != first + len(rows) - 1:
            raise LookupError(f"the log lacks hashes in tile {tile_level}/{tile}")
        found = [hashes]
        while len(hashes) > 1:
            hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=False)]
            found.append(hashes)
        return found

    def node(level: int, index: int) -> bytes:
        tile_level, inner = divmod(level, TILE_LEVELS)
        tile, place = divmod(index, TILE >> inner)
        found = levels(tile_level, tile)
        if inner >= len(found) or place >= len(found[inner]):
            raise LookupError(f"the log lacks hashes below node {level}/{index}")
        return found[inner][place]

    return node
