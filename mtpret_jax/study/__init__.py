"""A comparison of arms: its runs, what makes a task external, and what came out."""
