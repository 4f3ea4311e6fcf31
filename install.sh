#!/bin/sh
# Installs mesh on this host, and makes it a member of a mesh.
#
#   from a control plane:   curl … https://HOST:7443/install.sh | sh -s -- --join TOKEN --service web=8080
#   from a release:         sh install.sh --from DIR|URL --control    ('mesh release DIR' makes one)
#   away again:             sh install.sh --uninstall
#
# 'sh install.sh --help' lists everything. Nothing runs before the last line has arrived.
#
# The next two lines are filled in by the control plane that serves this script: its own address (https://host:port),
# and the hash of its serving key as curl's --pinnedpubkey takes it (sha256//…). Empty: this is a plain file.
MESH_URL=''
MESH_PIN=''

set -eu
umask 022

USAGE="usage: install.sh [what to run] [where from] [options]

what to run (nothing: only the program is installed)
  --join TOKEN               a proxy that joins the mesh of this token ('mesh token create' makes one)
    --service NAME=PORT[/PROTO]   a service of this host (repeat)
    --upstream NAME=ADDR:PORT     a local port for a service of the mesh (repeat)
    --intercept on|strict         applications use plain names; strict: only the mesh reaches this host's services
  --control                  a control plane
  -- ARGUMENTS               all that follows goes to 'mesh proxy' or 'mesh control' as it is

  --node NAME, --zone ZONE, --advertise HOST    as for 'mesh proxy' and 'mesh control'

  What no flag says, the environment may: MESH_JOIN, or MESH_ROLE=control; MESH_SERVICE, MESH_UPSTREAM (several: with
  commas), MESH_INTERCEPT, MESH_NODE, MESH_ZONE, MESH_ADVERTISE

where from
  --from DIR|URL             a release: a directory, or an https:// address of one, with SHA256SUMS in it
                             (without it: the control plane that served this script, or what 'cargo build --release'
                             made in the checkout that it stands in)
  --key FILE                 with --from: take a release only if it was signed with this key (the public one, PEM)
options
  --prefix DIR               install below DIR instead of /; starts nothing
  --no-start                 install the service, but do not start it
  --dry-run                  say what would be done, do nothing
  --uninstall                stop mesh and remove the program, its services, its settings and the proxy's state
  --purge                    with --uninstall: also the control plane's state, that is the mesh's certificate authority
  --help                     this text"

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "install.sh: $*"
    exit 1
}
misuse() {
    say "install.sh: $1"
    say "$USAGE"
    exit 2
}

# Carries out a command, or says it with --dry-run.
run() {
    if [ -n "$dry_run" ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

clean_up() {
    [ -z "${work:-}" ] || rm -rf "$work"
    [ -z "${fresh:-}" ] || rm -f "$fresh"
}

# --- arguments -----------------------------------------------------------------------------------------------------

# Values end up in files that systemd and shells read: no blanks, no quotes, nothing that either would expand.
check_value() {
    case $2 in
        '') misuse "$1 needs a value" ;;
        *[!A-Za-z0-9._:/,=@%+~[\]-]*) fail "$1: '$2' has a character that cannot be part of it" ;;
    esac
}

parse() {
    role='' token='' arguments='' from='' key='' prefix='' dry_run='' uninstall='' purge='' start=yes services=''
    while [ $# -gt 0 ]; do
        option=$1
        shift
        case $option in
            --*=*)
                set -- "${option#*=}" "$@"
                option=${option%%=*}
                ;;
        esac
        case $option in
            --join | --service | --upstream | --intercept | --node | --zone | --advertise | --from | --key | --prefix)
                [ $# -gt 0 ] || misuse "$option needs a value"
                value=$1
                shift
                ;;
        esac
        case $option in
            --join) take_token "$option" "$value" ;;
            --service | --upstream | --intercept | --node | --zone | --advertise)
                check_value "$option" "$value"
                case $option in --service | --upstream | --intercept) services=yes ;; esac
                arguments="$arguments $option $value"
                ;;
            --from) from=$value ;;
            --key) key=$value ;;
            --prefix) prefix=${value%/} ;;
            --control) take_role control ;;
            --no-start) start='' ;;
            --dry-run) dry_run=yes ;;
            --uninstall) uninstall=yes ;;
            --purge) purge=yes ;;
            --help | -h)
                printf '%s\n' "$USAGE"
                exit 0
                ;;
            --)
                for value in "$@"; do
                    check_value "an argument after --" "$value"
                    arguments="$arguments $value"
                done
                break
                ;;
            *) misuse "unknown option '$option'" ;;
        esac
    done
    ask_environment
    arguments=${arguments# }
    [ -z "$key" ] || [ -n "$from" ] || misuse "--key goes with --from: a control plane is known by its own key"
    [ -z "$purge" ] || [ -n "$uninstall" ] || misuse "--purge goes with --uninstall"
    [ -z "$arguments" ] || [ -n "$role" ] || misuse "say what to run: --join TOKEN or --control"
    [ -z "$services" ] || [ "$role" = proxy ] || misuse "--service, --upstream and --intercept go with --join"
    # A control plane calls itself --name, a proxy --node.
    [ "$role" != control ] || arguments=$(printf '%s' "$arguments" | sed 's/^--node /--name /; s/ --node / --name /g')
}

