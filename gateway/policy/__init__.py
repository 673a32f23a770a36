"""The decision: text in, decision out. No file, clock, thread, randomness or database."""
