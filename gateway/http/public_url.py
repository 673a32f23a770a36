"""The address under which clients know this gateway."""

from typing import Any

from litestar import Request


class PublicUrl:
    """Tells the gateway's own base address: as it is set, else as the client spelt it."""

    def __init__(self, configured: str) -> None:
        self._configured = configured

    def of(self, request: Request[Any, Any, Any]) -> str:
        """Give it without a slash at its end."""
        if self._configured:
            return self._configured
        # SECURITY: the door has found the host to be one of this gateway's.
        return f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"
