"""What to do about an adapter that fails, one sentence each; what is in ``ADVICES`` is translated on the hub's pages."""

from __future__ import annotations

from typing import Final

from edge.link_state import NEXT_STEPS

AT_A_LOSS: Final = "look at the log, and report this"

CABLE: Final = "look at supply, TX and RX, and that the switches of the PN532 are set to HSU"
ABSENT: Final = "plug it in; correct device; for a UART enable_uart=1 in /boot/firmware/config.txt"
TAKEN: Final = "another program has it: end that one, and systemctl disable serial-getty@ for this port"
FORBIDDEN: Final = "sudo usermod -aG dialout drempel, then sudo systemctl restart drempel-edge"
NO_SERIAL_PORT: Final = "correct device: it names something else than a serial port"
HOT: Final = "let it cool down: give it air, keep metal away from its antenna"
SUPPLY: Final = "look at the supply of the PN532"

PLUG_IN: Final = "plug it in"
PLUG_IN_OR_CORRECT: Final = "plug it in; correct device"
WHOLE_NAME: Final = "write one whole name as device"
PCSC_START: Final = "systemctl enable --now pcscd.socket"
PCSC_RESTART: Final = "systemctl restart pcscd"
PCSC_HANGS: Final = f"lift the card from it; then {PCSC_RESTART}"
PCSC_TAKEN: Final = "stop that program"
PCSC_FORBIDDEN: Final = "allow it in polkit (org.debian.pcsc-lite)"

NOT_WRITABLE: Final = "run this as the controller's user, and let state_dir belong to it (chown -R)"
READ_ONLY: Final = "mount it read-write; replace the card if it does not stay so"
FULL: Final = "make room"
REPLACE_CARD: Final = "replace the card"

ADVICES: Final = (
    *NEXT_STEPS.values(),
    AT_A_LOSS,
    CABLE,
    ABSENT,
    TAKEN,
    FORBIDDEN,
    NO_SERIAL_PORT,
    HOT,
    SUPPLY,
    PLUG_IN,
    PLUG_IN_OR_CORRECT,
    WHOLE_NAME,
    PCSC_START,
    PCSC_RESTART,
    PCSC_HANGS,
    PCSC_TAKEN,
    PCSC_FORBIDDEN,
    NOT_WRITABLE,
    READ_ONLY,
    FULL,
    REPLACE_CARD,
)
