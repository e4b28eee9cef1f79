#!/bin/sh
# Installs what the marked tests need beyond Python: Chromium (the report page) and spelling dictionaries (the embedded benchmark).
# Where packages cannot be installed it says so and succeeds; those tests then skip and say why.
set -u
here=$(dirname "$0")
sh "$here/install_dictionaries.sh"
command -v chromium >/dev/null 2>&1 && exit 0
run=""
if [ "$(id -u)" -ne 0 ]; then run="sudo -n"; fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "no apt-get here: Chromium not installed, the browser tests will skip" >&2
    exit 0
fi
if ! { $run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1; then
    echo "could not install Chromium; the browser tests will skip" >&2
fi
exit 0
