#!/bin/sh
# Installs the Debian spelling dictionaries that `pytest -m hunspell` checks the mini word lists against.
# Where packages cannot be installed it says so and succeeds: the tests then skip the languages without a dictionary.
set -u
packages="libhunspell-1.7-0 hunspell-en-us hunspell-de-de hunspell-es hunspell-ru hunspell-tr hunspell-id hunspell-sw hunspell-hi hunspell-ar libvoikko1 voikko-fi"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "no apt-get here: spelling dictionaries not installed" >&2
    exit 0
fi
run=""
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then run="sudo -n"; else
        echo "not root: spelling dictionaries not installed" >&2
        exit 0
    fi
fi
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
# shellcheck disable=SC2086
if ! { $run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing; } >/dev/null; then
    echo "could not install:$missing; their spelling tests will be skipped" >&2
fi
exit 0
