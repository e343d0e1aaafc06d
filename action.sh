#!/usr/bin/env bash
# What the steps of action.yml and finish/action.yml do, a command each. They hand inputs over in variables, so that
# nothing a user writes becomes shell code. Needs bash, curl, tar and jq, and cargo where there is no release to install.
# Tested by tests/action/script-test and, in a workflow, by tests/action/run.
# Usage: action.sh find | install | plan | load | up | save | verify | bundle | down
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${RUNNER_TEMP:?it is set in every step of a workflow}/kindmesh

output() { printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"; }
variable() { printf '%s=%s\n' "$1" "$2" >>"$GITHUB_ENV"; }

# annotate LEVEL TITLE TEXT: what GitHub shows beside the workflow.
annotate() {
  local text=${3//'%'/%25}
  text=${text//$'\r'/%0D}
  printf '::%s title=%s::%s\n' "$1" "$2" "${text//$'\n'/%0A}"
}
fail() { annotate error "$@"; exit 1; }

# sha256 [FILE...]: of what comes in, or lines as sha256sum writes them.
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# platform: the system and the processor, as releases are named.
platform() {
  local os arch
  case $(uname -s) in Linux) os=linux ;; Darwin) os=darwin ;; *) os=$(uname -s) ;; esac
  case $(uname -m) in x86_64 | amd64) arch=amd64 ;; aarch64 | arm64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
  echo "$os-$arch"
}

# The version that this checkout of the action is of.
own_version() { sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml" | sed 1q; }

# source_digest: of all that an executable is compiled from.
source_digest() (
  cd "$here"
  find Cargo.toml Cargo.lock src kind-configs mesh-manifests -type f | LC_ALL=C sort | while read -r file; do sha256 "$file"; done |
    sha256 | cut -c 1-16
)

# release URL FILE: downloads a file of a release. 1 when there is none; ends with an error when that cannot be known.
release() {
  local status=0 code
  code=$(curl -sSL --fail --retry 3 --proto '=https,file' --proto-redir '=https' -o "$2" -w '%{http_code}' "$1") || status=$?
  case $status-$code in
  0-*) return 0 ;;
  22-404 | 37-*) return 1 ;; # 37: a file that is not there
  *) fail "kindmesh: no release" "$1 could not be downloaded: curl ended with $status (HTTP status $code)" ;;
  esac
}

# find_executable: whether it is downloaded or compiled, as outputs: how, version, url, folder, key.
find_executable() {
  local version how repository url needed=yes
  mkdir -p "$work/bin"
  version=${INPUT_VERSION:-}
  case $version in v[0-9]*) version=${version#v} ;; esac
  case $version in
  '') # The release that a tag of the action names, v1 as well as v1.2.3; a branch or a commit is compiled as it is.
    needed=''
    case ${ACTION_REF:-} in v[0-9]*) how=release version=$(own_version) ;; *) how=source ;; esac
    ;;
  source) how=source ;;
  *[!0-9A-Za-z.+-]* | [!0-9]*)
    fail "kindmesh: version" "\"$INPUT_VERSION\" is no version: give one such as 1.2.3, or source to compile the action's own checkout"
    ;;
  *) how=release ;;
  esac
  repository=${ACTION_REPOSITORY:-${GITHUB_REPOSITORY:-}}
  url=${KINDMESH_RELEASES:-${GITHUB_SERVER_URL:-https://github.com}/$repository/releases/download}/v$version
  if [ "$how" = release ] && ! release "$url/SHA256SUMS" "$work/SHA256SUMS"; then
    [ -z "$needed" ] || fail "kindmesh: no release" "there is no release v$version of $repository: $url/SHA256SUMS does not exist"
    echo "There is no release v$version of $repository: kindmesh is compiled."
    how=source
  fi
  [ "$how" = release ] || version=$(own_version)
  output how "$how"
  output version "$version"
  output url "$url"
  output folder "$work/bin"
  output key "kindmesh-executable-$(platform)-$version-$(source_digest)"
}

# install: the executable into $FOLDER, which goes on PATH.
install_executable() {
  local said version=${VERSION:?}
  case $HOW in
  release) download ;;
  source) compile ;;
  esac
  said=$("$FOLDER/kindmesh" --version 2>&1) || fail "kindmesh: not usable here" "$FOLDER/kindmesh does not run: $said"
  [ "$said" = "kindmesh $version" ] || fail "kindmesh: another version" "kindmesh $version was expected, and it says that it is: $said"
  echo "$FOLDER" >>"$GITHUB_PATH"
  echo "$said"
}

