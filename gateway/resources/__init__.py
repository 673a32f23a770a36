"""What an allowed call really does, one family a file."""
