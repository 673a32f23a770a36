"""Programs that run as the gateway's own user: each of them is the owner over the unix socket."""

import os
from collections import Counter

import psutil

_NAMED = 5


def neighbours(asking: int | None = None) -> str | None:
    """Say which programs run as this user beside the gateway, those that started it and those that it started.

    `asking` is left out too: the process that wants to know, without those that started it.
    """
    uid, own = os.geteuid(), psutil.Process()
    kin = {own.pid, asking, *(each.pid for each in own.parents()), *(each.pid for each in own.children(recursive=True))}
    names: Counter[str] = Counter()
    for each in psutil.process_iter(["pid", "uids", "name", "cmdline"]):
        found = each.info
        # WHY: threads of the kernel have no command line, and are nobody's programs.
        if found["pid"] not in kin and found["uids"] is not None and uid in found["uids"] and found["cmdline"]:
            names[str(found["name"])] += 1
    if not names:
        return None
    named = ", ".join([*(name for name, _ in names.most_common(_NAMED)), *(["..."] if len(names) > _NAMED else [])])
    count = names.total()
    told = f"{count} other programs run" if count > 1 else "another program runs"
    return (
        f"{told} as this user (uid {uid}: {named}), and each of them is the owner over the "
        'unix socket: give the gateway a user of its own (docs/operations.md), or set `[http] socket = "off"`'
    )
