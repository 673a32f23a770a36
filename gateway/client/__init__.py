"""The blocking client of a home: through its gateway's socket, or by opening the home itself."""

from gateway.client.client import Client, Reply
from gateway.client.home import find_home, socket_of

__all__ = ["Client", "Reply", "find_home", "socket_of"]
