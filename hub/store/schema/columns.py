"""What every table is made of: the metadata, kinds of columns, and conditions that more than one table goes by."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData, String, text

NAMED = text("credential_id IS NOT NULL")
"""Of events: those that say whose card it was."""
UNCOUNTED = "NOT coarse AND kind IN ('access_granted', 'access_denied', 'access_referred')"
"""Of events: taps that are in no total yet."""
LEAST = 5
"""A number of taps below this may say something about somebody: it is shown to nobody, and not kept for long."""
SMALL = text(f"taps < {LEAST}")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NAME = String(48)  # an Identifier of pacs.identifiers
CREDENTIAL = String(64)
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER
