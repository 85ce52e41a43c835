#!/usr/bin/env bash
# Install the named Debian packages where that is allowed; otherwise say in one line what is missing.
set -euo pipefail
missing=()
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n); else
    echo "missing: ${missing[*]} (as root: apt-get install ${missing[*]})" >&2
    exit 3
  fi
fi
command -v apt-get >/dev/null || { echo "missing: ${missing[*]} (this needs a Debian or Ubuntu machine)" >&2; exit 3; }
echo "installing ${missing[*]} ..."
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