# Completes what the flags say.
ask_environment() {
    [ -z "$uninstall" ] || return 0
    if [ -z "$role" ]; then
        case ${MESH_ROLE:-proxy} in
            proxy) [ -z "${MESH_JOIN:-}" ] || take_token MESH_JOIN "$MESH_JOIN" ;;
            control) take_role control ;;
            *) fail "MESH_ROLE: '$MESH_ROLE' is not what can be run: expected proxy or control" ;;
        esac
    fi
    if [ "$role" = proxy ]; then
        default_to --service MESH_SERVICE "${MESH_SERVICE:-}"
        default_to --upstream MESH_UPSTREAM "${MESH_UPSTREAM:-}"
        default_to --intercept MESH_INTERCEPT "${MESH_INTERCEPT:-}"
        default_to --zone MESH_ZONE "${MESH_ZONE:-}"
    fi
    if [ -n "$role" ]; then
        default_to --node MESH_NODE "${MESH_NODE:-}"
        default_to --advertise MESH_ADVERTISE "${MESH_ADVERTISE:-}"
    fi
}

# default_to OPTION VARIABLE VALUE
default_to() {
    [ -n "$3" ] || return 0
    case "$arguments " in *" $1 "*) return 0 ;; esac
    check_value "$2" "$3"
    arguments="$arguments $1 $3"
}

# take_token FROM VALUE
take_token() {
    check_value "$1" "$2"
    case $2 in
        mesh1.*@*:*) token=$2 ;;
        *) fail "$1: this is no join token (mesh1.…@host:port); 'mesh token create' on the control plane makes one" ;;
    esac
    take_role proxy
}

take_role() {
    [ -z "$role" ] || [ "$role" = "$1" ] || misuse "--join and --control are for different hosts: choose one"
    role=$1
}

# --- getting the program -------------------------------------------------------------------------------------------

digest() {
    if command -v sha256sum >/dev/null 2>&1; then
        sum=$(sha256sum "$1")
    elif command -v openssl >/dev/null 2>&1; then
        sum=$(openssl dgst -sha256 -r "$1")
    else
        fail "needs sha256sum or openssl to check what was downloaded"
    fi
    printf '%s' "${sum%% *}"
}