download() {
  local file expected found
  file=kindmesh-v$VERSION-$(platform).tar.gz
  expected=$(awk -v name="$file" '{sub(/^\*/, "", $2)} $2 == name {print tolower($1)}' "$work/SHA256SUMS")
  [ -n "$expected" ] || fail "kindmesh: no release for this machine" "$URL/SHA256SUMS does not list $file; version: source compiles it"
  release "$URL/$file" "$work/$file" || fail "kindmesh: no release for this machine" "$URL/$file does not exist"
  found=$(sha256 "$work/$file" | cut -d ' ' -f 1)
  [ "$found" = "$expected" ] ||
    fail "kindmesh: wrong checksum" "$URL/$file is not used: its SHA-256 is $found, and SHA256SUMS says $expected"
  tar -xzf "$work/$file" -C "$FOLDER" kindmesh
}

compile() {
  local target=${CARGO_TARGET_DIR:-$work/target}
  if [ -x "$FOLDER/kindmesh" ]; then
    echo "compiled by an earlier run"
    return
  fi
  command -v cargo >/dev/null ||
    fail "kindmesh: no Rust" "kindmesh has to be compiled, and there is no cargo on PATH: install Rust (https://rustup.rs), or name a release with the input version"
  cargo build --release --locked --manifest-path "$here/Cargo.toml" --target-dir "$target"
  cp "$target/release/kindmesh" "$FOLDER/kindmesh"
}

# The flags that the inputs spec (a file a line) and name make.
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

# plan: the environment's name, and the key of all that up with this spec downloads and renders.
plan() {
  local plan environment mesh digest
  read_flags
  # Refused here is what is wrong in the spec. For people first: their form of an error has its place in the file.
  kindmesh plan --offline ${flags[@]+"${flags[@]}"} >/dev/null
  plan=$(kindmesh plan --offline --output json ${flags[@]+"${flags[@]}"})
  environment=$(jq -r .environment <<<"$plan")
  mesh=$(jq -r .mesh.version <<<"$plan")
  digest=$(versions '[.kubernetes.nodeImage, .mesh.images, [.clusters[].istio]]')
  # finish, and kindmesh in the job's own steps, find it by that, also when up fails.
  variable KINDMESH_ENVIRONMENT "$environment"
  output environment "$environment"
  output path "${XDG_CACHE_HOME:-$HOME/.cache}/kindmesh"
  output key "kindmesh-$(platform)-istio-$mesh-$digest"
  output images-path "$work/kindmesh-images.tar"
  output images-key "kindmesh-images-$(platform)-istio-$mesh-$(versions '[.kubernetes.nodeImage, .mesh.images, (.samples | select(. != null and (.build | not)) | .image)]')"
}

# versions FILTER: a digest of what a plan and this kindmesh make of it.
versions() { { kindmesh --version && jq -cS "$1" <<<"$plan"; } | sha256 | cut -c 1-16; }

# load and save: what up needs of images, in one file.
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

# installed: whether the action came so far that there may be something.
installed() {
  command -v kindmesh >/dev/null && return
  annotate notice "kindmesh finish" "there is no kindmesh: nothing was made"
  return 1
}

# bundle: a support archive of a job that failed. That there is none does not hide why it failed.
bundle() {
  local written path
  installed || return 0
  mkdir -p "$work"
  if ! written=$(kindmesh bundle ${name[@]+"${name[@]}"} --output json "$work"); then
    annotate notice "kindmesh finish" "there is no support archive; the log says why"
    return
  fi
  path=$(jq -r .path <<<"$written")
  output path "$path"
  # Jobs of a matrix must not write over each other's.
  output artifact "$(basename "$path" .tar.gz)-${GITHUB_JOB:-job}-$RANDOM"
}

down() {
  installed || return 0
  kindmesh down ${name[@]+"${name[@]}"}
}

# finish: without a name that of plan, which a kindmesh.yaml in the working folder would else win over.
name=()
finished=${INPUT_NAME:-${KINDMESH_ENVIRONMENT:-}}
[ -z "$finished" ] || name=(--name "$finished")

case ${1:-} in
find) find_executable ;;
install) install_executable ;;
plan | load | up | save | verify | bundle | down) "$1" ;;
*) echo "usage: action.sh find | install | plan | load | up | save | verify | bundle | down" >&2; exit 2 ;;
esac
