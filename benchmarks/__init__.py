"""Our own side-by-side figures; what they are measured on is `workload`."""