# download URL FILE [curl's options]
download() {
    url=$1 file=$2
    shift 2
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL --retry 3 --connect-timeout 10 --max-time 600 "$@" -o "$file" "$url" || fail "cannot download $url"
    elif [ $# -eq 0 ] && command -v wget >/dev/null 2>&1; then
        wget -q -O "$file" "$url" || fail "cannot download $url"
    else
        fail "needs curl to download $url"
    fi
}

# Puts the program into $work/mesh, once its digest is that of the release.
fetch() {
    machine=$(uname -m)
    case $from in
        '')
            if [ -z "$MESH_URL" ]; then
                take_built
                return 0
            fi
            [ -n "$MESH_PIN" ] || fail "this script names $MESH_URL but not its key: download it again with the line that 'mesh token create --install' prints"
            fetch_from "$MESH_URL" -k --pinnedpubkey "$MESH_PIN"
            ;;
        https://* | http://127.0.0.1[:/]* | http://localhost[:/]*) fetch_from "${from%/}" ;;
        *://*) fail "--from $from: only https:// is safe to install from" ;;
        *)
            [ -f "$from/SHA256SUMS" ] || fail "--from $from: there is no SHA256SUMS in it; 'mesh release DIR' makes a release"
            cp "$from/SHA256SUMS" "$work/"
            if [ -n "$key" ]; then
                [ -f "$from/SHA256SUMS.sig" ] || fail "--from $from: it is not signed: there is no SHA256SUMS.sig in it"
                cp "$from/SHA256SUMS.sig" "$work/"
            fi
            pick "$work/SHA256SUMS"
            [ -f "$from/$name" ] || fail "--from $from: SHA256SUMS names '$name', which is not there"
            cp "$from/$name" "$work/mesh" ||
                fail "$work/mesh cannot be written (above is why): make room there, or set TMPDIR to where there is; nothing was installed"
            ;;
    esac
    found=$(digest "$work/mesh")
    [ "$found" = "$expected" ] || fail "what arrived is not what was meant: its SHA-256 is $found instead of '$expected'; nothing was installed"
}

# Takes the program that was built in the checkout that this script stands in.
take_built() {
    folder=$(checkout) || misuse "say where to install from: --from DIR|URL, or use the line that 'mesh token create --install' prints"
    built="${CARGO_TARGET_DIR:-$folder/target}/$machine-unknown-linux-gnu/release/mesh"
    [ -f "$built" ] || fail "nothing is built in this checkout: 'cargo build --release' in $folder makes $built"
    cp "$built" "$work/mesh"
    expected=$(digest "$work/mesh")
}

# Prints the folder of this script, if that is a checkout of mesh: what comes through a pipe stands nowhere.
checkout() {
    case $0 in
        install.sh | */install.sh) ;;
        *) return 1 ;;
    esac
    place=$(cd "$(dirname "$0")" && pwd) || return 1
    grep -qs '^name = "mesh"$' "$place/Cargo.toml" || return 1
    printf '%s' "$place"
}

# fetch_from URL [curl's options]
fetch_from() {
    base=$1
    shift
    say "downloading mesh from $base"
    download "$base/SHA256SUMS" "$work/SHA256SUMS" "$@"
    [ -z "$key" ] || download "$base/SHA256SUMS.sig" "$work/SHA256SUMS.sig" "$@"
    pick "$work/SHA256SUMS"
    download "$base/$name" "$work/mesh" "$@"
}

# Makes sure that the list of digests is of whom it should be of.
verify() {
    command -v openssl >/dev/null 2>&1 || fail "--key needs openssl to check the signature"
    [ -f "$key" ] || fail "--key $key: there is no such file"
    openssl dgst -sha256 -verify "$key" -signature "$1.sig" "$1" >/dev/null 2>&1 ||
        fail "the release is not signed with the key in $key; nothing was installed"
}

# Chooses the program for this machine from a list of digests: mesh-linux-MACHINE, else mesh.
pick() {
    [ -z "$key" ] || verify "$1"
    for name in "mesh-linux-$machine" mesh; do
        expected=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]\(\.\/\)\{0,1\}$name\$/\1/p" "$1" | sed -n 1p)
        [ -z "$expected" ] || return 0
    done
    fail "$1 names no mesh for $machine"
}

install_program() {
    if [ -f "$program" ] && [ "$(digest "$program")" = "$expected" ]; then
        say "$program is already this version"
        return 0
    fi
    chmod 755 "$work/mesh"
    version=$("$work/mesh" version 2>/dev/null) || fail "the downloaded program does not run here ($machine); nothing was installed"
    if [ -n "$dry_run" ]; then
        say "would install $program ($version)"
        return 0
    fi
    mkdir -p "$prefix/usr/local/bin"
    # A rename within one directory: whoever runs mesh meanwhile has the old program or the new one, never a half.
    fresh="$program.new.$$"
    cp "$work/mesh" "$fresh" ||
        fail "$program cannot be written (above is why): make room there ('df -h $prefix/usr/local/bin'); nothing was installed"
    chmod 755 "$fresh"
    mv -f "$fresh" "$program"
    fresh=''
    changed=yes
    say "installed $program ($version)"
}

# --- the service ---------------------------------------------------------------------------------------------------

