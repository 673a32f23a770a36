"""To meter: how much one allowed ask moved, where to, how long it took and how it ended."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.decision import Decision
from gateway.domain.outcome import Outcome
from gateway.errors import DeniedError, HearthgateError, MalformedError, OverloadedError
from gateway.flows.asking import Asking, Peer
from gateway.traffic.transfer import Passage, Start

_REFUSED = (DeniedError, OverloadedError, MalformedError)


@contextmanager
def metered(asking: Asking, op: str, peer: Peer | None, decision: Decision) -> Iterator[Passage]:
    """Have the deed in the body counted as one transfer; what ends the body ends the transfer."""
    traffic = asking.parts.traffic
    passage = traffic.begin(
        Start(
            decision_id=decision.decision_id,
            execution_id=asking.execution_id,
            plugin=asking.plugin.id,
            user=asking.call.user or "",
            op=op,
            at=asking.parts.now(),
            method=None if peer is None else peer.method,
            host=None if peer is None else peer.host,
            port=None if peer is None else peer.port,
            path=peer.path if peer is not None and traffic.paths else None,
        )
    )
    try:
        yield passage
    except asyncio.CancelledError:
        passage.end(Outcome.KILLED)
        raise
    except HearthgateError as error:
        passage.end(Outcome.REFUSED if isinstance(error, _REFUSED) else Outcome.FAILED, error.code)
        raise
    except BaseException:
        passage.end(Outcome.FAILED, HearthgateError.code)
        raise
    else:
        passage.end(Outcome.RETURNED)
    finally:
        asking.moved.count(passage.bytes_out, passage.bytes_in)
