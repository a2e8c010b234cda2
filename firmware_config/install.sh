#!/bin/sh
# Make a Debian system a controller's: users, directories, units, read-only root, log in memory, firewall, no log-in.
#
#   install.sh [--root DIR] [--settings FILE] [--dry-run] [--writable-root]
#
# --root          the system to change; default /, the one that runs
# --settings      what drempel-provision image config wrote; without it the names below have their defaults
# --dry-run       say what would be changed, change nothing
# --writable-root leave /etc/fstab alone: for a machine that is no Raspberry Pi, or has no partition labelled drempel
#
# Doing it again changes nothing that is as it should be; each line of output is one change. Runs as root. Every other file
# of this directory says in its first lines where it is installed. Exit status: 0 done, 1 not, 2 wrong usage.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root='' settings='' dry='' writable=''
while [ $# -gt 0 ]; do
    case $1 in
        --root) root=${2%/}; shift ;;
        --settings) settings=$2; shift ;;
        --dry-run) dry=yes ;;
        --writable-root) writable=yes ;;
        *) echo "install.sh: $1: unknown; see the head of this file" >&2; exit 2 ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || { echo "install.sh: has to run as root" >&2; exit 1; }
[ -d "$root/etc" ] || { echo "install.sh: ${root:-/}: no system there" >&2; exit 1; }

DREMPEL_NTP='' DREMPEL_NTP_FALLBACK=2.debian.pool.ntp.org DREMPEL_UPDATES='' DREMPEL_SSH=no DREMPEL_HUB_PORTS='443, 8883'
DREMPEL_UPDATE_AT=02:00 DREMPEL_MAINTENANCE_AT=03:00
# shellcheck disable=SC1090 # checked and quoted by the program that wrote it
[ -z "$settings" ] || . "$settings"

new=$(mktemp)
trap 'rm -f "$new"' EXIT

# does WHAT COMMAND…: say it, and do it unless this is a dry run
does() {
    echo "$1"
    shift
    [ -n "$dry" ] || "$@"
}

# keep PATH [MODE]: make PATH below the root hold what stands on standard input
keep() {
    cat >"$new"
    if cmp -s "$new" "$root$1" && [ "$(stat -c %a "$root$1")" = "${2:-644}" ]; then return; fi
    does "write $1" install -D -m "${2:-644}" "$new" "$root$1"
}

# directory PATH OWNER MODE
directory() {
    [ -d "$root$1" ] || does "make $1" mkdir -p "$root$1"
    # The owner's number is the root's own, not this machine's.
    owner=$(sed -n "s/^$2:[^:]*:\([0-9]*\):\([0-9]*\):.*/\1:\2/p" "$root/etc/passwd")
    if [ -d "$root$1" ] && [ "$(stat -c %u:%g:%a "$root$1")" != "$owner:$3" ]; then
        does "$1 belongs to $2, mode $3" chown "$owner" "$root$1"
        [ -n "$dry" ] || chmod "$3" "$root$1"
    fi
}

in_root() { if [ -n "$root" ]; then chroot "$root" "$@"; else "$@"; fi; }

# user NAME HOME [GROUP…]
user() {
    name=$1 home=$2
    shift 2
    grep -q "^$name:" "$root/etc/passwd" || does "add user $name" in_root useradd --system --user-group \
        --home-dir "$home" --no-create-home --shell /usr/sbin/nologin "$name"
    for group in "$@"; do
        grep -q "^$group:" "$root/etc/group" || does "add group $group" in_root groupadd --system "$group"
        grep -q "^$group:.*[:,]$name\(,\|\$\)" "$root/etc/group" \
            || does "$name joins $group" in_root usermod --append --groups "$group" "$name"
    done
}

unit_is() { [ -e "$root/etc/systemd/system/$1" ] || [ -e "$root/usr/lib/systemd/system/$1" ] || [ -e "$root/lib/systemd/system/$1" ]; }

turn_on() {
    systemctl --root="${root:-/}" --quiet is-enabled "$1" 2>/dev/null \
        || does "enable $1" systemctl --root="${root:-/}" --quiet enable "$1"
}

mask() {
    for unit in "$@"; do
        # One that the maintenance window brings is not there yet.
        unit_is "$unit" || [ "$unit" = unattended-upgrades.service ] || continue
        [ "$(readlink "$root/etc/systemd/system/$unit" 2>/dev/null)" = /dev/null ] \
            || does "mask $unit" systemctl --root="${root:-/}" --quiet mask "$unit"
    done
}

# ---- users and directories

user drempel /var/lib/drempel gpio dialout tss
user drempel-update /opt/drempel
directory /etc/drempel drempel 700
directory /var/lib/drempel drempel 700
directory /opt/drempel drempel-update 755
directory /opt/drempel/releases drempel-update 755

# ---- files that say where they go

