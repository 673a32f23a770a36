"""The report over a period of the log: gathered in one pass, shown as JSON or as a page to print."""
