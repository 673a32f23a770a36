"""To watch over a gateway from outside: what is so at this moment, as numbers."""

from gateway.domain.lifecycle import State
from gateway.flows.diagnose import readiness
from gateway.flows.parts import Parts
from gateway.meter import Gauges, states
from gateway.registry.requests import RequestState


def measure(parts: Parts) -> bytes:
    """Give all numbers of one home in the exposition format of Prometheus; reads files, so in a thread."""
    return parts.meter.text(_gauges(parts))


def _gauges(parts: Parts) -> Gauges:
    counts, policy, index = parts.log.counts, parts.policy.get(), parts.index.state
    plugins = (plugin.state.value for plugin in parts.registry.plugins.all())
    pending = len(parts.registry.requests.find(state=RequestState.PENDING))
    return {
        "hearthgate_ready": ("Whether calls can be decided, recorded and confined.", float(not readiness(parts))),
        "hearthgate_policy_generation": (
            "The policy set in force; 0: none.",
            float(policy.generation if policy else 0),
        ),
        "hearthgate_policy_rules": ("Rules in force.", float(len(policy.rules) if policy else 0)),
        "hearthgate_log_size": ("Records in the decision log.", float(parts.log.size)),
        "hearthgate_log_waiting": ("Records that wait to be made durable.", float(counts.waiting)),
        "hearthgate_log_refused": ("Records that were not written, and their callers told.", float(counts.refused)),
        "hearthgate_log_dropped": ("Records that were not written, and nobody told.", float(counts.dropped)),
        "hearthgate_index_lag": (
            "Records that the search index has still to take in.",
            float(index.records - index.indexed),
        ),
        "hearthgate_plugins": ("Plugins by state.", dict(states([each.value for each in State], plugins))),
        "hearthgate_cells": (
            "Cells by what they do.",
            {
                "running": float(len(parts.pool.running)),
                "resting": float(len(parts.pool.resting)),
                "waited_for": float(parts.pool.waiting),
            },
        ),
        "hearthgate_permission_requests_pending": ("Requests that wait for a person.", float(pending)),
        "hearthgate_lockdowns": ("Lockdowns in force.", float(len(parts.registry.holds.lockdowns))),
    }
