#!/usr/bin/env bash
# The steps of action.yml and finish/action.yml, one command each. The steps pass inputs in variables, so that
# no user input becomes shell code. Needs bash, curl, tar and jq, and cargo if there is no release to install.
# Tested by tests/action/script-test and, in a workflow, by tests/action/run.
# Usage: action.sh find | install | plan | load | up | save | verify | bundle | down
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${RUNNER_TEMP:?it is set in every step of a workflow}/kindmesh

output() { printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"; }
variable() { printf '%s=%s\n' "$1" "$2" >>"$GITHUB_ENV"; }

# annotate LEVEL TITLE TEXT: prints a GitHub annotation.
annotate() {
  local text=${3//'%'/%25}
  text=${text//$'\r'/%0D}
  printf '::%s title=%s::%s\n' "$1" "$2" "${text//$'\n'/%0A}"
}
fail() { annotate error "$@"; exit 1; }

# sha256 [FILE...]: the digest of stdin or of files, in the format of sha256sum.
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# platform: system and architecture, as in the names of releases.
platform() {
  local os arch
  case $(uname -s) in Linux) os=linux ;; Darwin) os=darwin ;; *) os=$(uname -s) ;; esac
  case $(uname -m) in x86_64 | amd64) arch=amd64 ;; aarch64 | arm64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
  echo "$os-$arch"
}

# The version of this checkout of the action.
own_version() { sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml" | sed 1q; }

# source_digest: the digest of everything that the executable is compiled from.
source_digest() (
  cd "$here"
  find Cargo.toml Cargo.lock src kind-configs mesh-manifests -type f | LC_ALL=C sort | while read -r file; do sha256 "$file"; done |
    sha256 | cut -c 1-16
)

# release URL FILE: downloads a file of a release. Returns 1 if it does not exist; fails if that cannot be determined.
release() {
  local status=0 code
  code=$(curl -sSL --fail --retry 3 --proto '=https,file' --proto-redir '=https' -o "$2" -w '%{http_code}' "$1") || status=$?
  case $status-$code in
  0-*) return 0 ;;
  22-404 | 37-*) return 1 ;; # 37: no such file
  *) fail "kindmesh: no release" "failed to download $1: curl exited with $status (HTTP status $code)" ;;
  esac
}

# find_executable: decides whether to download or to compile. Outputs: how, version, url, folder, key.
find_executable() {
  local version how repository url needed=yes
  mkdir -p "$work/bin"
  version=${INPUT_VERSION:-}
  case $version in v[0-9]*) version=${version#v} ;; esac
  case $version in
  '') # The release of the action's tag, v1 as well as v1.2.3; a branch or a commit is compiled.
    needed=''
    case ${ACTION_REF:-} in v[0-9]*) how=release version=$(own_version) ;; *) how=source ;; esac
    ;;
  source) how=source ;;
  *[!0-9A-Za-z.+-]* | [!0-9]*)
    fail "kindmesh: version" "\"$INPUT_VERSION\" is not a version: use one such as 1.2.3, or source to compile the action's own checkout"
    ;;
  *) how=release ;;
  esac
  repository=${ACTION_REPOSITORY:-${GITHUB_REPOSITORY:-}}
  url=${KINDMESH_RELEASES:-${GITHUB_SERVER_URL:-https://github.com}/$repository/releases/download}/v$version
  if [ "$how" = release ] && ! release "$url/SHA256SUMS" "$work/SHA256SUMS"; then
    [ -z "$needed" ] || fail "kindmesh: no release" "no release v$version of $repository: $url/SHA256SUMS does not exist"
    echo "No release v$version of $repository found; compiling kindmesh"
    how=source
  fi
  [ "$how" = release ] || version=$(own_version)
  output how "$how"
  output version "$version"
  output url "$url"
  output folder "$work/bin"
  output key "kindmesh-executable-$(platform)-$version-$(source_digest)"
}

# install: installs the executable into $FOLDER and adds that to PATH.
install_executable() {
  local said version=${VERSION:?}
  case $HOW in
  release) download ;;
  source) compile ;;
  esac
  said=$("$FOLDER/kindmesh" --version 2>&1) || fail "kindmesh: executable does not run" "$FOLDER/kindmesh does not run: $said"
  [ "$said" = "kindmesh $version" ] || fail "kindmesh: wrong version" "expected kindmesh $version, got: $said"
  echo "$FOLDER" >>"$GITHUB_PATH"
  echo "$said"
}

download() {
  local file expected found
  file=kindmesh-v$VERSION-$(platform).tar.gz
  expected=$(awk -v name="$file" '{sub(/^\*/, "", $2)} $2 == name {print tolower($1)}' "$work/SHA256SUMS")
  [ -n "$expected" ] || fail "kindmesh: no release for this platform" "$URL/SHA256SUMS does not list $file; use version: source to compile it"
  release "$URL/$file" "$work/$file" || fail "kindmesh: no release for this platform" "$URL/$file does not exist"
  found=$(sha256 "$work/$file" | cut -d ' ' -f 1)
  [ "$found" = "$expected" ] ||
    fail "kindmesh: wrong checksum" "$URL/$file: SHA-256 is $found, but SHA256SUMS lists $expected"
  tar -xzf "$work/$file" -C "$FOLDER" kindmesh
}

