"""Other makers of a cell's namespaces and root: bubblewrap, and gVisor's `runsc`; never in another's place."""
