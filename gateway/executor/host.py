"""What this host can keep of the sandbox's promises, proven by doing."""

from collections.abc import Callable

from gateway.domain.request import Json
from sandbox.probe import Guarantee


class Host:
    """The guarantees of this host as they were last proven."""

    def __init__(self, prove: Callable[[], tuple[Guarantee, ...]], accepted: frozenset[str]) -> None:
        self._prove = prove
        self._accepted = accepted
        self.guarantees: tuple[Guarantee, ...] = ()
        # What the operator accepts to be missing and is; all that is accepted, until the host is proven.
        self.degraded: tuple[str, ...] = tuple(sorted(accepted))

    def prove(self) -> tuple[Guarantee, ...]:
        """Prove every guarantee anew; takes some seconds."""
        self.guarantees = self._prove()
        held = {each.name for each in self.guarantees if each.held}
        self.degraded = tuple(sorted(self._accepted - held))
        return self.guarantees

    @property
    def missing(self) -> tuple[Guarantee, ...]:
        """What every plugin needs and the host cannot give."""
        return tuple(each for each in self.guarantees if each.mandatory and not each.held)

    def as_json(self) -> list[dict[str, Json]]:
        """Give the wire shape."""
        return [
            {
                "name": each.name,
                "held": each.held,
                "mandatory": each.mandatory,
                "accepted": each.name in self._accepted,
                "detail": each.detail,
                "fix": each.fix,
            }
            for each in self.guarantees
        ]