compile() {
  local target=${CARGO_TARGET_DIR:-$work/target}
  if [ -x "$FOLDER/kindmesh" ]; then
    echo "using the executable compiled by an earlier run"
    return
  fi
  command -v cargo >/dev/null ||
    fail "kindmesh: no Rust" "kindmesh has to be compiled, but cargo was not found on PATH: install Rust (https://rustup.rs), or specify a release with the input version"
  cargo build --release --locked --manifest-path "$here/Cargo.toml" --target-dir "$target"
  cp "$target/release/kindmesh" "$FOLDER/kindmesh"
}

# The flags for the inputs spec (one file per line) and name.
flags=()
read_flags() {
  local file
  while IFS= read -r file; do
    file=${file#"${file%%[![:space:]]*}"}
    file=${file%"${file##*[![:space:]]}"}
    [ -z "$file" ] || flags+=(--file "$file")
  done <<<"${INPUT_SPEC:-}"
  [ -z "${INPUT_NAME:-}" ] || flags+=(--name "$INPUT_NAME")
}

# plan: the environment's name, and the cache keys for everything that up with this spec downloads and renders.
plan() {
  local plan environment mesh digest
  read_flags
  # An invalid spec fails here. Human output first, because its errors contain file and line.
  kindmesh plan --offline ${flags[@]+"${flags[@]}"} >/dev/null
  plan=$(kindmesh plan --offline --output json ${flags[@]+"${flags[@]}"})
  environment=$(jq -r .environment <<<"$plan")
  mesh=$(jq -r '[.clusters[].istioVersion] | unique | join("-")' <<<"$plan")
  digest=$(versions '[.clusters[] | .nodeImage, .istioImages, .istio]')
  # For finish and for kindmesh in later steps of the job, even if up fails.
  variable KINDMESH_ENVIRONMENT "$environment"
  output environment "$environment"
  output path "${XDG_CACHE_HOME:-$HOME/.cache}/kindmesh"
  output key "kindmesh-$(platform)-istio-$mesh-$digest"
  output images-path "$work/kindmesh-images.tar"
  output images-key "kindmesh-images-$(platform)-istio-$mesh-$(versions '[[.clusters[] | .nodeImage, .istioImages], (.samples | select(. != null and (.build | not)) | .image)]')"
}

# versions FILTER: a digest of this kindmesh's version and of parts of the plan.
versions() { { kindmesh --version && jq -cS "$1" <<<"$plan"; } | sha256 | cut -c 1-16; }

# load and save: the images that up needs, in one file.
load() { kindmesh offline load "$ARCHIVE"; }
save() {
  read_flags
  rm -f "$ARCHIVE"
  kindmesh offline save ${flags[@]+"${flags[@]}"} "$ARCHIVE"
}

up() {
  local variables kubeconfig runs
  read_flags
  kindmesh up ${flags[@]+"${flags[@]}"} ${INPUT_TIMEOUT:+--timeout "$INPUT_TIMEOUT"}
  variables=$(kindmesh env --output json --name "$KINDMESH_ENVIRONMENT")
  jq -r 'to_entries[] | "\(.key)=\(.value)"' <<<"$variables" >>"$GITHUB_ENV"
  kubeconfig=$(jq -r .KUBECONFIG <<<"$variables")
  output kubeconfig "$kubeconfig"
  output contexts "$(jq -c '[to_entries[] | select(.key | startswith("CTX_CLUSTER")) | [(.key | ltrimstr("CTX_CLUSTER") | tonumber), .value]] | sort | map(.[1])' <<<"$variables")"
  runs=("$(dirname "$kubeconfig")"/runs/*-up.jsonl)
  output seconds "$(jq -r 'select(.event == "ready").seconds' "${runs[${#runs[@]} - 1]}")"
}

verify() { kindmesh verify --name "$KINDMESH_ENVIRONMENT"; }

# installed: whether kindmesh was installed, so that an environment may exist.
installed() {
  command -v kindmesh >/dev/null && return
  annotate notice "kindmesh finish" "kindmesh is not installed: nothing to clean up"
  return 1
}

# bundle: writes a support archive of a failed job. Failing to write it must not hide why the job failed.
bundle() {
  local written path
  installed || return 0
  mkdir -p "$work"
  if ! written=$(kindmesh bundle ${name[@]+"${name[@]}"} --output json "$work"); then
    annotate notice "kindmesh finish" "no support archive was written; see the log"
    return
  fi
  path=$(jq -r .path <<<"$written")
  output path "$path"
  # Jobs of a matrix must not overwrite each other's archives.
  output artifact "$(basename "$path" .tar.gz)-${GITHUB_JOB:-job}-$RANDOM"
}

down() {
  installed || return 0
  kindmesh down ${name[@]+"${name[@]}"}
}

# finish: without a name, that of plan; otherwise a kindmesh.yaml in the working directory would take precedence.
name=()
finished=${INPUT_NAME:-${KINDMESH_ENVIRONMENT:-}}
[ -z "$finished" ] || name=(--name "$finished")

case ${1:-} in
find) find_executable ;;
install) install_executable ;;
plan | load | up | save | verify | bundle | down) "$1" ;;
*) echo "usage: action.sh find | install | plan | load | up | save | verify | bundle | down" >&2; exit 2 ;;
esac
