"""The door's side: one process per controller, which decides and acts by itself."""
