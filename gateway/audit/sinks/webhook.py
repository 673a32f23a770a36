"""Webhooks, signed as standardwebhooks.com says: `webhook-id`, `webhook-timestamp`, `webhook-signature`."""

import base64
import hashlib
import hmac
import ssl
from collections.abc import Callable
from datetime import datetime

import httpx

from gateway.audit.sinks.delivery import Batch, UndeliveredError
from gateway.audit.sinks.sink import Sink, Webhook

_CONNECT_S, _ANSWER_S = 5.0, 10.0
_MAX_RETRY_AFTER_S = 300
_MAX_DIGITS = 18
_OK = range(200, 300)
_REDIRECTS = range(300, 400)
_BATCHED = "cloudevents"


def sign(key: bytes, message_id: str, at: int, body: bytes) -> str:
    """Give the signature of a body: HMAC-SHA256 over `id.timestamp.body`, so that neither can be used again."""
    signed = b"%b.%d.%b" % (message_id.encode(), at, body)
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class WebhookTarget:
    """Posts batches to one endpoint."""

    def __init__(self, sink: Sink, target: Webhook, now: Callable[[], datetime]) -> None:
        self._sink, self._target, self._now = sink, target, now
        context = ssl.create_default_context(cafile=None if target.ca_file is None else str(target.ca_file))
        self._client = httpx.Client(
            verify=context,
            # SECURITY: the operator named one address; where a redirect leads is nobody's wish.
            follow_redirects=False,
            # SECURITY: a proxy of the environment would see what is sent.
            trust_env=False,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
        )

    def send(self, batch: Batch) -> None:
        """Post a batch; the answer's body is not read.

        Raises:
            UndeliveredError: it was not taken.

        """
        try:
            body, headers = self._request(batch)
            with self._client.stream("POST", self._target.url, content=body, headers=headers) as got:
                status, retry_after = got.status_code, got.headers.get("retry-after", "")
        except httpx.TimeoutException:
            raise UndeliveredError("the endpoint does not answer in time") from None
        except httpx.ConnectError as error:
            raise UndeliveredError(f"the endpoint cannot be reached: {error}") from None
        except httpx.HTTPError:
            raise UndeliveredError("the endpoint broke the connection") from None
        if status in _OK:
            return
        if status in _REDIRECTS:
            raise UndeliveredError(f"the endpoint answered {status}: redirects are not followed")
        raise UndeliveredError(f"the endpoint answered {status}", retry_after_s=_seconds(retry_after))

    def _request(self, batch: Batch) -> tuple[bytes, dict[str, str]]:
        if self._sink.form.name == _BATCHED:
            body = b"[%b]" % b",".join(each.rstrip(b"\n") for each in batch.messages)
            content_type = "application/cloudevents-batch+json"
        else:
            body, content_type = b"".join(batch.messages), "application/x-ndjson"
        # WHY: the same numbers give the same id, by which a receiver knows what it got before.
        numbers = f"{self._sink.name}\n{batch.first_seq}\n{batch.last_seq}"
        message_id = f"msg_{hashlib.sha256(numbers.encode()).hexdigest()[:32]}"
        at = int(self._now().timestamp())
        headers = {
            "content-type": content_type,
            "user-agent": "hearthgate",
            "webhook-id": message_id,
            "webhook-timestamp": f"{at}",
            "webhook-signature": sign(self._key(), message_id, at, body),
            "hearthgate-first-seq": f"{batch.first_seq}",
            "hearthgate-last-seq": f"{batch.last_seq}",
        }
        return body, headers

    def _key(self) -> bytes:
        try:
            return self._target.key()
        except (OSError, ValueError) as error:
            raise UndeliveredError(f"the key that signs cannot be used: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _seconds(retry_after: str) -> int:
    """Give how long an endpoint wants to be left alone, within bounds."""
    digits = retry_after if retry_after.isascii() and retry_after.isdigit() else "0"
    # SECURITY: an endless number takes endless time to read.
    return min(int(digits[:_MAX_DIGITS]), _MAX_RETRY_AFTER_S)
