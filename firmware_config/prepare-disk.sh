#!/bin/sh
# Give the root a fixed size and make the partition labelled drempel of what is left of the card.
#
#   prepare-disk.sh ROOT_PARTITION ROOT_MIB      such as /dev/mmcblk0p2 6144
#
# The root has not been enlarged yet (drempel-provision image config takes that out of cmdline.txt), is the last partition
# and may be mounted. Cut off anywhere, doing it again goes on. Prints the partition. Exit status: 0 it is there, 1 not.
set -eu
root=$1 root_mib=$2
least_mib=1024
fail() { echo "prepare-disk.sh: $1" >&2; exit 1; }

disk=/dev/$(lsblk -dno pkname "$root")
number=$(cat "/sys/class/block/$(basename "$root")/partition")
first=$(cat "/sys/class/block/$(basename "$root")/start") # in sectors of 512 bytes, whatever the disk's own are
sectors=$(cat "/sys/class/block/$(basename "$disk")/size")
case $root in *[0-9]p[0-9]*) data=${root%p*}p$((number + 1)) ;; *) data=${root%"$number"}$((number + 1)) ;; esac

if [ "$(blkid -p -s LABEL -o value "$data" 2>/dev/null)" = drempel ]; then
    echo "$data"
    exit 0
fi
end=$((first + root_mib * 2048))
if [ ! -b "$data" ]; then
    [ "$(cat "/sys/class/block/$(basename "$root")/size")" -le $((root_mib * 2048)) ] \
        || fail "the root is larger than $root_mib MiB already; write the image anew, and start it first with these files"
    [ $((sectors - end)) -ge $((least_mib * 2048)) ] \
        || fail "the card is too small: $(((end / 2048 + least_mib + 1023) / 1024)) GB at least"
    echo ", $((root_mib * 2048))" | sfdisk --quiet --no-reread --force -N "$number" "$disk"
    echo "$end, +, L" | sfdisk --quiet --no-reread --force --append "$disk"
    partx --update "$disk"
    udevadm settle 2>/dev/null || true
fi
[ -b "$data" ] || fail "$data did not appear"
resize2fs "$root"
# data=journal writes everything twice, the second time in order: a journal that takes a release whole.
mkfs.ext4 -q -F -m 1 -J size=64 -L drempel "$data"
echo "$data"