unit() {
    case $1 in
        proxy) title='data plane' ;;
        control) title='control plane' ;;
    esac
    # To install rules takes one capability; without them, none. systemd-resolved hears of names from root alone.
    capabilities='CapabilityBoundingSet=' names=''
    case " $arguments" in
        *' --intercept'*)
            capabilities='CapabilityBoundingSet=CAP_NET_ADMIN
AmbientCapabilities=CAP_NET_ADMIN'
            names='
ExecStartPost=-+/usr/local/bin/mesh intercept resolved'
            ;;
    esac
    # A proxy looks at the processes that call, and runs tools; a control plane does neither.
    case $1 in
        proxy) confinement='' ;;
        control) confinement='
ProtectProc=invisible
ProcSubset=pid
PrivateUsers=yes' ;;
    esac
    cat <<UNIT
[Unit]
Description=mesh $title
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
EnvironmentFile=/etc/mesh/$1.env
Environment=MESH_DATA_DIR=/var/lib/mesh/$1
ExecStart=/usr/local/bin/mesh $1 \$MESH_ARGS$names
ExecReload=/bin/kill -HUP \$MAINPID
Restart=always
RestartSec=1
TimeoutStartSec=120
TimeoutStopSec=60
WatchdogSec=60
LimitNOFILE=1048576
StateDirectory=mesh/$1
StateDirectoryMode=0700
UMask=0077

DynamicUser=yes
NoNewPrivileges=yes
$capabilities
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM$confinement

[Install]
WantedBy=multi-user.target
UNIT
}

# The token is a secret: the file is the owner's alone, from its first byte.
settings() {
    printf '# Settings of mesh %s; read by its service. Written by install.sh.\n' "$role"
    [ -z "$token" ] || printf "MESH_JOIN='%s'\n" "$token"
    printf "MESH_ARGS='%s'\n" "$arguments"
}

# write FILE MODE: standard input becomes the file, unless it is that already.
write() {
    if [ -n "$dry_run" ]; then
        cat >/dev/null
        say "would write $1"
        return 0
    fi
    mkdir -p "${1%/*}"
    fresh="$1.new.$$"
    (umask 077 && cat >"$fresh") ||
        fail "$1 cannot be written (above is why): make room there, and give this command again, which goes on from here"
    if [ -f "$1" ] && cmp -s "$1" "$fresh"; then
        rm -f "$fresh"
    else
        chmod "$2" "$fresh"
        mv -f "$fresh" "$1"
        changed=yes
        say "wrote $1"
    fi
    fresh=''
}

has_systemd() { [ -z "$prefix" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }

install_service() {
    settings | write "$prefix/etc/mesh/$role.env" 600
    if ! has_systemd; then
        say ""
        say "systemd does not run here; start mesh $role by hand, or from what starts services on this host:"
        say ""
        say "    set -a; . $prefix/etc/mesh/$role.env; set +a"
        say "    $program $role --data-dir $prefix/var/lib/mesh/$role \$MESH_ARGS"
        return 0
    fi
    unit "$role" | write "/etc/systemd/system/mesh-$role.service" 644
    run systemctl daemon-reload
    run systemctl enable --quiet "mesh-$role.service"
    if [ -z "$start" ]; then
        say "start it with: systemctl start mesh-$role"
        return 0
    fi
    if [ -n "$changed" ] || ! systemctl is-active --quiet "mesh-$role.service"; then
        # The service reports itself ready only when it would serve, so that success here means just that.
        run systemctl restart "mesh-$role.service" || {
            journalctl --no-pager -u "mesh-$role.service" -n 20 >&2 || :
            fail "mesh $role did not start; its last words are above"
        }
    fi
    if [ -n "$dry_run" ]; then
        say "nothing was changed; without --dry-run, mesh $role would run by now"
        return 0
    fi
    say "mesh $role runs; 'mesh check' looks at it, 'systemctl status mesh-$role' too"
    if [ "$role" = control ]; then
        say "on the other hosts run:"
        MESH_CONTROL="unix:///var/lib/mesh/control/control.sock" "$program" token create --install >&2 || :
    fi
}

# --- and away again ------------------------------------------------------------------------------------------------

# Prints the processes that run the very file that is installed, or one that the proxy has got from its control plane since,
# and see the same files and processes as this one: a container or another root may have a mesh of its own under the same path.
running() {
    files=' '
    for file in "$program" "$prefix"/var/lib/mesh/proxy/program/mesh-*; do
        file=$(stat -Lc %d:%i "$file" 2>/dev/null) || continue
        files="$files$file "
    done
    for process in /proc/[0-9]*; do
        file=$(stat -Lc %d:%i "$process/exe" 2>/dev/null) || continue
        case $files in
            *" $file "*) ! is_here "$process" || printf '%s\n' "${process#/proc/}" ;;
        esac
    done
}

