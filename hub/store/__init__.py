"""All SQL: the schema, its migrations, and one module per aggregate."""
