#!/bin/sh
# Installs and removes mesh in a copy of this host, in which every change lies in a folder of its own, and says what is left.
# Run as root, in a mount namespace of its own, as: leave_no_trace.sh RELEASE FOLDER SHELL…
#
# Standard output: what each run of the installer said, after a line '--- what'; at last, after '--- left', every file that is
# not as it was before.
set -eu
release=$1
folder=$2
shift 2

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

    # As the installer says it can be started where no service manager runs.
    # shellcheck disable=SC2016 # expanded there
    chroot "$folder/copy" sh -c 'set -a; . /etc/mesh/control.env; set +a
        exec /usr/local/bin/mesh control --data-dir /var/lib/mesh/control $MESH_ARGS' >/dev/null 2>&1 &
    waited=0
    until [ -e "$folder/copy/var/lib/mesh/control/addresses.json" ]; do
        waited=$((waited + 1))
        [ "$waited" -lt 300 ] || exit 3
        sleep 0.1
    done
    installer 'dry uninstall' --uninstall --purge --dry-run
    installer uninstall --uninstall --purge
    wait
    installer 'uninstall again' --uninstall --purge
    printf -- '--- left\n'
    left
done
