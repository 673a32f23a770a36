"""The command line: one file a noun, each verb a call to the gateway or a pure check of files."""

from gateway.cli.main import main

__all__ = ["main"]
