"""Measurements: each a ratio against a floor taken in the same run, with the absolute figures beside it."""
