#!/bin/sh
# A systemd-resolved and a message bus of its own, for one host of a test: sh resolved.sh FOLDER UNPACKED
#   FOLDER     where its bus and its list of users are
#   UNPACKED   the package systemd-resolved, unpacked
# To be started in the host's network namespace; it makes a mount namespace for itself, and ends with its parent.
set -eu
folder=$1 unpacked=$2
if [ "${3:-}" != inside ]; then
    exec unshare --mount --pid --fork --kill-child sh "$0" "$folder" "$unpacked" inside
fi
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/resolve
for file in passwd group; do
    cp /etc/$file "$folder/$file"
done
if ! grep -q '^systemd-resolve:' "$folder/passwd"; then
    printf 'systemd-resolve:x:61990:61990::/:/usr/sbin/nologin\n' >>"$folder/passwd"
    printf 'systemd-resolve:x:61990:\n' >>"$folder/group"
    mount --bind "$folder/passwd" /etc/passwd
    mount --bind "$folder/group" /etc/group
fi
chown systemd-resolve:systemd-resolve /run/systemd/resolve
cat >"$folder/bus.conf" <<BUS
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=$folder/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
BUS
dbus-daemon --config-file="$folder/bus.conf" --fork
chmod 666 "$folder/bus"
for program in "$unpacked/lib/systemd/systemd-resolved" "$unpacked/usr/lib/systemd/systemd-resolved"; do
    [ -x "$program" ] || continue
    DBUS_SYSTEM_BUS_ADDRESS="unix:path=$folder/bus" "$program"
    exit
done
exit 1
