"""Frozen values: the words of Hearthgate. No file, clock, database or randomness."""
