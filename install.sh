#!/usr/bin/env bash
# Builds the ferrostore drivers from this checkout and has `ferrostore enable` put them where oned looks for them.
# `./install.sh --help` and docs/install.md describe it.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
built_files=(cp mkfs clone rm stat snap_revert snap_flatten snap_delete monitor export fsck ferrostore)

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
  --prefix DIR  install below DIR instead of /, for packaging: missing directories
                are created
  --no-build    install the drivers that target/release holds; don't call cargo
  --dry-run     say what would be done and change nothing
  --uninstall   take the drivers out again and put the stock scripts back
  --demo        build, then show every driver at work in a throw-away datastore;
                installs nothing
  --help        this text

The lines that oned.conf and sudo still need are printed. The scripts that the
drivers replace are kept beside them, as in $REMOTES/datastore/fs.stock. That
copy is never written to again. Other files of the directory stay untouched.
Drivers from here are not put in place again by an upgrade of OpenNebula, as those of
the package are: run this again.
USAGE
}

say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

kinds=() options=() one_name='' build=yes dry=no mode=enable
set_option() { # set_option --OPTION VALUE
    [ -n "$2" ] || die "$1 needs a value; see ./install.sh --help"
    case $1 in
        --kind) kinds+=("$2") ;;
        --name) one_name=$2 options+=("--name=$2") ;;
        --prefix) options+=("--root=$2") ;;
    esac
}
while [ $# -gt 0 ]; do
    case $1 in
        --kind|--name|--prefix) set_option "$1" "${2-}"; shift ;;
        --kind=*|--name=*|--prefix=*) set_option "${1%%=*}" "${1#*=}" ;;
        --no-build) build=no ;;
        --dry-run) dry=yes options+=(--dry-run) ;;
        --uninstall) mode=disable ;;
        --demo) mode=demo ;;
        --help|-h) usage; exit 0 ;;
        *) die "unknown argument '$1'; see ./install.sh --help" ;;
    esac
    shift
done
[ ${#kinds[@]} -gt 0 ] || [ -n "$one_name" ] || kinds=(fs)

built=${CARGO_TARGET_DIR:-$here/target}/release
case $built in /*) ;; *) built=$PWD/$built ;; esac

build_drivers() {
    local file
    if [ "$build" = yes ]; then
        command -v cargo >/dev/null ||
            die "no cargo in PATH. Install Rust (https://rustup.rs) and run this again; or build as another user with 'cargo build --release -p drivers' and run this with --no-build"
        command -v cc >/dev/null ||
            die "no C compiler (cc), which the compression libraries need: apt-get install build-essential"
        if [ "$dry" = yes ]; then
            say "would build: cargo build --release --locked -p drivers"
        else
            cargo build --release --locked --manifest-path "$here/Cargo.toml" -p drivers ||
                die "cargo could not build the drivers; its reason is above. Nothing was installed"
        fi
    fi
    for file in "${built_files[@]}"; do
        [ -x "$built/$file" ] || [ "$build$dry" = yesyes ] ||
            die "$built/$file is missing: build with 'cargo build --release -p drivers'"
    done
}

# The command that does the work: the one that was built, or else one that is installed.
ferrostore() {
    local program
    for program in "$built/ferrostore" "$(command -v ferrostore || :)"; do
        if [ -x "$program" ]; then
            "$program" "$@" --drivers="$built" -- "${kinds[@]}"
            return
        fi
    done
    die "$built/ferrostore is missing: build with 'cargo build --release -p drivers'"
}

case $mode in
    demo)
        build_drivers
        [ "$dry" = no ] || { say "would run tests/demo with the drivers in $built"; exit 0; }
        exec "$here/tests/demo" "$built" ;;
    enable)
        build_drivers
        if [ "$build$dry" = yesyes ] && [ ! -x "$built/ferrostore" ]; then
            say "would put the ten drivers in place"
        else
            ferrostore enable "${options[@]}"
        fi ;;
    disable) ferrostore disable "${options[@]}" ;;
esac
if [ "$dry" = no ]; then say "done"; else say "nothing was changed"; fi
