#!/usr/bin/env bash
# Installs what the tests run against from Debian, when root; says what is missing otherwise. Installing starts no service
# and leaves none enabled: each test starts its own, on ports of its own.
set -euo pipefail

packages=(
  apache2-utils chromium curl default-jdk-headless git gnupg haproxy iproute2 keepalived nftables nginx-light nodejs redis-server squid
  stress-ng tinyproxy tomcat10 tomcat10-examples varnish wget wrk
)
services=(haproxy keepalived nftables nginx redis-server squid tinyproxy tomcat10 varnish varnishncsa)

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "Not installed, so the tests that need it cannot run: ${missing[*]}" >&2
  exit 0
fi

# Debian starts a service as it is installed unless this says no (101), and enables it at boot.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
enabled_before=$(systemctl list-unit-files --state=enabled --no-legend 2>/dev/null || true)

echo "Installing from Debian: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -o DPkg::Lock::Timeout=600 -qq)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null

for service in "${services[@]}"; do
  grep -q "^$service\.service" <<<"$enabled_before" || systemctl disable --quiet "$service" 2>/dev/null || true
done
