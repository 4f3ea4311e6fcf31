#!/bin/sh
# Installs what the end-to-end tests talk to and with, on Debian and its relatives: run as root. Starts no service.
set -eu
export DEBIAN_FRONTEND=noninteractive

PACKAGES="ca-certificates curl file iproute2 nftables openssl procps util-linux
          nginx-light redis-server postgresql dbus
          python3 python3-grpcio python3-websockets
          shellcheck dash busybox debootstrap systemd-container"

# To install systemd-resolved would change whom this host asks for names: it is only unpacked, for hosts that tests make.
resolved=/usr/local/lib/mesh-e2e/systemd-resolved
unpack_resolved() {
    [ ! -d $resolved ] || return 0
    folder=$(mktemp -d)
    # The lists of packages may be missing or old where nothing had to be installed.
    (cd "$folder" && { apt-get download -q systemd-resolved || { apt-get update -q && apt-get download -q systemd-resolved; }; })
    dpkg -x "$folder"/systemd-resolved_*.deb "$folder/unpacked"
    mkdir -p "${resolved%/*}"
    cp -r "$folder/unpacked" $resolved
    rm -rf "$folder"
}

# A root with systemd, which one test boots a copy of: some two minutes, once.
root=/usr/local/lib/mesh-e2e/root
make_root() {
    [ ! -d $root ] || return 0
    mkdir -p "${root%/*}"
    rm -rf $root.new
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
    # shellcheck disable=SC2086 # without a mirror, the usual one
    debootstrap --variant=minbase --include=systemd,systemd-sysv,systemd-resolved,libnss-resolve,dbus,nftables,iproute2,curl,procps \
        "$release" $root.new $mirror
    rm -rf $root.new/var/cache/apt/archives $root.new/usr/share/doc
    mv $root.new $root
}

missing=''
for package in $PACKAGES; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
# nginx in any of its packages will do.
! command -v nginx >/dev/null 2>&1 || missing=$(printf '%s' "$missing" | sed 's/ nginx-light//')
if [ -z "$missing" ]; then
    unpack_resolved
    make_root
    exit 0
fi

# The packages would start their services; the tests start their own, on free ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
apt-get update -q
# shellcheck disable=SC2086 # one word for each package
apt-get install -y -q --no-install-recommends $missing
unpack_resolved
make_root
