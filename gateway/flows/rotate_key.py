"""To rotate the log's key: a new one signs, the old one says so in the log, and its public half is kept."""

from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.parts import Parts


async def rotate_key(parts: Parts, caller: Caller, reason: str) -> str:
    """Give the note with which the old key hands over; both keys signed it.

    Raises:
        DeniedError: the caller may not.
        ConflictError: a rotation is under way.
        LogUnavailableError: it could not be recorded, or its files not be written.
    """
    await authorize(parts, caller, Level.ADMIN, "audit", key_scope="admin")
    return await parts.log.rotate_key(event(parts, caller, "key_rotated", None, {"reason": reason}))
