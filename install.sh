#!/usr/bin/env bash
# Builds the ten ferrostore drivers and puts them where oned looks for them.
# `./install.sh --help` and docs/install.md describe it.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
actions=(cp mkfs clone rm stat snap_revert snap_flatten snap_delete monitor export)

# The kinds of datastores that the drivers serve (the list `kinds!` of common/ferrostore/src/kinds/mod.rs).
known=(fs lvm ceph dev iscsi_libvirt virtiofs dummy)

usage() {
    cat <<'USAGE'
Usage: ./install.sh [--kind KIND]... [--name NAME] [--prefix DIR] [--no-build] [--dry-run]
       ./install.sh --uninstall [--kind KIND]... [--name NAME] [--prefix DIR] [--dry-run]
       ./install.sh --demo | --help

Builds the ten drivers with cargo and puts them into $REMOTES/datastore/fs,
where oned finds them at its next call: no restart is needed. $REMOTES is
/var/lib/one/remotes, or $ONE_LOCATION/var/remotes where ONE_LOCATION is set.
What is run by hand is put beside them: fsck, which checks such a datastore,
and ferrostore, which shows what the drivers did and brings deleted images back.

  --kind KIND   install another kind of datastore than fs, in the place of the
                stock drivers of that name: fs, lvm, ceph, dev,
                iscsi_libvirt, virtiofs or dummy. Several at once: repeat it, or put commas
  --name NAME   make a DS_MAD of its own instead of replacing the stock one:
                drivers in $REMOTES/datastore/NAME, their kind (that of --kind,
                or fs) in $REMOTES/etc/datastore/NAME/NAME.conf. The name of a
                kind means that kind
  --prefix DIR  install below DIR instead of /, for packaging: missing folders
                are created
  --no-build    install the drivers that target/release holds; don't call cargo
  --dry-run     say what would be done and change nothing
  --uninstall   take the drivers out again and put the stock scripts back
  --demo        build, then show every driver at work in a throw-away datastore;
                installs nothing
  --help        this text

The lines that oned.conf and sudo still need are printed. The scripts that the
drivers replace are kept beside them, as in $REMOTES/datastore/fs.stock. That
copy is never written to again. Other files of the folder stay untouched.
USAGE
}

say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

# ---------------------------------------------------------------- arguments

kinds=() one_name='' prefix='' build=yes dry=no mode=install
set_option() { # set_option --OPTION VALUE
    local list
    [ -n "$2" ] || die "$1 needs a value; see ./install.sh --help"
    case $1 in
        --kind) IFS=, read -r -a list <<<"$2"; kinds+=("${list[@]}") ;;
        --name) one_name=$2 ;;
        --prefix) prefix=$2 ;;
    esac
}
while [ $# -gt 0 ]; do
    case $1 in
        --kind|--name|--prefix) set_option "$1" "${2-}"; shift ;;
        --kind=*|--name=*|--prefix=*) set_option "${1%%=*}" "${1#*=}" ;;
        --no-build) build=no ;;
        --dry-run) dry=yes ;;
        --uninstall) mode=uninstall ;;
        --demo) mode=demo ;;
        --help|-h) usage; exit 0 ;;
        *) die "unknown argument '$1'; see ./install.sh --help" ;;
    esac
    shift
done

is_kind() { case " ${known[*]} " in *" $1 "*) ;; *) return 1 ;; esac; }

for kind in "${kinds[@]}"; do
    is_kind "$kind" || die "'$kind' is no kind of datastore: it must be one of ${known[*]}"
