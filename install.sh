#!/usr/bin/env bash
# Builds the ten ferrostore drivers and puts them where oned looks for them.
# `./install.sh --help` says how; the README says why.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
actions=(cp mkfs clone rm stat snap_revert snap_flatten snap_delete monitor export)

usage() {
    cat <<'USAGE'
Usage: ./install.sh [--name NAME] [--prefix DIR] [--no-build] [--dry-run]
       ./install.sh --uninstall [--name NAME] [--prefix DIR] [--dry-run]
       ./install.sh --demo | --help

Builds the ten drivers with cargo and puts them into $REMOTES/datastore/fs,
where oned finds them at its next call: no restart is needed. $REMOTES is
/var/lib/one/remotes, or $ONE_LOCATION/var/remotes where ONE_LOCATION is set.

  --name NAME   make a DS_MAD of its own instead of replacing `fs`: drivers in
                $REMOTES/datastore/NAME, their kind in
                $REMOTES/etc/datastore/NAME/NAME.conf; the lines that oned.conf
                needs are printed
  --prefix DIR  install below DIR instead of /, for packaging: missing folders
                are created
  --no-build    install the drivers that target/release holds; don't call cargo
  --dry-run     say what would be done and change nothing
  --uninstall   take the drivers out again and put the stock scripts back
  --demo        build, then show every driver at work in a throw-away datastore;
                installs nothing
  --help        this text

The scripts that the drivers replace are kept in $REMOTES/datastore/fs.stock.
That copy is never written to again. Other files of the folder stay untouched.
USAGE
}

say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

# ---------------------------------------------------------------- arguments

name=fs prefix='' build=yes dry=no mode=install
while [ $# -gt 0 ]; do
    case $1 in
        --name|--prefix)
            [ -n "${2-}" ] || die "$1 needs a value; see ./install.sh --help"
            if [ "$1" = --name ]; then name=$2; else prefix=$2; fi
            shift ;;
        --name=*) name=${1#*=} ;;
        --prefix=*) prefix=${1#*=} ;;
        --no-build) build=no ;;
        --dry-run) dry=yes ;;
        --uninstall) mode=uninstall ;;
        --demo) mode=demo ;;
        --help|-h) usage; exit 0 ;;
        *) die "unknown argument '$1'; see ./install.sh --help" ;;
    esac
    shift
done

[[ $name =~ ^[A-Za-z0-9][A-Za-z0-9_-]*$ ]] ||
    die "'$name' can't be the name of a DS_MAD: use letters, digits, '-' and '_'"
