# Sourced by the other scripts: root, Debian packages, the virtual environment. Each function does nothing where all is there.

tree=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
cd "$tree"
export PATH=$PATH:/usr/sbin:/sbin

running_packages="bird2 dnsmasq-base etcd-server iproute2 nftables openssh-client python3-venv qemu-system-x86 qemu-utils util-linux"
testing_packages="$running_packages etcd-client genisoimage iputils-ping isc-dhcp-client ndisc6 openssl procps thc-ipv6"
bench_packages="$running_packages iperf3"

die() {
    echo "$0: $*" >&2
    exit 1
}

need_root() { # need_root "$@": start this script again through sudo if it is not root
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || die "run it as root; there is no sudo here"
    exec sudo -- "$tree/script/$(basename "$0")" "$@"
}

need_packages() { # need_packages PACKAGE…
    local package missing=()
    for package; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    echo "installing ${missing[*]}" >&2
    apt-get update -qq || die "apt-get update failed"
    without_starting_services apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null </dev/null ||
        die "apt-get install ${missing[*]} failed"
    case " ${missing[*]} " in *" bird2 "*) unused_service bird ;; esac
    case " ${missing[*]} " in *" etcd-server "*) unused_service etcd ;; esac
}

unused_service() { # unused_service SERVICE: of a package that was just installed; ucloud runs its own
    systemctl disable -q "$1" 2>/dev/null || true
}

without_starting_services() ( # without_starting_services COMMAND…: Debian's packages would start an etcd of their own
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    DEBIAN_FRONTEND=noninteractive "$@"
)

need_venv() { # need_venv [dev]: .venv with this tree installed, and with what tests and linters need
    local extra=${1:-} wanted stamp
    wanted=$(cat pyproject.toml script/constraints.txt | sha256sum)$tree
    for stamp in .venv/installed .venv/installed-dev; do
        [ -z "$extra" ] || [ $stamp = .venv/installed-dev ] || continue
        [ "$(cat $stamp 2>/dev/null)" = "$wanted" ] && [ -x .venv/bin/ucloud ] && return
    done
    echo "installing ucloud and what it needs in .venv" >&2
    [ -x .venv/bin/python ] || as_caller "$(system_python)" -m venv .venv
    local said
    said=$(as_caller .venv/bin/python -m pip install --disable-pip-version-check --no-input \
        -c script/constraints.txt -e ".${extra:+[$extra]}" 2>&1 </dev/null) || die "pip install failed: $said"
    echo "$wanted" | as_caller tee ".venv/installed${extra:+-$extra}" >/dev/null
}

system_python() {
    [ -x /usr/bin/python3 ] && echo /usr/bin/python3 || command -v python3 || die "there is no python3"
}

as_caller() { # as_caller COMMAND…: as whoever called sudo, so that what is made here is theirs
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
        runuser -u "$SUDO_USER" -- env "HOME=$(getent passwd "$SUDO_USER" | cut -d: -f6)" "$@"
    else
        "$@"
    fi
}
