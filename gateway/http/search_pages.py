"""Pages of what a search found."""

import base64
import binascii
import hashlib
import json
from typing import Any

from pydantic import BaseModel

from gateway.errors import MalformedError
from gateway.http.authzen_bodies import MAX_PAGE, PageBody, SearchBody


def paged(found: list[dict[str, str]], data: SearchBody) -> dict[str, Any]:
    """Give the page that is asked for, and the token of the next; a search of another question refuses the token.

    Raises:
        MalformedError: the token is none of this search.
    """
    page = data.page
    if page is None and len(found) <= MAX_PAGE:
        return {"results": found}
    asked = _fingerprint(data)
    start, limit = _place(page, asked)
    end = start + limit
    token = "" if end >= len(found) else _token(asked, end, limit)
    results = found[start:end]
    return {"results": results, "page": {"next_token": token, "count": len(results), "total": len(found)}}


def _fingerprint(data: BaseModel) -> str:
    spelt = json.dumps(data.model_dump(exclude={"page"}), sort_keys=True, default=str)
    return hashlib.sha256(spelt.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _token(asked: str, start: int, limit: int) -> str:
    return base64.urlsafe_b64encode(f"{asked}.{start}.{limit}".encode()).decode().rstrip("=")


def _place(page: PageBody | None, asked: str) -> tuple[int, int]:
    if page is None or not page.token:
        return 0, MAX_PAGE if page is None or page.limit is None else page.limit
    try:
        text = base64.urlsafe_b64decode(page.token + "=" * (-len(page.token) % 4)).decode("ascii")
        before, start, limit = text.split(".")
        place = int(start), int(limit)
    except (ValueError, binascii.Error):
        raise MalformedError("page.token: not one of this gateway's", way_out="begin without a token") from None
    if before != asked:
        raise MalformedError("page.token: the search is another than the one it continues", way_out="begin anew")
    if not (place[0] > 0 and 0 < place[1] <= MAX_PAGE):
        raise MalformedError("page.token: not one of this gateway's", way_out="begin without a token")
    return place[0], page.limit or place[1]
