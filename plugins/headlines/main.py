"""Headlines: tells the newest titles of a JSON feed, fetched with Python's own urllib.

Nothing here knows of the gateway. A plugin that asks for network finds a proxy in its environment, and an ordinary
client, as urllib, requests or httpx, goes through it: each request and each tunnel is a decision and a record.
Over https a client opens a tunnel, of which nobody sees what it does, so it needs `network_write`; with
`network_read` there is `ctx.http`, which the weather plugin shows.
"""

import json
import urllib.error
import urllib.request


def headlines(ctx, feed, most):
    try:
        with urllib.request.urlopen(feed, timeout=20) as answer:  # noqa: S310 (whatever it is, the policy is asked)
            items = json.load(answer)["items"]
    except urllib.error.HTTPError as refused:
        raise RuntimeError(f"{feed}: {refused.code} {refused.reason}") from None
    ctx.log(f"{len(items)} items")
    return [item["title"] for item in items[:most]]
