"""What the command does, called from Python: a file for each function."""
