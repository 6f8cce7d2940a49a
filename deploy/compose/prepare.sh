#!/bin/sh
# prepare.sh FOLDER...: gives the folder of each node the configuration and the key that all nodes of a shop have.
# What is there stays, so that it may run before each start.
set -eu
umask 077
key=
for folder in "$@"; do
    if [ -f "$folder/data/key" ]; then key=$folder/data/key; fi
done
if [ -z "$key" ]; then
    key=$(mktemp)
    head -c 32 /dev/urandom > "$key"
fi
for folder in "$@"; do
    mkdir -p "$folder/data"
    [ -f "$folder/midstream.toml" ] || cp /nodes.toml "$folder/midstream.toml"
    [ -f "$folder/data/key" ] || cp "$key" "$folder/data/key"
    chown -R 10001:10001 "$folder"
done
