#!/bin/sh
# The first start of a card that drempel-provision image config has written to; runs once, as root, without a network.
# Lies beside `settings` on the boot partition. Cut off anywhere, the next start goes on; what stands in its way is in
# first-boot.log beside it, for whoever puts the card into a computer.
#
# For tests: DREMPEL_ROOT, the system to make a controller of, and DREMPEL_DATA, a directory in place of the partition.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${DREMPEL_ROOT:-} data=${DREMPEL_DATA:-}
exec >>"$here/first-boot.log" 2>&1
# shellcheck disable=SC2154 # assigned in the trap itself
trap 'status=$?; [ $status -eq 0 ] || echo "first-boot.sh: stopped with status $status; the next start tries again"; sync' EXIT
echo "first-boot.sh: begins"
# shellcheck disable=SC1091 # written beside this file
. "$here/settings"
(cd "$here" && sha256sum --check --quiet SHA256SUMS)

# ---- the partition that is written to

if [ -z "$data" ]; then
    work=$(mktemp -d)
    tar -xzf "$here/drempel-$DREMPEL_VERSION.tar.gz" -C "$work" firmware_config/prepare-disk.sh
    partition=$(sh "$work/firmware_config/prepare-disk.sh" "$(findmnt -no SOURCE /)" "$DREMPEL_ROOT_MIB" | tail -n 1)
    data=/data
    mkdir -p /data
    mountpoint -q /data || mount -o data=journal "$partition" /data
fi
mkdir -p "$data/config" "$data/state" "$data/releases/releases" "$data/systemd" "$data/network" "$data/lists" "$data/packages"

# ---- the release

target=$data/releases/releases/$DREMPEL_VERSION
if [ ! -d "$target" ]; then
    rm -rf "$data/releases/incoming"
    mkdir "$data/releases/incoming"
    tar -xzf "$here/drempel-$DREMPEL_VERSION.tar.gz" -C "$data/releases/incoming" --no-same-owner --no-same-permissions
    python3 -I -m compileall -q -s "$data/releases/incoming" -p "/opt/drempel/releases/$DREMPEL_VERSION" \
        "$data/releases/incoming" || true
    sync
    mv "$data/releases/incoming" "$target"
fi
ln -sfn "releases/$DREMPEL_VERSION" "$data/releases/current"

# ---- the system

sh "$target/firmware_config/install.sh" --settings "$here/settings" ${root:+--root "$root"}
mkdir -p "$root/usr/local/lib/drempel"
install -m 644 "$here/release.pub.pem" "$root/usr/local/lib/drempel/release.pub.pem"
cp -a -n "$root/var/lib/systemd/." "$data/systemd/"
owner() { sed -n "s/^$1:[^:]*:\([0-9]*\):\([0-9]*\):.*/\1:\2/p" "$root/etc/passwd"; }

# ---- what makes it this controller: its keys, or the code to get them with. They leave the boot partition, which anybody reads.

if [ -d "$here/controller" ]; then cp "$here"/controller/* "$data/config/"; fi
if [ -f "$here/code" ]; then cp "$here/code" "$data/config/enrolment-code"; fi
find "$data/config" -type f -exec chmod 600 {} +
chmod 700 "$data/config" "$data/state"
chown -R "$(owner drempel)" "$data/config" "$data/state"
chown -R "$(owner drempel-update)" "$data/releases"
chmod 755 "$data/releases"
if [ -n "${DREMPEL_HOSTNAME:-}" ]; then
    echo "$DREMPEL_HOSTNAME" >"$root/etc/hostname"
    grep -q "[[:space:]]$DREMPEL_HOSTNAME\$" "$root/etc/hosts" || echo "127.0.1.1 $DREMPEL_HOSTNAME" >>"$root/etc/hosts"
fi
sync
rm -rf "$here/controller" "$here/code"
python3 -c 'import lgpio' 2>/dev/null || echo "first-boot.sh: python3-lgpio is not there; the maintenance window installs it"
echo "first-boot.sh: done, restarting as a controller"