case $prefix in ''|/*) ;; *) prefix=$PWD/$prefix ;; esac
prefix=${prefix%/}

if [ -n "${ONE_LOCATION:-}" ]; then
    var=${ONE_LOCATION%/}/var
    oned_conf=$prefix${ONE_LOCATION%/}/etc/oned.conf
else
    var=/var/lib/one
    oned_conf=$prefix/etc/one/oned.conf
fi
remotes=$prefix$var/remotes
datastores=$remotes/datastore
dir=$datastores/$name
conf_dir=$remotes/etc/datastore/$name
conf=$conf_dir/$name.conf
built=${CARGO_TARGET_DIR:-$here/target}/release
case $built in /*) ;; *) built=$PWD/$built ;; esac

# ---------------------------------------------------------------- helpers

# step TEXT COMMAND...: runs the command, or with --dry-run only says the text.
step() {
    local text=$1
    shift
    if [ "$dry" = yes ]; then say "would $text"; else "$@"; fi
}

there() { [ -e "$1" ] || [ -L "$1" ]; }

# A driver of ours is a program that carries our name or help; stock drivers are scripts.
is_ours() {
    [ -f "$1" ] && [ ! -L "$1" ] &&
        [ "$(head -c 4 "$1" | tail -c 3)" = ELF ] &&
        grep -aqe ferrostore -e 'MESSAGE is DS_DRIVER_ACTION_DATA' "$1"
}

# Copies of the scripts that were here before, newest first: NAME.stock, and NAME.stock.2 and
# so on where an upgrade of OpenNebula brought new scripts in between.
stock_copies() {
    local n=2 copies=()
    [ ! -d "$dir.stock" ] || copies=("$dir.stock")
    while [ -d "$dir.stock.$n" ]; do copies=("$dir.stock.$n" "${copies[@]}"); n=$((n + 1)); done
    [ ${#copies[@]} = 0 ] || printf '%s\n' "${copies[@]}"
}

# stock_of ACTION: the newest script of that name which was kept, or nothing.
stock_of() {
    local copy
    while IFS= read -r copy; do
        if there "$copy/$1"; then printf '%s' "$copy/$1"; return; fi
    done < <(stock_copies)
}

next_stock() {
    local n=2
    there "$dir.stock" || { printf '%s' "$dir.stock"; return; }
    while there "$dir.stock.$n"; do n=$((n + 1)); done
    printf '%s' "$dir.stock.$n"
}

same_file() {
    if [ -L "$1" ] || [ -L "$2" ]; then
        [ -L "$1" ] && [ -L "$2" ] && [ "$(readlink "$1")" = "$(readlink "$2")" ]
    else
        cmp -s "$1" "$2"
    fi
}

# OpenNebula's files belong to oneadmin. Only root can give files away.
own() {
    if [ "$(id -u)" = 0 ] && getent passwd oneadmin >/dev/null; then
        chown -h oneadmin:oneadmin "$@"
    fi
}

made_dirs=()
make_dir() { # with its parents, each as OpenNebula makes them
    local missing=() path=$1
    while [ ! -d "$path" ]; do missing=("$path" "${missing[@]}"); path=$(dirname "$path"); done
    for path in "${missing[@]}"; do
        mkdir -m 0755 "$path" || return
        made_dirs=("$path" "${made_dirs[@]}")
        own "$path"
    done
}

# ---------------------------------------------------------------- build

build_drivers() {
    local action
    if [ "$build" = yes ]; then
        command -v cargo >/dev/null ||
            die "no cargo in PATH. Install Rust (https://rustup.rs) and run this again; or build as another user with 'cargo build --release -p drivers' and run this with --no-build"
        command -v cc >/dev/null ||
            die "no C compiler (cc), which the compression libraries need: apt-get install build-essential"
        step "build: cargo build --release --locked -p drivers" \
            cargo build --release --locked --manifest-path "$here/Cargo.toml" -p drivers ||
            die "cargo could not build the drivers; its reason is above. Nothing was installed"
    fi
    if [ "$dry" = yes ] && [ "$build" = yes ]; then return; fi
    for action in "${actions[@]}"; do
        [ -x "$built/$action" ] ||
            die "$built/$action is missing: build with 'cargo build --release -p drivers'"
    done
}

# ---------------------------------------------------------------- self-test

canned() { # canned IMAGE_XML: a message as oned sends it
    printf '<DS_DRIVER_ACTION_DATA>%s<DATASTORE><ID>100</ID><NAME>self-test</NAME>' "$1"
    printf '<DS_MAD><![CDATA[%s]]></DS_MAD><TM_MAD><![CDATA[shared]]></TM_MAD>' "$name"
    printf '<BASE_PATH><![CDATA[%s/datastore]]></BASE_PATH><TYPE>0</TYPE>' "$scratch"
    printf '<DISK_TYPE>0</DISK_TYPE><STATE>0</STATE><TEMPLATE><DS_MAD><![CDATA[%s]]></DS_MAD>' "$name"
    printf '<RESTRICTED_DIRS><![CDATA[/]]></RESTRICTED_DIRS><SAFE_DIRS><![CDATA[%s]]></SAFE_DIRS>' "$scratch"
    printf '</TEMPLATE></DATASTORE></DS_DRIVER_ACTION_DATA>'
}

call() { # call DRIVER ID IMAGE_XML: as oned does, as the user that oned runs as
    local as=()
    if [ -z "$prefix" ] && [ "$(id -u)" = 0 ] && getent passwd oneadmin >/dev/null; then
        as=(runuser -u oneadmin --)
    fi
    canned "$3" | base64 -w0 |
        "${as[@]}" env "${self_env[@]}" timeout 30 "$1" "$2" 2>"$scratch/stderr"
}

scratch='' self_env=()
self_test() { # self_test FOLDER: one call that writes nothing, one that reads a file
    local reply three_lines='^USED_MB=[0-9]+ TOTAL_MB=[0-9]+ FREE_MB=[0-9]+$'
    scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/ferrostore-selftest.XXXXXX")
    mkdir "$scratch/datastore" "$scratch/one"
    truncate -s 3M "$scratch/image"
    own "$scratch" "$scratch/datastore" "$scratch/image"
    self_env=()
    if [ -n "$prefix" ]; then # the drivers look for their configuration below ONE_LOCATION/var
        ln -s "$prefix$var" "$scratch/one/var"
        self_env=("ONE_LOCATION=$scratch/one")
    fi

    reply=$(call "$1/monitor" 100 '') || self_test_failed monitor
    [[ ${reply//$'\n'/ } =~ $three_lines ]] || self_test_failed monitor "$reply"
    reply=$(call "$1/stat" 1 "<IMAGE><PATH><![CDATA[$scratch/image]]></PATH><SIZE></SIZE></IMAGE>") ||
        self_test_failed stat
    [ "$reply" = 3 ] || self_test_failed stat "$reply"
    rm -rf "$scratch"
    scratch=''
}

self_test_failed() { # self_test_failed ACTION [WRONG_REPLY]
    local what="replied '${2-}'"
    [ $# -gt 1 ] || what="failed: $(tr '\n' ' ' <"$scratch/stderr")"
    die "self-test: $1 $what. Nothing is installed; what was there before is in its place"
}

# ---------------------------------------------------------------- install

work='' kept='' new_conf='' put=() finished=no

# Until `finished=yes`, leaving for whatever reason puts everything back.
finish() {
    local status=$? action path
    trap - EXIT
    if [ "$finished" = no ]; then
        for action in "${put[@]}"; do
            if there "$work/old/$action"; then
                mv -fT "$work/old/$action" "$dir/$action"
            else
                rm -f "$dir/$action"
            fi
        done
        [ -z "$new_conf" ] || rm -f "$new_conf"
        [ -z "$kept" ] || rm -rf "$kept"
    fi
    [ -z "$work" ] || rm -rf "$work"
    [ -z "$scratch" ] || rm -rf "$scratch"
    if [ "$finished" = no ]; then
        for path in "${made_dirs[@]}"; do rmdir "$path" 2>/dev/null || true; done
    fi
    exit "$status"
}

# The work folder lies beside the drivers, so that every move into place is one rename.
open_work() {
    if [ ! -d "$datastores" ]; then
        if [ -z "$prefix" ]; then
            die "no OpenNebula here: $datastores does not exist. Set ONE_LOCATION for a self-contained installation, or use --prefix DIR to install below another root"
        fi
        step "create $datastores" make_dir "$datastores" ||
            die "can't create $datastores: use a folder that you may write to, or run this with sudo"
    fi
    local path
    for path in "$datastores" "$dir"; do
        if [ -d "$path" ] && [ ! -w "$path" ]; then
            die "$path is not writable for $(id -un): run this with sudo or as oneadmin"
        fi
    done
    [ "$dry" = no ] || return 0
    exec 9<"$datastores"
    flock -n 9 || die "another install.sh is at work on $datastores; try again when it is done"
    work=$(mktemp -d "$datastores/.$name.ferrostore.XXXXXX")
    mkdir "$work/new" "$work/old"
    chmod 0755 "$work" "$work/new"
}

copy_aside() {
    local action
    for action in "${actions[@]}"; do cp "$built/$action" "$work/new/"; done
    chmod 0755 "$work/new"/*
    own "$work/new"/*
    sync "$work/new"/*
}

keep_stock() { # the scripts that are about to be replaced, once
    local action stock foreign=() changed=no next
    for action in "${actions[@]}"; do
        if [ -d "$dir/$action" ] && [ ! -L "$dir/$action" ]; then
            die "$dir/$action is a folder, not a driver: move it away"
        fi
        if there "$dir/$action" && ! is_ours "$dir/$action"; then foreign+=("$action"); fi
    done
    [ ${#foreign[@]} -gt 0 ] || return 0
    if [ "$name" != fs ]; then
        die "$dir holds drivers that are not ferrostore's: choose another --name"
    fi
    for action in "${foreign[@]}"; do
        stock=$(stock_of "$action")
        if [ -z "$stock" ] || ! same_file "$dir/$action" "$stock"; then changed=yes; fi
    done
    [ "$changed" = yes ] || return 0
    next=$(next_stock)
    step "keep the stock scripts in $next" copy_stock "$next" "${foreign[@]}"
}

copy_stock() {
    local next=$1 action
    shift
    mkdir "$work/stock"
    for action in "$@"; do cp -a "$dir/$action" "$work/stock/"; done
    chmod --reference="$dir" "$work/stock"
    chown --reference="$dir" "$work/stock" 2>/dev/null || true
    kept=$next
    mv -T "$work/stock" "$next"
    say "kept    the stock scripts in $next"
}

write_conf() {
    [ "$name" != fs ] || return 0
    if [ -e "$conf" ] && grep -Eq '^[[:space:]]*KIND[[:space:]]*=' "$conf"; then
        grep -Eq '^[[:space:]]*KIND[[:space:]]*=[[:space:]]*["'\'']?fs["'\'']?[[:space:]]*$' "$conf" ||
            die "$conf sets another KIND than fs: choose another --name or change it"
        return 0
    fi
    [ ! -e "$conf" ] || die "$conf exists without a KIND: add the line KIND=fs to it and run this again"
    step "write $conf: KIND=fs" create_conf
}

create_conf() {
    make_dir "$conf_dir"
    printf 'KIND=fs\n' >"$work/conf"
    chmod 0644 "$work/conf"
    own "$work/conf"
    new_conf=$conf
    mv -T "$work/conf" "$conf"
    say "wrote   $conf"
}

put_in_place() {
    local action
    make_dir "$dir"
    for action in "${actions[@]}"; do
        if there "$dir/$action"; then cp -a "$dir/$action" "$work/old/$action"; fi
        put+=("$action")
        mv -fT "$work/new/$action" "$dir/$action"
    done
    sync "$dir"
}

# The lines that oned.conf needs for a DS_MAD of its own, made from the ones it has.
oned_lines() {
    local arguments='' default='' list
    if [ -r "$oned_conf" ]; then
        arguments=$(awk '/^[[:space:]]*#/ { next }
            /^[[:space:]]*DATASTORE_MAD/ { inside = 1 }
            inside && match($0, /ARGUMENTS[[:space:]]*=[[:space:]]*"[^"]*"/) {
                text = substr($0, RSTART, RLENGTH); sub(/^[^"]*"/, "", text); sub(/"$/, "", text)
                print text; exit
            }
            inside && /\]/ { inside = 0 }' "$oned_conf")
    fi
    if [ -z "$arguments" ]; then
        arguments='-t 15 -d dummy,fs,lvm,ceph,dev,iscsi_libvirt -s shared,local,ceph,fs_lvm'
        default=' (it has none that could be read: compare with OpenNebula'\''s default)'
    fi
    list=$(sed -n 's/^.*-d[[:space:]]*\([^[:space:]]*\).*$/\1/p' <<<"$arguments")
    case ",$list," in
        *",$name,"*) ;;
        *) arguments=${arguments/"$list"/"$list,$name"} ;;
    esac
    say ''
    say "oned.conf ($oned_conf) needs these two; replace its DATASTORE_MAD$default:"
    cat <<LINES

DATASTORE_MAD = [
    EXECUTABLE = "one_datastore",
    ARGUMENTS  = "$arguments"
]

DS_MAD_CONF = [
    NAME = "$name", REQUIRED_ATTRS = "", PERSISTENT_ONLY = "NO",
    MARKETPLACE_ACTIONS = "export"
]

LINES
    say "Then restart oned (systemctl restart opennebula) and create datastores with DS_MAD=$name."
}

install_drivers() {
    build_drivers
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    open_work
    keep_stock
    write_conf
    if [ "$dry" = yes ]; then
        say "would test the new drivers with a monitor and a stat call"
        say "would put the ten drivers into $dir: ${actions[*]}"
    else
        copy_aside
        self_test "$work/new" # a driver that can't work here never reaches oned
        put_in_place
        self_test "$dir"
        say "tested  monitor and stat reply as they should"
        say "put     ${#actions[@]} drivers into $dir"
    fi
    finished=yes
    if [ "$name" != fs ]; then oned_lines; fi
    if [ "$dry" = no ]; then say "done"; else say "nothing was changed"; fi
}

# ---------------------------------------------------------------- uninstall

put_back() { # put_back ACTION
    local stock
    stock=$(stock_of "$1")
    if [ -n "$stock" ]; then
        cp -a "$stock" "$work/new/$1"
        mv -fT "$work/new/$1" "$dir/$1"
        restored=$((restored + 1))
    else
        rm -f "$dir/$1"
    fi
}

# A copy goes when every script of it stands in its place again.
forget_stock() {
    local copy file
    while IFS= read -r copy; do
        for file in "$copy"/*; do same_file "$file" "$dir/${file##*/}" || continue 2; done
        rm -rf "$copy"
    done < <(stock_copies)
}

