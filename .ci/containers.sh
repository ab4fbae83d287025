#!/bin/bash
# A Docker daemon with Compose, and the images of the container tests, made from Debian's packages and PyPI where no image registry answers.
#
#   .ci/containers.sh start   the daemon answers, the images are there (about 100 s from nothing, 1 s when all is there)
#   .ci/containers.sh stop    ends the daemon if `start` started it
#
# Needs root, apt, and uv on the PATH; not systemd.
set -euo pipefail
cd "$(dirname "$0")"
STATE=${TMPDIR:-/tmp}/dagfusion-ci
BASE=dagfusion-ci/base:trixie POSTGRES=dagfusion-ci/postgres:17 LOCALSTACK=dagfusion-ci/localstack:4.14.0 PYTHON=dagfusion-ci/python:3.13
PLUGINS=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
SERVICES=s3,iam,sts,secretsmanager,cloudwatch,cloudformation
export DEBIAN_FRONTEND=noninteractive DOCKER_BUILDKIT=0

say() { echo "[containers ${SECONDS}s] $*" >&2; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }
recipe() { cat "images/$1"/* | sha256sum | cut -c 1-16; }
is_built() { [ "$(docker image inspect --format '{{index .Config.Labels "recipe"}}' "$1" 2>/dev/null)" = "$(recipe "$2")" ]; }
answers() { docker info >/dev/null 2>&1; }

# Runs a command in silence; when it fails, shows what it printed.
quietly() {
  local log; log=$(mktemp "$STATE/log.XXXXXX")
  "$@" >"$log" 2>&1 || { local code=$?; cat "$log" >&2; say "failed ($code): $*"; return "$code"; }
  rm -f "$log"
}

install_packages() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v docker >/dev/null || missing+=(docker.io)
  if ! has_image "$BASE"; then
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    [ -e /usr/share/keyrings/debian-archive-trixie-stable.gpg ] || missing+=(debian-archive-keyring)
  fi
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  quietly apt-get update
  quietly apt-get install --yes --no-install-recommends "${missing[@]}"
}

start_daemon() {
  answers && return
  exec 9>"$STATE/lock"; flock 9   # two starts at once make one daemon
  answers && { exec 9>&-; return; }
  setsid nohup dockerd --storage-driver=overlay2 >"$STATE/dockerd.log" 2>&1 </dev/null 9>&- &
  local pid=$!
  echo "$pid" >"$STATE/dockerd.pid"
  for _ in $(seq 240); do
    answers && { exec 9>&-; return; }
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.25
  done
  tail -20 "$STATE/dockerd.log" >&2
  say "the Docker daemon did not start; its last lines are above"
  return 1
}

stop_daemon() {
  local file=$STATE/dockerd.pid pid
  [ -e "$file" ] || return 0
  pid=$(<"$file"); rm "$file"
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || return 0   # it ended, and its number may be another's
  kill "$pid"
  for _ in $(seq 120); do [ -d "/proc/$pid" ] || return 0; sleep 0.25; done
  say "the Docker daemon (process $pid) did not end within 30 s"
  return 1
}

# The mirror that this machine installs Debian's packages from.
debian_mirror() {
  local sites; sites=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian')
  [ -n "$sites" ] || { quietly apt-get update; sites=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian'); }
  [ -n "$sites" ] || { say "no Debian mirror among apt's sources"; return 1; }
  head -n 1 <<<"$sites"
}

build_base() {
  has_image "$BASE" && return
  local mirror root; mirror=$(debian_mirror); root=$(mktemp -d "$STATE/base.XXXXXX")
  quietly debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$mirror"
  printf 'path-exclude=/usr/share/%s/*\n' doc man locale info >"$root/etc/dpkg/dpkg.cfg.d/slim"
  printf '%s "";\n' Dir::Cache::pkgcache Dir::Cache::srcpkgcache >"$root/etc/apt/apt.conf.d/slim"
  echo 'APT::Install-Recommends "0";' >>"$root/etc/apt/apt.conf.d/slim"
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}/*
  tar -C "$root" -c . | docker import -c 'ENV LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive' - "$BASE" >/dev/null
  rm -rf "$root"
  say "image $BASE"
}

build_postgres() {
  is_built "$POSTGRES" postgres && return
  quietly docker build --label "recipe=$(recipe postgres)" --build-arg "BASE=$BASE" --tag "$POSTGRES" images/postgres
  say "image $POSTGRES"
}

# docker-compose.yml's images are made from this one. It trusts the certificates that this machine trusts.
build_python() {
  is_built "$PYTHON" python && return
  mkdir -p "$STATE/python"
  cp images/python/* /etc/ssl/certs/ca-certificates.crt "$STATE/python/"
  quietly docker build --label "recipe=$(recipe python)" --build-arg "BASE=$BASE" --tag "$PYTHON" "$STATE/python"
  rm -rf "$STATE/python"
  say "image $PYTHON"
}

# Compose 2 is in trixie only: its program is taken out of the package.
install_compose() {
  docker compose version >/dev/null 2>&1 && return
  mkdir -p "$PLUGINS"
  quietly docker run --rm --volume "$PLUGINS:/plugins" "$BASE" sh -euc 'cd /tmp; apt-get update -qq; apt-get download -qq docker-compose
    dpkg-deb -x docker-compose_*.deb unpacked; cp unpacked/usr/libexec/docker/cli-plugins/docker-compose /plugins/'
  say "$(docker compose version)"
}

# LocalStack's packages are installed by the machine's uv, with its certificates and caches, for the base image's Python.
install_localstack() {
  has_image "$LOCALSTACK" && return
  quietly uv pip install --no-config --python-version 3.13 --exclude-newer 2026-03-01 --target "$STATE/localstack/site" \
    'localstack-core[runtime]==4.14.0'
}

build_localstack() {
  has_image "$LOCALSTACK" && return
  cp images/localstack/* "$STATE/localstack/"
  quietly docker build --build-arg "BASE=$BASE" --build-arg "SERVICES=$SERVICES" --tag "$LOCALSTACK" "$STATE/localstack"
  rm -rf "$STATE/localstack"
  say "image $LOCALSTACK"
}

start() {
  mkdir -p "$STATE"
  install_packages
  start_daemon
  install_localstack & local localstack=$!
  build_base
  build_postgres & local postgres=$!
  { build_python; install_compose; } & local python=$!
  wait "$localstack"
  build_localstack
  wait "$postgres"
  wait "$python"
  say "Docker $(docker version --format '{{.Server.Version}}') with $POSTGRES, $LOCALSTACK and $PYTHON"
}

case ${1:-} in
  start) start ;;
  stop) stop_daemon ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' containers.sh >&2; exit 2 ;;
esac
