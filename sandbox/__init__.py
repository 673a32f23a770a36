"""Mechanism only: confines one process. Imports the standard library alone and knows nothing of the gateway."""
