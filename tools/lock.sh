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
# a coverage-guided fuzzer, which has no build for every machine; 3.1 has none for Python 3.11
echo "atheris==3.0.0; platform_machine == 'x86_64' and sys_platform == 'linux' and python_version < '3.14'" |
    "${uv[@]}" - -o requirements/fuzz.txt
# a compiled reader of PC/SC, and what compiles it
echo "pyscard" | "${uv[@]}" - -c requirements/dev.txt -o requirements/pcsc.txt
echo "setuptools" | "${uv[@]}" - -o requirements/build-pcsc.txt
# which of those files a release carries
.venv/bin/python -m tools.wheels
grep -nE "://|file:" requirements/* && { echo "an address stands in a lock" >&2; exit 1; }
wc -l requirements/*.txt
