"""CloudEvents 1.0 in JSON: an envelope around each record."""

from gateway.audit import canonical
from gateway.audit.formats.redaction import Row, pointers

TYPE_PREFIX = "hearthgate.audit."
_LEFT_OUT = frozenset({"personal", "salt", "masked", "erased", "proof", "checkpoint"})


def cloud_event(row: Row, source: str) -> bytes:
    """Give the event of a row; `source` names the log.

    Its extensions are `sequence` (the record's number, as a text so long that texts sort like numbers) and `leaf`.
    """
    event = {
        "specversion": "1.0",
        "id": row["event_id"],
        "source": source,
        "type": TYPE_PREFIX + row["event_type"],
        "time": row["timestamp"],
        **({} if row["plugin_id"] is None else {"subject": f"plugin:{row['plugin_id']}"}),
        "datacontenttype": "application/json",
        "sequence": f"{row['seq']:019d}",
        "leaf": row["leaf"],
        "data": {
            **{name: value for name, value in row.items() if name not in _LEFT_OUT},
            **({"masked": pointers(row["masked"])} if row["masked"] else {}),
            **({"erased": pointers(row["erased"])} if row["erased"] else {}),
        },
    }
    return canonical.encode_in_order(event)
