"""The demonstration: the whole story in a temporary home, with a real gateway and real plugins."""
