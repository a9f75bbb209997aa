"""What the builders of released sets share, and what is said of a download."""
