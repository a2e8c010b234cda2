#!/bin/sh
# Installed as /usr/local/lib/drempel/maintenance.sh
# Debian's security updates: the root is writable for as long as they take, and read-only again after, whatever happened.
#
#   maintenance.sh [tpm]      tpm: only what a TPM is used with, before the keys are made; nothing where there is none
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
wanted="unattended-upgrades nftables systemd-timesyncd python3-lgpio"
tpm="openssl tpm2-openssl tpm2-tools"
[ ! -e /dev/tpmrm0 ] || wanted="$wanted $tpm"

is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

close_root() {
    sync
    if mount -o remount,ro / && mount -o remount,ro /boot/firmware; then return; fi
    echo "drempel: a file that was replaced is still in use; the machine is restarted for a read-only root" >&2
    touch /run/reboot-required
}

if [ "${1:-}" = tpm ]; then
    [ -e /dev/tpmrm0 ] || exit 0
    wanted=$tpm
    is_installed tpm2-openssl && is_installed tpm2-tools && exit 0
fi

mount -o remount,rw /boot/firmware
mount -o remount,rw /
trap close_root EXIT

dpkg --configure -a # what a power cut interrupted
apt-get -q update
missing=
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
# shellcheck disable=SC2086 # a list of names
[ -z "$missing" ] || apt-get -q install -y --no-install-recommends $missing
if [ "${1:-}" = tpm ]; then udevadm settle; else unattended-upgrade; fi # its device gets its group
apt-get -q clean

trap - EXIT
close_root
if [ -e /run/reboot-required ]; then
    echo "drempel: restarting for what was updated"
    systemctl --no-block reboot
fi
