"""How a step of each stage changes the state, and in which order tasks come."""