is_here() {
    for space in mnt pid; do
        [ "$(readlink "$1/ns/$space" 2>/dev/null)" = "$(readlink "/proc/self/ns/$space")" ] || return 1
    done
}

# What a process is, for people: mesh proxy. The rest of its command line may hold a token.
title() {
    word=$(tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | sed -n 2p) || :
    case $word in
        '' | *[!a-z]*) printf 'mesh' ;;
        *) printf 'mesh %s' "$word" ;;
    esac
}

stop_processes() {
    processes=$(running)
    [ -n "$processes" ] || return 0
    found=yes stopped=''
    for process in $processes; do
        stopped="$stopped${stopped:+, }PID $process ($(title "$process"))"
        run kill -TERM "$process" || :
    done
    [ -z "$dry_run" ] || return 0
    waited=0
    while [ -n "$(running)" ]; do
        [ "$waited" -lt 60 ] || fail "still running after a minute: process $(running | tr '\n' ' ')"
        sleep 1
        waited=$((waited + 1))
    done
    say "stopped $stopped"
}

# Says which processes run a program that this one was put in place of: nothing proves whose they are.
name_leftovers() {
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/exe" 2>/dev/null)" = "$program (deleted)" ] && is_here "$process"; then
            process=${process#/proc/}
            say "left PID $process ($(title "$process")), which runs an older $program: 'kill $process' ends it"
        fi
    done
}

remove() {
    for file in "$@"; do
        if [ -e "$file" ] || [ -L "$file" ]; then
            found=yes
            run rm -rf "$file"
            [ -n "$dry_run" ] || say "removed $file"
        fi
    done
}

remove_all() {
    found=''
    for role in proxy control; do
        if has_systemd && [ -e "/etc/systemd/system/mesh-$role.service" ]; then
            run systemctl disable --quiet --now "mesh-$role.service" || :
        fi
        remove "$prefix/etc/systemd/system/mesh-$role.service" "$prefix/etc/mesh/$role.env"
    done
    stop_processes
    name_leftovers
    remove "$program" "$prefix/var/lib/mesh/proxy" "$prefix/var/lib/private/mesh/proxy"
    if [ -n "$purge" ]; then
        remove "$prefix/var/lib/mesh" "$prefix/var/lib/private/mesh"
    elif [ -e "$prefix/var/lib/mesh/control" ]; then
        say "kept $prefix/var/lib/mesh/control, the mesh's certificate authority and configuration; --purge removes that too"
    fi
    for directory in "$prefix/etc/mesh" "$prefix/var/lib/mesh" "$prefix/var/lib/private/mesh"; do
        [ -d "$directory" ] || continue
        if [ -n "$dry_run" ]; then
            say "would remove $directory, if nothing else is in it"
        elif rmdir "$directory" 2>/dev/null; then
            say "removed $directory"
        fi
    done
    if has_systemd; then
        run systemctl daemon-reload
        # Only what has failed is there to be forgotten.
        [ -n "$dry_run" ] || systemctl reset-failed mesh-proxy.service mesh-control.service 2>/dev/null || :
    fi
    [ -n "$found" ] || say "mesh is not installed in ${prefix:-/}: there is nothing to remove"
}

main() {
    parse "$@"
    [ "$(uname -s)" = Linux ] || fail "mesh is for Linux"
    [ -n "$prefix" ] || [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] ||
        fail "must be root to install into /usr/local: put 'sudo' before 'sh'"
    program="$prefix/usr/local/bin/mesh"
    changed=''
    if [ -n "$uninstall" ]; then
        remove_all
        return 0
    fi
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    work=$(mktemp -d)
    fetch
    install_program
    [ -z "$role" ] || install_service
}

main "$@"
