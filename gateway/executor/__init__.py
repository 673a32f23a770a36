"""Runs plugins in the sandbox and answers what they ask."""