done
if [ -n "$one_name" ]; then
    [[ $one_name =~ ^[A-Za-z0-9][A-Za-z0-9_-]*$ ]] ||
        die "'$one_name' can't be the name of a DS_MAD: use letters, digits, '-' and '_'"
    [ ${#kinds[@]} -le 1 ] || die "--name is for one kind, and --kind gives ${#kinds[@]}: ${kinds[*]}"
    if [ ${#kinds[@]} = 0 ] && is_kind "$one_name"; then kinds=("$one_name"); fi
fi
[ ${#kinds[@]} -gt 0 ] || kinds=(fs)
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

# What is worked on: the drivers of one DS_MAD, and for fs what is run by hand beside them.
name='' kind='' dir='' conf_dir='' conf='' files=()
work_on() { # work_on KIND
    kind=$1
    files=("${actions[@]}")
    if [ "$kind" = fs ]; then files+=(fsck ferrostore); fi
    name=${one_name:-$kind}
    dir=$datastores/$name
    conf_dir=$remotes/etc/datastore/$name
    conf=$conf_dir/$name.conf
}

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
    for action in "${actions[@]}" fsck ferrostore; do
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
self_test() { # self_test FOLDER: one call that writes nothing, one that looks at something
    scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/ferrostore-selftest.XXXXXX")
    mkdir "$scratch/datastore" "$scratch/one"
    truncate -s 3M "$scratch/image"
    own "$scratch" "$scratch/datastore" "$scratch/image"
    # What is tried is no call of oned, and not recorded.
    self_env=("CALL_LOG=no")
    if [ -n "$prefix" ]; then # the drivers look for their configuration below ONE_LOCATION/var
        ln -s "$prefix$var" "$scratch/one/var"
        self_env+=("ONE_LOCATION=$scratch/one")
    fi
    case $kind in
        fs)
            replies "$1" monitor '' '^USED_MB=[0-9]+ TOTAL_MB=[0-9]+ FREE_MB=[0-9]+$'
            replies "$1" stat "$scratch/image" '^3$' ;;
        lvm)
            # Its volume group is there only once the datastore is: monitor has nothing to tell yet.
            replies "$1" stat "$scratch/image" '^3$' ;;
        ceph)
            # Its cluster is named by the datastore: what is tried needs none.
            replies "$1" stat "$scratch/image" '^3$'
            refuses "$1" export "$scratch/image" IMAGE/SOURCE ;;
        dev)
            replies "$1" monitor '' '^USED_MB=0 TOTAL_MB=1 FREE_MB=1$'
            refuses "$1" stat "$scratch/image" 'block device' ;;
        iscsi_libvirt)
            replies "$1" monitor '' '^USED_MB=0 TOTAL_MB=1 FREE_MB=1$'
            replies "$1" stat 'iqn.2001-04.com.example:disk/1' '^0$' ;;
        virtiofs)
            replies "$1" monitor '' '^USED_MB=0 TOTAL_MB=0 FREE_MB=0$'
            replies "$1" stat "$scratch/datastore" '^[0-9]+$' ;;
        dummy)
            replies "$1" monitor '' '^USED_MB=[0-9]+ TOTAL_MB=[0-9]+ FREE_MB=[0-9]+$'
            replies "$1" stat nothing '^1024$' ;;
    esac
    rm -rf "$scratch"
    scratch=''
}

image_at() { # image_at PATH: what stat gets; nothing for nothing
    [ -z "$1" ] || printf '<IMAGE><PATH><![CDATA[%s]]></PATH><SIZE></SIZE></IMAGE>' "$1"
}

