"""Delivering to every sink of a home until told to stop."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from gateway.audit.sinks.delivery import Delivery, Target
from gateway.audit.sinks.file import FileTarget
from gateway.audit.sinks.sink import LogFile, Sink, Syslog
from gateway.audit.sinks.syslog import SyslogTarget
from gateway.audit.sinks.webhook import WebhookTarget


def run_sinks(data: Path, sinks: Sequence[Sink], now: Callable[[], datetime], stop: threading.Event) -> None:
    """Deliver to each of `sinks`, a thread each, until `stop` is set."""
    deliveries = [Delivery(data, sink, _target(sink, now), now) for sink in sinks]
    # WHY: none can hold up the end of the process; what was not taken is sent again after the next start.
    threads = [threading.Thread(target=delivery.run, args=(stop,), daemon=True) for delivery in deliveries]
    for thread in threads:
        thread.start()
    stop.wait()


def _target(sink: Sink, now: Callable[[], datetime]) -> Target:
    target = sink.target
    if isinstance(target, LogFile):
        return FileTarget(target)
    return SyslogTarget(target) if isinstance(target, Syslog) else WebhookTarget(sink, target, now)
