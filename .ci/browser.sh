#!/bin/bash
# What the console's tests need beside Python: Chromium, and Node to build the console again. Needs root and apt.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

missing=()
command -v chromium-headless-shell >/dev/null || missing+=(chromium-headless-shell)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[ ${#missing[@]} -gt 0 ] || exit 0
echo "[browser] installing ${missing[*]}" >&2
apt-get update --quiet=2
apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >/dev/null
