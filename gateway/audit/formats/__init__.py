"""Exports in the formats of other programs; JSON Lines alone proves itself, the others are proven by a manifest."""
