"""One exact call: what is done, with which arguments, for whom, so that an approval of it is one of nothing else."""

import hashlib
import json
from collections.abc import Mapping

from msgspec import Struct

from gateway.domain.names import PluginId
from gateway.domain.request import Json


class ExactCall(Struct, frozen=True, kw_only=True):
    """A call as an approval is bound to it: the deed, its arguments, who makes it, and through which plugins."""

    op: str  # `vault.write`, `execute`, `decision` ...
    args: Mapping[str, Json]  # without what the scope says; bytes as their digest
    by: str | None = None  # whose credential made it
    chain: tuple[PluginId, ...] = ()
    running: Mapping[PluginId, str | None] = {}  # the digest of the code that runs, of those of them that run already


def digest_of_bytes(data: bytes) -> dict[str, Json]:
    """Give what stands for bytes among the arguments of a call."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def canonical_args(args: Mapping[str, Json]) -> bytes | None:
    """Give the one spelling of arguments: members sorted, nothing between them, UTF-8; None if they have none.

    Two values that a plugin could tell apart are spelt differently, so 1 is not 1.0 and no text is normalised.
    """
    # SECURITY: not the log's canonical JSON, which shortens and mends what it cannot spell: two calls could look alike.
    try:
        text = json.dumps(args, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError):
        return None