replies() { # replies FOLDER ACTION PATH PATTERN
    local reply
    reply=$(call "$1/$2" 100 "$(image_at "$3")") || self_test_failed "$2"
    [[ ${reply//$'\n'/ } =~ $4 ]] || self_test_failed "$2" "$reply"
}

refuses() { # refuses FOLDER ACTION PATH WORDS
    local reply
    if reply=$(call "$1/$2" 100 "$(image_at "$3")"); then self_test_failed "$2" "$reply"; fi
    grep -qF -- "$4" "$scratch/stderr" || self_test_failed "$2"
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

copy_beside() {
    local action
    for action in "${files[@]}"; do cp "$built/$action" "$work/new/"; done
    chmod 0755 "$work/new"/*
    own "$work/new"/*
    sync "$work/new"/*
}

keep_stock() { # the scripts that are about to be replaced, once
    local action stock foreign=() changed=no next
    for action in "${files[@]}"; do
        if [ -d "$dir/$action" ] && [ ! -L "$dir/$action" ]; then
            die "$dir/$action is a folder, not a driver: move it away"
        fi
        if there "$dir/$action" && ! is_ours "$dir/$action"; then foreign+=("$action"); fi
    done
    [ ${#foreign[@]} -gt 0 ] || return 0
    if [ "$name" != "$kind" ]; then
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
    if [ -e "$conf" ] && grep -Eq '^[[:space:]]*KIND[[:space:]]*=' "$conf"; then
        grep -Eq '^[[:space:]]*KIND[[:space:]]*=[[:space:]]*["'\'']?'"$kind"'["'\'']?[[:space:]]*$' "$conf" ||
            die "$conf sets another KIND than $kind: choose another --name or change it"
        return 0
    fi
    [ "$name" != "$kind" ] || return 0
    [ ! -e "$conf" ] || die "$conf exists without a KIND: add the line KIND=$kind to it and run this again"
    step "write $conf: KIND=$kind" create_conf
}

create_conf() {
    make_dir "$conf_dir"
    printf 'KIND=%s\n' "$kind" >"$work/conf"
    chmod 0644 "$work/conf"
    own "$work/conf"
    new_conf=$conf
    mv -T "$work/conf" "$conf"
    say "wrote   $conf"
}

put_in_place() {
    local action
    make_dir "$dir"
    for action in "${files[@]}"; do
        if there "$dir/$action"; then cp -a "$dir/$action" "$work/old/$action"; fi
        put+=("$action")
        mv -fT "$work/new/$action" "$dir/$action"
    done
    sync "$dir"
}

install_drivers() {
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    open_work
    keep_stock
    write_conf
    if [ "$dry" = yes ]; then
        say "would try the new drivers on a call or two"
        say "would put the ten drivers into $dir: ${files[*]}"
    else
        copy_beside
        self_test "$work/new" # a driver that can't work here never reaches oned
        put_in_place
        self_test "$dir"
        say "tested  the drivers reply as they should"
        say "put     ${files[*]} into $dir"
    fi
    finished=yes
}

# ---------------------------------------------------------------- what else is needed

# The ARGUMENTS of DATASTORE_MAD in oned.conf.
mad_arguments() {
    awk '/^[[:space:]]*#/ { next }
        /^[[:space:]]*DATASTORE_MAD/ { inside = 1 }
        inside && match(toupper($0), /ARGUMENTS[[:space:]]*=[[:space:]]*"[^"]*"/) {
            text = substr($0, RSTART, RLENGTH); sub(/^[^"]*"/, "", text); sub(/"$/, "", text)
            print text; exit
        }
        inside && /\]/ { inside = 0 }' "$oned_conf"
}

# Names that oned.conf has a DS_MAD_CONF for.
configured_mads() {
    awk '/^[[:space:]]*#/ { next }
        /^[[:space:]]*DS_MAD_CONF/ { inside = 1 }
        inside && match(toupper($0), /[^A-Z_]NAME[[:space:]]*=[[:space:]]*"[^"]*"/) {
            text = substr($0, RSTART, RLENGTH); sub(/^[^"]*"/, "", text); sub(/"$/, "", text)
            print text
        }
        inside && /\]/ { inside = 0 }' "$oned_conf"
}

# What oned must know of a driver of this kind, beside its name.
mad_attributes() { # mad_attributes KIND
    case $1 in
        fs) printf 'REQUIRED_ATTRS = "", PERSISTENT_ONLY = "NO",\n    MARKETPLACE_ACTIONS = "export"' ;;
        ceph) printf 'REQUIRED_ATTRS = "DISK_TYPE", PERSISTENT_ONLY = "NO",\n    MARKETPLACE_ACTIONS = "export"' ;;
        lvm|dummy) printf 'REQUIRED_ATTRS = "", PERSISTENT_ONLY = "NO"' ;;
        dev) printf 'REQUIRED_ATTRS = "DISK_TYPE", PERSISTENT_ONLY = "YES"' ;;
        iscsi_libvirt) printf 'REQUIRED_ATTRS = "DISK_TYPE,ISCSI_HOST", PERSISTENT_ONLY = "YES"' ;;
        virtiofs) printf 'REQUIRED_ATTRS = "", PERSISTENT_ONLY = "NO",\n    DATASTORE_CAPACITY_CHECK = "NO"' ;;
    esac
}

# The lines that oned.conf lacks, made from the ones it has.
oned_lines() {
    local arguments='' configured='' default='' list new='' blocks='' names=()
    if [ -r "$oned_conf" ]; then arguments=$(mad_arguments) configured=$(configured_mads); fi
    if [ -z "$arguments" ]; then
        arguments='-t 15 -d dummy,fs,lvm,ceph,dev,iscsi_libvirt -s shared,local,ceph,fs_lvm'
        default=' (it has none that could be read: compare with OpenNebula'\''s default)'
    fi
    list=$(sed -n 's/^.*-d[[:space:]]*\([^[:space:]]*\).*$/\1/p' <<<"$arguments")
    for kind in "${kinds[@]}"; do
        work_on "$kind"
        [ "$name" != fs ] || continue # every oned.conf has it
        case ",$list$new," in *",$name,"*) ;; *) new+=",$name" ;; esac
        if ! grep -qxF -- "$name" <<<"$configured"; then
            blocks+=$(printf '\nDS_MAD_CONF = [\n    NAME = "%s", %s\n]' "$name" "$(mad_attributes "$kind")")$'\n'
        fi
        names+=("$name")
    done
    [ ${#names[@]} -gt 0 ] || return 0
    say ''
    if [ -z "$new$blocks" ] && [ -z "$default" ]; then
        say "oned.conf ($oned_conf) has all that it needs for DS_MAD ${names[*]}."
        return
    fi
    say "oned.conf ($oned_conf) needs these lines:"
    if [ -n "$new$default" ]; then
        say ''
        say "# in the place of its DATASTORE_MAD$default"
        printf 'DATASTORE_MAD = [\n    EXECUTABLE = "one_datastore",\n    ARGUMENTS  = "%s"\n]\n' \
            "${arguments/"$list"/"$list$new"}"
    fi
    printf '%s\n' "$blocks"
    say "Then restart oned (systemctl restart opennebula) and create datastores with DS_MAD ${names[*]}."
}

# The programs that a kind runs as root, through sudo.
root_programs() { # root_programs KIND
    case $1 in lvm) printf '%s\n' lvcreate lvremove lvchange lvextend lvs vgdisplay lvrename dmsetup ;; esac
}

# The line that sudo lacks for oneadmin, as far as can be seen.
sudo_lines() {
    local program path missing=()
    for kind in "${kinds[@]}"; do
        for program in $(root_programs "$kind"); do
            path=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v "$program") || path=/usr/sbin/$program
            if [ "$(id -u)" != 0 ] || ! sudo -n -l -U oneadmin "$path" >/dev/null 2>&1; then
                missing+=("$path")
            fi
        done
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say ''
    say "sudo must let oneadmin run these as root, unless it does already (/etc/sudoers.d/ferrostore):"
    say ''
    (IFS=,; say "oneadmin ALL=(root) NOPASSWD: ${missing[*]}" | sed 's/,/, /g')
}

# What a Ceph cluster and the machines that reach it need.
ceph_lines() {
    case " ${kinds[*]} " in *" ceph "*) ;; *) return 0 ;; esac
    say ''
    say "Ceph needs a user with these capabilities (for each pool: profile rbd pool=POOL); sudo needs nothing:"
    say ''
    say "ceph auth get-or-create client.one mon 'profile rbd' osd 'profile rbd pool=one'"
    command -v rbd >/dev/null ||
        say "rbd and ceph are missing on this machine; they are needed where no BRIDGE_LIST names other hosts: apt-get install ceph-common"
    [ "${one_name:-ceph}" = ceph ] || return 0
    local file
    for file in "$datastores/ceph/ceph_utils.sh" "$remotes/etc/datastore/ceph/ceph.conf"; do
        [ -e "$file" ] || say "$file is missing, which OpenNebula's transfer drivers read: reinstall OpenNebula's package"
    done
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
    for action in "${files[@]}"; do
        is_ours "$dir/$action" || continue # what OpenNebula put there since is left alone
        step "take out $dir/$action" put_back "$action"
        removed=$((removed + 1))
    done
    finished=yes
    if [ "$removed" = 0 ]; then say "nothing to do: no ferrostore drivers in $dir"; return; fi
    step "put the stock scripts back and remove the copies that are no longer needed" forget_stock
    if [ "$name" != "$kind" ]; then
        case $(cat "$conf" 2>/dev/null) in KIND=*[!a-z_]*) ;; KIND=*) step "remove $conf" rm -f "$conf" ;; esac
        if [ "$dry" = no ]; then rmdir "$conf_dir" 2>/dev/null || true; fi
    fi
    if [ "$dry" = yes ]; then return; fi
    rmdir "$dir" 2>/dev/null || true
    say "took    $removed files out of $dir"
    if [ "$restored" -gt 0 ]; then
        say "put     back the stock scripts: $restored"
    elif [ "$name" = "$kind" ]; then
        say "warning: there were no stock scripts to put back; reinstall OpenNebula's package to get them"
    fi
    [ "$name" = "$kind" ] || say "Take $name out of DATASTORE_MAD and DS_MAD_CONF in $oned_conf and restart oned."
}

# What was deleted and is kept yet: nothing else will know of it.
trash_notes() {
    local trash count
    for trash in "$prefix$var"/datastores/*/.ferrostore-trash; do
        [ -d "$trash" ] || continue
        count=$(find "$trash" -mindepth 1 -maxdepth 1 -type d | wc -l)
        say "note: $trash keeps deleted images: $count. The stock scripts will never remove them:"
        say "      restore or delete them with \`ferrostore trash\` (it is in $built, too), or remove that directory"
    done
}

# Each kind on its own: what one of them can't have doesn't take away what another has.
for_each_kind() { # for_each_kind COMMAND
    for kind in "${kinds[@]}"; do
        (work_on "$kind"; "$1")
    done
}

finished() { if [ "$dry" = no ]; then say "done"; else say "nothing was changed"; fi; }

case $mode in
    install)
        build_drivers
        for_each_kind install_drivers
        oned_lines
        sudo_lines
        ceph_lines
        finished ;;
    uninstall)
        for_each_kind uninstall_drivers
        trash_notes
        finished ;;
    demo)
        build_drivers
        [ "$dry" = no ] || { say "would run tests/demo with the drivers in $built"; exit 0; }
        exec "$here/tests/demo" "$built" ;;
esac
