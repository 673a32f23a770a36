"""The Model Context Protocol at `/mcp`: active plugins' capabilities as tools. Needs the extra `mcp`."""
