#!/bin/sh
# Installs and removes mesh in a copy of this host, in which every change lies in a folder of its own, and says what is left.
# Run as root, in a mount namespace and a network namespace of its own, as: leave_no_trace.sh RELEASE FOLDER SHELL…
#
# Standard output: what each run of the installer said, after a line '--- what'; after '--- network changed', what a proxy that
# intercepts changes of the network, and after '--- network left' what is left of that; at last, after '--- left', every file
# that is not as it was before.
set -eu
release=$1
folder=$2
shift 2

ip link set lo up
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/copy"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/copy"
mount --rbind /proc "$folder/copy/proc"
mount --rbind /dev "$folder/copy/dev"
mount --bind "$release" "$folder/copy/mnt"

# installer WHAT ARGUMENTS…
installer() {
    printf -- '--- %s\n' "$1"
    shift
    case $shell_name in
        busybox) chroot "$folder/copy" busybox sh /mnt/install.sh "$@" 2>&1 ;;
        *) chroot "$folder/copy" "$shell_name" /mnt/install.sh "$@" 2>&1 ;;
    esac
}

# Every change to the host: name, kind, mode, owner, and the content of files.
changes() {
    (cd "$folder/upper" && find . -mindepth 1 ! -type d -printf '%p %y %m %U:%G %l\n' | sort &&
        find . -type f -exec sha256sum {} + | sort)
}

# Directories are there where something in them was changed; others than the host's own are left over.
left() {
    (cd "$folder/upper" && find . -mindepth 1 | sort) | while read -r path; do
        if [ ! -d "$folder/upper/$path" ] || [ -L "$folder/upper/$path" ]; then
            printf '%s\n' "$path"
        elif [ "$(stat -c '%a %u:%g' "$folder/upper/$path")" != "$(stat -c '%a %u:%g' "/$path" 2>/dev/null)" ]; then
            printf '%s (a directory)\n' "$path"
        fi
    done
}

# Everything of the network that rules, routes and links are part of, and whom the host asks for names.
network() {
    nft list ruleset
    ip rule
    ip -6 rule
    ip route show table all
    ip -6 route show table all
    ip -o link
    cat "$folder/copy/etc/resolv.conf"
}

# started ROLE: starts what was installed as the installer says that it can be where no service manager runs.
started() {
    # shellcheck disable=SC2016 # expanded there
    chroot "$folder/copy" sh -c 'set -a; . "/etc/mesh/$1.env"; set +a
        exec /usr/local/bin/mesh "$1" --data-dir "/var/lib/mesh/$1" $MESH_ARGS' sh "$1" >"$folder/$1.log" 2>&1 &
    waited=0
    until [ -e "$folder/copy/var/lib/mesh/$1/addresses.json" ]; do
        waited=$((waited + 1))
        [ "$waited" -lt 600 ] || {
            cat "$folder/$1.log" >&2
            exit 3
        }
        sleep 0.1
    done
}

set_up() {
    installer "$1" --from /mnt --control --node here --advertise 127.0.0.1 ${2:+"$2"} -- \
        --listen 127.0.0.1:0 --gossip 127.0.0.1:0 --admin 127.0.0.1:0
}

for shell_name in "$@"; do
    set_up 'dry install' --dry-run
    printf -- '--- after a dry run\n'
    changes
    set_up install
    changes >"$folder/first"
    set_up 'install again'
    printf -- '--- after a second install\n'
    changes | diff "$folder/first" - || :

    started control
    network >"$folder/network"
    token=$(MESH_CONTROL=unix:///var/lib/mesh/control/control.sock chroot "$folder/copy" mesh token create)
    installer 'install proxy' --from /mnt --join "$token" --node there --service web=4000 --intercept strict -- \
        --outbound 127.0.0.1:0 --inbound 127.0.0.1:0 --gossip 127.0.0.1:0 --admin 127.0.0.1:0
    started proxy
    printf -- '--- network changed\n'
    network | diff "$folder/network" - || :
    installer 'dry uninstall' --uninstall --purge --dry-run
    installer uninstall --uninstall --purge
    wait
    printf -- '--- network left\n'
    network | diff "$folder/network" - || :
    installer 'uninstall again' --uninstall --purge
    printf -- '--- left\n'
    left
done
