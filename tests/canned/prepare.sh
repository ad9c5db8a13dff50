#!/bin/sh
# Makes the files that the canned messages of this folder name: two images of a user, and a datastore
# with a plain image and one with snapshots.
#
#   tests/canned/prepare.sh                      below /var/tmp/ferrostore-demo, as in the messages
#   tests/canned/prepare.sh IMAGES DATASTORE     elsewhere
set -eu

images=${1:-/var/tmp/ferrostore-demo/images}
datastore=${2:-/var/tmp/ferrostore-demo/datastores/104}
plain=0123456789abcdef0123456789abcdef
chain=c0ffeec0ffeec0ffeec0ffeec0ffee00

mkdir -p "$images" "$datastore"

# A user's disk: 8 MiB, of which the first holds something.
yes 'a web server' | head -c 1048576 >"$images/disk.img"
truncate -s 8M "$images/disk.img"
gzip -1 -c "$images/disk.img" >"$images/disk.img.gz"
qemu-img convert -f raw -O qcow2 "$images/disk.img" "$images/disk.qcow2"

# An image without snapshots.
cp "$images/disk.qcow2" "$datastore/$plain"

# An image with snapshots 0, 1 and 2, reverted to 1 after 2 was taken. Snapshot n is the frozen
# content of file n; file 3 is the live disk. Nothing depends on snapshot 2, so it can be deleted.
cp "$images/disk.qcow2" "$datastore/$chain"
rm -rf "$datastore/$chain.snap"
mkdir "$datastore/$chain.snap"
cd "$datastore/$chain.snap"
ln -s . "$chain.snap"
ln -s "../$chain" 0
qemu-img create -q -f qcow2 -F qcow2 -b "$chain.snap/0" 1
qemu-img create -q -f qcow2 -F qcow2 -b "$chain.snap/1" 2
qemu-img create -q -f qcow2 -F qcow2 -b "$chain.snap/1" 3
