# Makes a machine of a directory: a root of its own with the host's programs and private /etc, /var
# and /run. This shell was started in namespaces of its own; all mounts go with its last process.
set -eu
directory=$1 name=$2 init=$3

hostname "$name"
root=$directory/root
mount --bind "$root" "$root"
# Or /tmp would hold the root once more, and so on.
mount --make-unbindable "$root"
for entry in /*; do
    if [ -L "$entry" ]; then
        cp -P "$entry" "$root$entry"
    elif [ -d "$entry" ]; then
        mkdir "$root$entry"
        case $entry in
        /etc | /var | /run) mount --bind "$directory$entry" "$root$entry" ;;
        /proc) mount -t proc proc "$root/proc" ;;
        *) mount --rbind "$entry" "$root$entry" ;;
        esac
    fi
done
# The kubelet sets kernel parameters, which are the host's: it gets files to set instead.
for parameter in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=$directory/parameters/$parameter
    mkdir -p "${copy%/*}"
    cat "/proc/sys/$parameter" >"$copy"
    mount --bind "$copy" "$root/proc/sys/$parameter"
done
cd "$root"
mkdir .host
pivot_root . .host
exec chroot . sh -ec '
    umount --lazy /.host
    rmdir /.host
    mount --make-rprivate /
    ip link set lo up
    echo up
    exec "$1"
' sh "$init"
