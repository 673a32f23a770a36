"""The index over the decision log: what makes a search fast, and can always be made anew from the log.

A database file of its own, `audit-index.db`, that follows the log. Nothing waits for it and nothing fails
because of it: what it does not know yet is read from the log itself.
"""