for file in "$here"/*; do
    target=$(sed -n '1,2s/^[#/]* Installed as //p' "$file")
    [ -n "$target" ] || continue
    mode=644
    case $target in *.sh) mode=755 ;; esac
    keep "$target" "$mode" <"$file"
done
trial=$(find "$here/.." -path '*/edge/updating/trial.py' -not -path '*/.venv/*' | sort | head -n 1)
keep /usr/local/lib/drempel/trial.py <"$trial"

# ---- what the site decides

keep /etc/systemd/timesyncd.conf.d/50-drempel.conf <<END
# The site's hub first; where it does not answer, the ones named here.
[Time]
NTP=$DREMPEL_NTP
FallbackNTP=$DREMPEL_NTP_FALLBACK
END
if [ -n "$settings" ] && [ -f "$(dirname "$settings")/network.nmconnection" ]; then
    keep /etc/NetworkManager/system-connections/drempel.nmconnection 600 <"$(dirname "$settings")/network.nmconnection"
fi
keep /etc/nftables.d/site-drempel.nft <<END
define hub_ports = { $DREMPEL_HUB_PORTS }
END
for timer in update maintenance; do
    at=$DREMPEL_UPDATE_AT
    [ "$timer" = update ] || at=$DREMPEL_MAINTENANCE_AT
    keep "/etc/systemd/system/drempel-$timer.timer.d/50-site.conf" <<END
[Timer]
OnCalendar=
OnCalendar=*-*-* $at
END
done
if [ -n "$DREMPEL_UPDATES" ]; then
    keep /usr/local/lib/drempel/update.env <<END
DREMPEL_UPDATES=$DREMPEL_UPDATES
END
fi

# ---- nobody logs in

for name in root $(awk -F: '$3 >= 1000 && $3 < 65000 { print $1 }' "$root/etc/passwd"); do
    case $(sed -n "s/^$name:\([^:]*\):.*/\1/p" "$root/etc/shadow") in
        '!'* | '*'*) ;;
        *) does "lock the password of $name" in_root passwd --quiet --lock "$name" ;;
    esac
done
if [ "$DREMPEL_SSH" = yes ]; then
    grep -q '^technician:' "$root/etc/passwd" || does "add user technician" in_root useradd --create-home \
        --shell /bin/bash technician
    keep /etc/sudoers.d/drempel 440 <<END
technician ALL=(ALL) NOPASSWD: ALL
END
    [ -z "$settings" ] || [ ! -f "$(dirname "$settings")/authorized_keys" ] \
        || keep /home/technician/.ssh/authorized_keys 644 <"$(dirname "$settings")/authorized_keys"
    keep /etc/nftables.d/input-ssh.nft <<END
tcp dport 22 ct state new limit rate 10/minute accept
END
    ls "$root"/etc/ssh/ssh_host_*_key >/dev/null 2>&1 || does "make host keys" in_root ssh-keygen -A
    turn_on ssh.service
else
    [ ! -e "$root/etc/nftables.d/input-ssh.nft" ] || does "close port 22" rm "$root/etc/nftables.d/input-ssh.nft"
    mask ssh.service ssh.socket sshswitch.service
fi

# ---- units

for unit in nftables systemd-timesyncd drempel-enrol drempel-trial-start drempel-edge drempel-desk; do
    if unit_is "$unit.service"; then turn_on "$unit.service"; fi
done
turn_on drempel-trial.path
turn_on drempel-maintenance.timer
if [ -n "$DREMPEL_UPDATES" ]; then turn_on drempel-update.timer; fi
# A first user asked for, radio that is off, a serial line that is the reader's, writers of a root that cannot be written.
mask userconfig.service bluetooth.service hciuart.service avahi-daemon.service avahi-daemon.socket ModemManager.service \
    triggerhappy.service triggerhappy.socket serial-getty@ttyAMA0.service serial-getty@ttyS0.service serial-getty@serial0.service \
    dphys-swapfile.service fake-hwclock.service fake-hwclock-load.service fake-hwclock-save.service regenerate_ssh_host_keys.service \
    apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer dpkg-db-backup.timer rpi-eeprom-update.service \
    unattended-upgrades.service # of no use without apt's own timers, and always in memory
if [ -d "$root/etc/cloud" ]; then keep /etc/cloud/cloud-init.disabled </dev/null; fi

# ---- a root that is not written

[ -z "$writable" ] || exit 0
sed '/^# drempel: begin/,/^# drempel: end/d' "$root/etc/fstab" | awk '
    /^[^#]/ && ($2 == "/" || $2 == "/boot/firmware") && $4 !~ /(^|,)ro(,|$)/ { $4 = "ro," $4 }
    { print }' >"$new.table"
cat >>"$new.table" <<'END'
# drempel: begin. Everything that is written goes to the partition labelled drempel, or to memory.
LABEL=drempel /data ext4 noatime,nosuid,nodev,data=journal,commit=1,errors=remount-ro 0 2
/data/config /etc/drempel none bind 0 0
/data/state /var/lib/drempel none bind 0 0
/data/releases /opt/drempel none bind 0 0
/data/systemd /var/lib/systemd none bind 0 0
/data/network /var/lib/NetworkManager none bind 0 0
/data/lists /var/lib/apt/lists none bind 0 0
/data/packages /var/cache/apt none bind 0 0
tmpfs /tmp tmpfs nosuid,nodev,size=64M 0 0
tmpfs /var/tmp tmpfs nosuid,nodev,size=64M 0 0
tmpfs /var/log tmpfs nosuid,nodev,noexec,size=32M,mode=755 0 0
tmpfs /var/lib/dhcpcd tmpfs nosuid,nodev,noexec,size=1M,mode=755 0 0
# drempel: end
END
keep /etc/fstab <"$new.table"
rm -f "$new.table"
for path in /data /var/lib/NetworkManager /var/lib/dhcpcd /var/lib/apt/lists /var/cache/apt; do [ -d "$root$path" ] || does "make $path" mkdir -p "$root$path"; done
keep /etc/tmpfiles.d/drempel.conf <<'END'
d /var/log/apt 0755 root root
d /var/log/unattended-upgrades 0750 root adm
END
if unit_is NetworkManager.service && [ "$(readlink "$root/etc/resolv.conf")" != /run/NetworkManager/resolv.conf ]; then
    does "resolv.conf is NetworkManager's, in memory" ln -sfn /run/NetworkManager/resolv.conf "$root/etc/resolv.conf"
fi
