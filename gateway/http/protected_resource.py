"""Where clients that come without a credential get one: metadata of a protected resource (RFC 9728)."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from gateway.config import JwtSettings
from gateway.http.public_url import PublicUrl

PATH = "/.well-known/oauth-protected-resource/mcp"
_RESOURCE = "/mcp"


class ProtectedResource:
    """Tells whose tokens this gateway takes; it is there only where an issuer is set."""

    def __init__(self, settings: JwtSettings, public_url: PublicUrl) -> None:
        self._settings = settings
        self._public_url = public_url

    def url(self, request: Request[Any, Any, Any]) -> str:
        """Give where the metadata are."""
        return f"{self._public_url.of(request)}{PATH}"

    @property
    def route(self) -> HTTPRouteHandler:
        """The route of the metadata."""

        @get(PATH)
        async def protected_resource(request: Request[Any, Any, Any]) -> dict[str, Any]:
            """Tell clients whose tokens are taken, and with which scopes."""
            return {
                "resource": f"{self._public_url.of(request)}{_RESOURCE}",
                "authorization_servers": [self._settings.issuer],
                "bearer_methods_supported": ["header"],
                "scopes_supported": sorted(self._settings.scopes),
            }

        return protected_resource
