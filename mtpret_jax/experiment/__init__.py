"""A work folder: claimed for a config, its runs done one by one, then the report."""
