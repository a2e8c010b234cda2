#!/usr/bin/env bash
# The browser tests need chromium. As root on Debian it is installed here; otherwise those tests are skipped.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Browser tests: installing chromium with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null; } </dev/null \
        || echo "Browser tests: chromium could not be installed; they will be skipped"
else
    echo "Browser tests: no chromium here; they will be skipped (Debian: sudo apt-get install chromium)"
fi
