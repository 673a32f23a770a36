"""What a person watches as it happens: records as they come, and an index as it grows."""

import json
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from gateway.cli.call import Call
from gateway.cli.output import cell_text, note

_POLL_S = 0.5
_MEMBERS = ("timestamp", "plugin_id", "user_id", "risk_score", "what")


def follow_log(call: Call, filters: dict[str, Any], lines: int) -> None:
    """Print the newest records, then each as it is recorded, until interrupted."""
    with call.client() as client, suppress(KeyboardInterrupt):
        found = client.request("GET", "/v1/audit", params={**filters, "limit": lines}).body["records"]
        for record in reversed(found):
            _print(call, record)
        newest = client.request("GET", "/v1/audit/index").body["records"]
        after = max((record["seq"] for record in found), default=newest)
        while True:
            with closing(client.stream_lines("/v1/audit/follow", params={**filters, "after": after})) as stream:
                for line in stream:
                    if line.strip():
                        record = json.loads(line)
                        after = record["seq"]
                        _print(call, record)


def _print(call: Call, record: dict[str, Any]) -> None:
    from gateway.cli.audit import row_of

    if call.as_json:
        print(json.dumps(record), flush=True)  # noqa: T201 (JSON escapes every control character)
        return
    row = row_of(record)
    # SECURITY: a line for each record: no text of a plugin's can begin one.
    print("  ".join(cell_text(row, name).replace("\n", ", ") for name in _MEMBERS), flush=True)  # noqa: T201 (clean text)


def wait_for_index(ask: Callable[[], dict[str, Any]], records: int) -> dict[str, Any]:
    """Wait until the index has so many records; shows how far it is on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("indexing", total=records)
        while True:
            state = ask()
            progress.update(task, completed=state["indexed"])
            if state["indexed"] >= records:
                return state
            if state["why"] is not None:
                note(f"the index waits: {state['why']}")
            time.sleep(_POLL_S)
