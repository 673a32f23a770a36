"""The decision log: durable, provable, exportable."""
