#!/usr/bin/env bash
# Resolve requirements/*.txt for every platform, with hashes and without a word about where packages come from.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=(.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes
    --no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade)
echo "uv" | "${uv[@]}" - -o requirements/uv.txt
"${uv[@]}" pyproject.toml --extra dev --group build -o requirements/dev.txt
"${uv[@]}" pyproject.toml --extra edge --extra hub --extra provisioning --extra simulator --group build \
    -c requirements/dev.txt -o requirements/run.txt
grep -nE "://|file:" requirements/*.txt && { echo "an address stands in a lock" >&2; exit 1; }
wc -l requirements/*.txt
