"""The administration: database, broker, ingest, distribution, API, pages."""
