trap '' HUP INT TERM
lines=
while IFS= read -r line; do
    lines="$line
$lines"
done
alive() { # pid, start time
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    set -- "$2" ${stat##*)}
    [ "$1" = "${21}" ] && [ "$2" != Z ]
}
end() { # pid, start time
    alive "$1" "$2" || return 0
    kill -TERM "$1"
    for _ in $(seq 50); do
        alive "$1" "$2" || return 0
        sleep 0.1
    done
    kill -KILL "$1"
    for _ in $(seq 50); do
        alive "$1" "$2" || return 0
        sleep 0.1
    done
}
eval "$lines"
