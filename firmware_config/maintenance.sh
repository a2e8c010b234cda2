#!/bin/sh
# Installed as /usr/local/lib/drempel/maintenance.sh
# Debian's security updates: the root is writable for as long as they take, and read-only again after, whatever happened.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
wanted="unattended-upgrades nftables systemd-timesyncd python3-lgpio"

close_root() {
    sync
    if mount -o remount,ro / && mount -o remount,ro /boot/firmware; then return; fi
    echo "drempel: a file that was replaced is still in use; the machine is restarted for a read-only root" >&2
    touch /run/reboot-required
}

mount -o remount,rw /boot/firmware
mount -o remount,rw /
trap close_root EXIT

dpkg --configure -a # what a power cut interrupted
apt-get -q update
missing=
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
# shellcheck disable=SC2086 # a list of names
[ -z "$missing" ] || apt-get -q install -y --no-install-recommends $missing
unattended-upgrade
apt-get -q clean

trap - EXIT
close_root
if [ -e /run/reboot-required ]; then
    echo "drempel: restarting for what was updated"
    systemctl --no-block reboot
fi
