#!/bin/sh
# Makes gridnode_VERSION_ARCH.deb from a wheel: a virtual environment in /opt/gridnode, the units, the configuration.
#
#   python3 -m pip wheel --no-deps --wheel-dir dist .
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
#       packaging/debian/build.sh dist/gridnode-0.1.0-py3-none-any.whl dist [OPTIONS OF PIP INSTALL]
#
# Build it on the release of Debian or Ubuntu that it is for: the environment uses that release's Python.
# It takes python3-venv and python3-pip. PYTHON chooses another interpreter; it must be at the same path where the
# package is installed.
set -eu
wheel=$1 output=$2
shift 2
python=${PYTHON:-/usr/bin/python3}
here=$(dirname "$(readlink -f "$0")")

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
venv=$stage/opt/gridnode
"$python" -m venv --without-pip "$venv"
# What PYTHONPATH leads to is not installed in the environment, whatever pip would take it for.
env -u PYTHONPATH "$python" -m pip --python "$venv/bin/python" --disable-pip-version-check \
    install --quiet --no-compile "$@" "$wheel"
version=$("$venv/bin/gridnode" version | cut -d ' ' -f 2)
series=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
next_series=$("$venv/bin/python" -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')

# The environment thinks that it was made where it will be: in its scripts, and in what tracebacks say.
find "$venv/bin" -type f -exec sed -i "1s|^#!$stage|#!|; s|$stage||g" {} +
sed -i '/^command = /d' "$venv/pyvenv.cfg"
find "$venv" -name __pycache__ -prune -exec rm -rf {} +
package=$venv/lib/python$series/site-packages/gridnode
install -d "$stage/etc/gridnode" "$stage/usr/bin" "$stage/usr/lib/systemd/user" \
    "$stage/usr/share/doc/gridnode" "$stage/DEBIAN"
"$venv/bin/python" -B -c 'from gridnode.config.rendering import template; print(template(), end="")' \
    >"$stage/etc/gridnode/config.toml"
# Some libraries have files for other releases of Python, which do not compile and need not.
"$venv/bin/python" -m compileall -qq -s "$stage" "$venv/lib" || true

ln -s /opt/gridnode/bin/gridnode "$stage/usr/bin/gridnode"
for unit in "$package"/systemd/*.service; do
    case $unit in
    *-user.service) install -D -m 644 "$unit" "$stage/usr/lib/systemd/user/gridnode.service" ;;
    *) install -D -m 644 "$unit" "$stage/usr/lib/systemd/system/$(basename "$unit")" ;;
    esac
done
install -D -m 644 "$package/systemd/gridnode.sysusers" "$stage/usr/lib/sysusers.d/gridnode.conf"
install -D -m 644 "$package/systemd/gridnode.tmpfiles" "$stage/usr/lib/tmpfiles.d/gridnode.conf"
install -m 644 "$here/../../LICENSE" "$stage/usr/share/doc/gridnode/copyright"

echo /etc/gridnode/config.toml >"$stage/DEBIAN/conffiles"
install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<CONTROL
Package: gridnode
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: The gridnode contributors <gridnode@localhost>
Section: science
Priority: optional
Installed-Size: $(du -sk "$stage" | cut -f 1)
Depends: python3 (>= $series), python3 (<< $next_series)
Recommends: systemd
Description: Run large language models on the computers you already own, together
 Every computer runs one daemon that holds a part of the model, and any of them
 answers as if it held the whole.
CONTROL
mkdir -p "$output"
# xz takes more than five minutes for all the libraries, zstd half a minute; every Debian and Ubuntu with a Python that is new enough reads zstd.
dpkg-deb --root-owner-group -Zzstd -z9 --build "$stage" "$output"
