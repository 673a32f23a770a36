"""The Merkle tree as the database keeps it: leaves beside the records, tiles of 256 above them."""

import sqlite3

from gateway.audit.merkle import TILE_LEVELS, Node, node_hash


def stored_node(connection: sqlite3.Connection) -> Node:
    """Give a reader of the tree's nodes.

    Raises (when called):
        LookupError: the database lacks a part of the tree.

    """

    def node(level: int, index: int) -> bytes:
        tile_level, inner = divmod(level, TILE_LEVELS)
        first, count = index << inner, 1 << inner
        if tile_level == 0:
            sql = "SELECT leaf FROM record WHERE seq > ? AND seq <= ? ORDER BY seq"
            rows = connection.execute(sql, (first, first + count)).fetchall()
        else:
            sql = "SELECT hash FROM tile WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"
            rows = connection.execute(sql, (tile_level, first, first + count)).fetchall()
        hashes = [row[0] for row in rows]
        if len(hashes) != count:
            raise LookupError(f"the log lacks {count - len(hashes)} hashes below node {level}/{index}")
        while len(hashes) > 1:
            pairs = zip(hashes[::2], hashes[1::2], strict=True)
            hashes = [node_hash(left, right) for left, right in pairs]
        return bytes(hashes[0])

    return node