uninstall_drivers() {
    local action removed=0 restored=0
    trap finish EXIT
    [ -d "$dir" ] || { say "nothing to do: $dir does not exist"; finished=yes; return; }
    open_work
    for action in "${actions[@]}"; do
        is_ours "$dir/$action" || continue # what OpenNebula put there since is left alone
        step "take out $dir/$action" put_back "$action"
        removed=$((removed + 1))
    done
    finished=yes
    if [ "$removed" = 0 ]; then say "nothing to do: no ferrostore drivers in $dir"; return; fi
    step "put the stock scripts back and remove the copies that are no longer needed" forget_stock
    if [ "$name" != fs ]; then
        if [ "$(cat "$conf" 2>/dev/null)" = KIND=fs ]; then step "remove $conf" rm -f "$conf"; fi
        if [ "$dry" = no ]; then rmdir "$conf_dir" "$dir" 2>/dev/null || true; fi
    fi
    if [ "$dry" = yes ]; then say "nothing was changed"; return; fi
    say "took    $removed drivers out of $dir"
    if [ "$restored" -gt 0 ]; then
        say "put     back the stock scripts: $restored"
    elif [ "$name" = fs ]; then
        say "warning: there were no stock scripts to put back; reinstall OpenNebula's package to get them"
    fi
    [ "$name" = fs ] || say "Take $name out of DATASTORE_MAD and DS_MAD_CONF in $oned_conf and restart oned."
    say "done"
}

case $mode in
    install) install_drivers ;;
    uninstall) uninstall_drivers ;;
    demo)
        build_drivers
        [ "$dry" = no ] || { say "would run tests/demo with the drivers in $built"; exit 0; }
        exec "$here/tests/demo" "$built" ;;
esac
