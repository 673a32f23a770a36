"""A home, open to a Python program."""

from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.client import Client, find_home
from gateway.facade.approvals import CallApprovals
from gateway.facade.audit import AuditLog
from gateway.facade.consents import ConsentLedger
from gateway.facade.lockdowns import Lockdowns
from gateway.facade.log_files import LogFiles
from gateway.facade.permissions import PermissionManager
from gateway.facade.plugins import PluginManager
from gateway.facade.traffic import TrafficLogger


class Gateway:
    """The gateway of a home, asked as the home's owner until `close`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.plugins = PluginManager(client)
        self.permissions = PermissionManager(client)
        self.approvals = CallApprovals(client)
        self.consents = ConsentLedger(client)
        self.lockdowns = Lockdowns(client)
        self.traffic = TrafficLogger(client)
        self.log_files = LogFiles(client)
        self.audit = AuditLog(client)

    @property
    def home(self) -> Path:
        """The home's folder."""
        return self._client.home

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the home; if it was opened here, what still runs in it is ended."""
        self._client.close()


def open_gateway(home: str | Path | None = None) -> Gateway:
    """Open `home`, else `$HEARTHGATE_HOME`, else the current folder: through its gateway if one serves it.

    Raises:
        NoHomeError: there is no home there.
        HomeInUseError: a process that answers no one has it open.

    """
    return Gateway(Client(find_home(None if home is None else Path(home))))
