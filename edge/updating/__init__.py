"""How a controller comes to a newer version of its program, and back to the one that worked."""
