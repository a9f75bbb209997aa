"""The verbs of the command, one file each, with `run(program, arguments)`."""
