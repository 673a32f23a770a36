"""What plugins' asks moved: where to, how many bytes, how long, and how it ended."""
