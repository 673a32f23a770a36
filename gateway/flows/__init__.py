"""Stories: each file tells one from top to bottom."""
