IFS= read -r remotes && IFS= read -r staging && IFS= read -r name && IFS= read -r sum && IFS= read -r size || exit 3
machine=$(uname -m)
say() { echo "ferrostore-bridge $machine $1"; }
genuine() { [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$sum  -" ]; }
if cd -P "$remotes" 2>/dev/null && [ -O . ] && [ -x "./$name" ] && genuine "./$name"; then
    say ready
    exec "./$name" --bridged
fi
copies=$staging/ferrostore-$(id -u)
mkdir -m 700 "$copies" 2>/dev/null
cd -P "$copies" 2>/dev/null || { say unwritable; exit 3; }
if [ -O . ] && [ "$(stat -c %a .)" = 700 ]; then :; else say unsafe; exit 3; fi
for new in new.*; do kill -0 "${new#new.}" 2>/dev/null || rm -f "./$new"; done
if genuine "./$name-$sum"; then :; else
    say send
    (umask 077 && head -c "$size" >"new.$$" && chmod 700 "new.$$")
    genuine "./new.$$" || { rm -f "new.$$"; say broken; exit 3; }
    mv -f "new.$$" "$name-$sum"
    find . -name "$name-*" -atime +30 -exec rm -f {} +
fi
[ -x "./$name-$sum" ] || { say noexec; exit 3; }
say ready
exec "./$name-$sum" --bridged
