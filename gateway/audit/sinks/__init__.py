"""Sinks: where records go on to as they are written, in a process of its own, at least once."""
