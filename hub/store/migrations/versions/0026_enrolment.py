"""Certificates of controllers one by one, codes that let a device take a controller's place, and its wiring."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_INSTANT = hub.store.database.Instant(timezone=True)


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("controllers") as batch:
        batch.alter_column("event_public_key", existing_type=sa.LargeBinary(), nullable=True)
        batch.alter_column("certificate_serial", existing_type=sa.String(length=64), nullable=True)
        batch.add_column(sa.Column("revoked_at", _INSTANT, nullable=True))
        batch.add_column(sa.Column("wiring", sa.JSON(), nullable=True))
    op.create_table(
        "device_certificates",
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("controller_id", _NAME, nullable=False),
        sa.Column("key_digest", sa.LargeBinary(), nullable=True),
        sa.Column("chain", sa.Text(), nullable=True),
        sa.Column("issued_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=True),
        sa.Column("used_at", _INSTANT, nullable=True),
        sa.Column("revoked_at", _INSTANT, nullable=True),
        sa.Column("revoked_because", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["controller_id"],
            ["controllers.id"],
            name=op.f("fk_device_certificates_controller_id_controllers"),
        ),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_device_certificates")),
    )
    op.create_index(op.f("ix_device_certificates_controller_id"), "device_certificates", ["controller_id"])
    op.create_table(
        "enrolment_codes",
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("controller_id", _NAME, nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("doors", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.Column("withdrawn_at", _INSTANT, nullable=True),
        sa.Column("used_at", _INSTANT, nullable=True),
        sa.Column("used_by", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["controller_id"], ["controllers.id"], name=op.f("fk_enrolment_codes_controller_id_controllers")
        ),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_enrolment_codes")),
        sa.UniqueConstraint("id", name=op.f("uq_enrolment_codes_id")),
    )
    op.create_index(op.f("ix_enrolment_codes_controller_id"), "enrolment_codes", ["controller_id"])
    op.execute(
        "INSERT INTO device_certificates (serial, controller_id, issued_at)"
        " SELECT certificate_serial, min(id), min(registered_at) FROM controllers"
        " WHERE retired_at IS NULL AND certificate_serial <> '' GROUP BY certificate_serial"
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("enrolment_codes")
    op.drop_table("device_certificates")
    with op.batch_alter_table("controllers") as batch:
        batch.drop_column("wiring")
        batch.drop_column("revoked_at")
        batch.alter_column("certificate_serial", existing_type=sa.String(length=64), nullable=False)
        batch.alter_column("event_public_key", existing_type=sa.LargeBinary(), nullable=False)
