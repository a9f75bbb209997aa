"""Pure array functions: no modules, no state, no disk."""
