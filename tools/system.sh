#!/usr/bin/env bash
# What tests need of the operating system beyond Python. As root on Debian it is installed here; otherwise what is
# missing is named, and those tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
export DEBIAN_FRONTEND=noninteractive

# need WHAT PROBE… -- PACKAGE…: true once every probe, a command or a file, is there
need() {
    local what=$1 probe lacks=
    shift
    while [ "$1" != -- ]; do
        probe=$1
        shift
        if ! command -v "$probe" >/dev/null && [ ! -e "$probe" ]; then lacks=$probe; fi
    done
    shift
    [ -n "$lacks" ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "$what: no $lacks here; its tests will be skipped (Debian: sudo apt-get install $*)"
        return 1
    fi
    echo "$what: installing $*"
    { [ -n "${updated:-}" ] || apt-get -qq update; } && updated=1 \
        && apt-get -qq install -y --no-install-recommends "$@" >/dev/null && return 0
    echo "$what: $* could not be installed; its tests will be skipped"
    return 1
}

browser() {
    local name
    for name in chromium-browser google-chrome; do
        if command -v "$name" >/dev/null; then return 0; fi
    done
    need "Browser" chromium -- chromium || true
}

# A PC/SC service with a virtual reader; its Python side is compiled.
pcsc() {
    need "PC/SC" pcscd swig gcc /usr/include/PCSC/winscard.h /usr/lib/pcsc/drivers/serial/libifdvpcd.so -- \
        pcscd vsmartcard-vpcd libpcsclite-dev swig gcc libc6-dev python3-dev || return 0
    .venv/bin/python tools/bootstrap.py --only pcsc || echo "PC/SC: pyscard was not built; its tests will be skipped"
}

# A Debian of its own to make a controller of (make image-test), and who checks what is written for it. cloud-init is
# only unpacked: installed, it would run at this machine's next start.
image() {
    need "Image" debootstrap systemd-nspawn systemd-analyze nft sfdisk shellcheck -- \
        debootstrap systemd-container systemd nftables fdisk shellcheck || true
    [ ! -d build/cloud-init ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 0
    local parts
    parts=$(mktemp -d)
    if (cd "$parts" && apt-get -qq download cloud-init python3-configobj python3-oauthlib python3-jsonpatch python3-json-pointer \
        python3-six python3-jsonschema python3-attr python3-pyrsistent >/dev/null 2>&1); then
        mkdir -p build
        local part
        for part in "$parts"/*.deb; do dpkg-deb -x "$part" "$parts/unpacked"; done
        mv "$parts/unpacked" build/cloud-init
    else
        echo "Image: cloud-init could not be had; its test will be skipped"
    fi
    rm -rf "$parts"
}

# Who serves the time beside a hub; only unpacked: installed, it would take this machine's clock over.
chrony() {
    [ ! -d build/chrony ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 0
    local parts
    parts=$(mktemp -d)
    if (cd "$parts" && apt-get -qq download chrony >/dev/null 2>&1); then
        mkdir -p build
        dpkg-deb -x "$parts"/chrony*.deb build/chrony
    else
        echo "Time: chrony could not be had; its test will be skipped"
    fi
    rm -rf "$parts"
}

# The Pi's processor, emulated: only when it is asked for, because this kernel is told how to run its programs.
arm64() {
    if [ "${IMAGE_ARCH:-}" != arm64 ] || [ "$(uname -m)" = aarch64 ]; then return 0; fi
    need "ARM64" qemu-aarch64-static update-binfmts -- qemu-user-static binfmt-support || return 0
    local told=/proc/sys/fs/binfmt_misc
    mountpoint -q "$told" || mount -t binfmt_misc binfmt_misc "$told" || true
    [ -e "$told/qemu-aarch64" ] || update-binfmts --enable qemu-aarch64 \
        || echo "ARM64: this kernel cannot be told how to run it; its tests will be skipped"
}

# A hardware module for keys, in software.
pkcs11() {
    need "PKCS#11" softhsm2-util -- softhsm2 || true
}

# A TPM in software, what shares it among programs, and what a controller uses it with.
tpm() {
    need "TPM" swtpm tpm2_encodeobject /usr/sbin/tpm2-abrmd dbus-daemon /usr/share/dbus-1/session.conf \
        /usr/lib/*/ossl-modules/tpm2.so /usr/lib/*/libtss2-tcti-tabrmd.so.0 -- swtpm tpm2-tools tpm2-openssl \
        tpm2-abrmd libtss2-tcti-tabrmd0 dbus-daemon dbus-session-bus-common || true
}

browser
pcsc
image
chrony
arm64
pkcs11
tpm
