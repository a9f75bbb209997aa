"""Radiograph files to pixels: formats, grey levels, limits, polarity."""
