#!/bin/sh
# Installs what the marked tests need beyond Python: Chromium (the report page), spelling dictionaries (the embedded benchmark) and
# Apertium with its pair English-Spanish (translated training rows).
# Where packages cannot be installed it says so and succeeds; those tests then skip and say why.
set -u
here=$(dirname "$0")
sh "$here/install_dictionaries.sh"
missing=""
command -v chromium >/dev/null 2>&1 || missing="chromium"
dpkg-query -W -f '${Status}' apertium-eng-spa 2>/dev/null | grep -q "install ok installed" || missing="$missing apertium apertium-eng-spa"
[ -z "$missing" ] && exit 0
run=""
if [ "$(id -u)" -ne 0 ]; then run="sudo -n"; fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "no apt-get here: not installed:$missing; their tests will skip" >&2
    exit 0
fi
# shellcheck disable=SC2086
if ! { $run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1; then
    echo "could not install: $missing; their tests will skip" >&2
fi
exit 0
