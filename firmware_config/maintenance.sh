#!/bin/sh
# Installed as /usr/local/lib/drempel/maintenance.sh
# Debian's security updates. The root is writable from open to close, and only when due finds something to do.
#
#   fetch    with a network, the root read-only: lists and packages go to the partition labelled drempel
#   due      exit status 0 when something waits to be installed or was interrupted, 1 when not
#   open     make the root writable
#   install  without a network: what was fetched
#   close    make it read-only again; restarts the machine where a package, or a file in use, asks for it
#   tpm      all of it at once, for what a TPM is used with, before the keys are made; nothing where there is none
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
fetched=/var/cache/apt/archives

wanted="unattended-upgrades nftables systemd-timesyncd python3-lgpio"
tpm="openssl tpm2-openssl tpm2-tools"
[ ! -e /sys/class/tpmrm/tpmrm0 ] || wanted="$wanted $tpm"

is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# What a controller needs and the system may have come without. python3-lgpio comes from Raspberry Pi's archive.
missing() {
    for package in $wanted; do is_installed "$package" || echo "$package"; done
}

open_root() {
    mount -o remount,rw /boot/firmware
    mount -o remount,rw /
}

close_root() {
    sync
    if mount -o remount,ro / && mount -o remount,ro /boot/firmware; then return; fi
    echo "drempel: a file that was replaced is still in use; the machine is restarted for a read-only root" >&2
    touch /run/reboot-required
}

restart() {
    [ -e /run/reboot-required ] || return 0
    python3 -I -S /usr/local/lib/drempel/trial.py quiet
    echo "drempel: restarting for what was updated"
    systemctl --no-block reboot
}

case $1 in
    fetch)
        apt-get -q update
        # One that cannot be had does not keep the others, or the security updates, from coming.
        for package in $(missing); do
            apt-get -q install -y --no-install-recommends --download-only "$package" \
                || echo "drempel: $package is needed and cannot be had" >&2
        done
        if command -v unattended-upgrade >/dev/null; then unattended-upgrade --download-only; fi
        ;;
    due)
        [ -n "$(find "$fetched" -name '*.deb' -print -quit)" ] || [ -n "$(dpkg --audit)" ]
        ;;
    open) open_root ;;
    install)
        upgrades=$(command -v unattended-upgrade || true)
        dpkg --configure -a # what a power cut interrupted
        for package in $(missing); do
            apt-get -q install -y --no-install-recommends --no-download "$package" || true
        done
        # Where it has only just been installed, it has not fetched anything yet.
        if [ -n "$upgrades" ]; then unattended-upgrade; fi
        apt-get -q clean
        ;;
    close)
        close_root
        restart
        ;;
    tpm)
        [ -e /dev/tpmrm0 ] || exit 0
        wanted=$tpm
        [ -n "$(missing)" ] || exit 0
        trap 'exit 1' HUP INT TERM
        trap close_root EXIT
        open_root
        dpkg --configure -a
        apt-get -q update
        # shellcheck disable=SC2046 # a list of names
        apt-get -q install -y --no-install-recommends $(missing)
        udevadm settle # its device gets its group
        apt-get -q clean
        trap - EXIT
        close_root
        restart
        ;;
    *)
        echo "maintenance.sh: $1: unknown; see the head of this file" >&2
        exit 2
        ;;
esac
