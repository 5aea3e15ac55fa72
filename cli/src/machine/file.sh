# What is done to one file on a server, by sh and GNU's cat, cp, mv, readlink, rm, sha256sum, stat and
# sync. A status from 64 on says why not; what the system said is on stderr.
set -u
umask 077
export LC_ALL=C
act=$1 path=$2
folder=${path%/*}
new=${folder:-}/.${path##*/}.atrest-new

fail() {
    [ "$act" != replace ] || rm -f -- "$new"
    exit "$1"
}

say_and_fail() {
    printf '%s\n' "$2" >&2
    fail "$1"
}

# The size of a regular file. Links are followed.
fit() {
    seen=$(stat -L -c '%s %F' -- "$path" 2>&1) || case $seen in
    *'No such file or directory') fail 64 ;;
    *) say_and_fail 70 "$seen" ;;
    esac
    case $seen in
    *' regular file' | *' regular empty file') ;;
    *) say_and_fail 65 "${seen#* }" ;;
    esac
    [ "${seen%% *}" -le 16777216 ] || say_and_fail 65 'file of more than 16 MiB'
}

digest() {
    sum=$(sha256sum <"$1") || fail 70
    sum=${sum%% *}
}

# `-` stands for no file.
unchanged() {
    if [ "$expected" = - ]; then
        [ ! -e "$path" ] || fail 68
    else
        [ -e "$path" ] || fail 68
        fit
        digest "$path"
        [ "$sum" = "$expected" ] || fail 68
    fi
}

# Whoever may read the old file may read the new one, and nobody else.
like_the_old() {
    [ -e "$path" ] || return 0
    keep=mode,ownership,xattr
    [ ! -e /sys/fs/selinux/enforce ] || keep=$keep,context
    cp --attributes-only --preserve=$keep -- "$path" "$new" &&
        [ "$(stat -c '%f %u %g' -- "$path")" = "$(stat -c '%f %u %g' -- "$new")" ]
}

case $act in
read)
    fit
    exec cat -- "$path"
    ;;
mode)
    exec stat -L -c %a -- "$path"
    ;;
replace)
    bytes=$3 expected=$4
    if [ -L "$path" ]; then
        target=$(readlink -- "$path")
        case /$target/ in
        */..data/*) fail 67 ;;
        *) say_and_fail 66 "$target" ;;
        esac
    fi
    unchanged
    # What a killed run left behind is ours by its name.
    rm -f -- "$new" || fail 70
    set -C
    { like_the_old && cat >&3; } 3>"$new" || fail 70
    # Where the connection broke off, this is not all.
    digest "$new"
    [ "$sum" = "$bytes" ] || fail 69
    sync -- "$new" || fail 70
    # Looked at once more: the window that is left is that of the rename itself.
    unchanged
    mv -f -T -- "$new" "$path" || fail 70
    sync -- "${folder:-/}" || fail 70
    ;;
clean)
    [ -e "$new" ] || exit 0
    rm -f -- "$new" && sync -- "${folder:-/}" || fail 70
    ;;
esac
