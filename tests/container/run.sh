#!/usr/bin/env bash
# Builds the image and runs it as the challenge does; `make container-test`.
#
# Docker is taken where it answers. Elsewhere Debian's buildah builds and runs, without a daemon, on a
# base that debootstrap assembles (as root: apt-get install buildah debootstrap). BASE names another
# base. What is checked: an image, a volume and a bad case on mounts, by the user of the image, without
# a network; predict.sh from another folder; label maps equal to those of the same checkout outside.
set -euo pipefail
cd "$(dirname "$0")/../.."

work="${WORK:-runs/container}"
image="qmedsam:test"
mirror="${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

say() { printf '%s\n' "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }
seconds() { date +%s.%N; }
since() { python3 -c "import sys; print(f'{float(sys.argv[2]) - float(sys.argv[1]):.2f} s')" "$1" "$(seconds)"; }

if docker info >/dev/null 2>&1; then engine=docker
elif command -v buildah >/dev/null && command -v debootstrap >/dev/null; then engine=buildah
else fail "needs a Docker that answers, or buildah and debootstrap"; fi
say "Engine: $engine"

assemble_base() {
    # As python:3.11-slim: Debian with Python 3.11, and pip that may install for all.
    root="$(mktemp -d)"
    debootstrap --variant=minbase \
        --include=python3-minimal,python3-pip,python-is-python3,ca-certificates \
        bookworm "$root" "$mirror" >"$work/debootstrap.log"
    rm -rf "$root"/usr/lib/python3*/EXTERNALLY-MANAGED "$root"/var/lib/apt/lists/* \
        "$root"/var/cache/apt/archives/*.deb
    container="$(buildah from scratch)"
    buildah add -q "$container" "$root" / >/dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit -q "$container" localhost/qmedsam-base >/dev/null
    buildah rm "$container" >/dev/null
    rm -rf "$root"
}

build() {
    if [ "$engine" = docker ]; then
        docker build -t "$image" ${BASE:+--build-arg BASE="$BASE"} . >"$work/build.log" 2>&1
    else
        [ -n "${BASE:-}" ] || { assemble_base; BASE=localhost/qmedsam-base; }
        # A proxy with a certificate of its own is trusted as it is outside.
        buildah bud --network host --volume /etc/ssl/certs:/etc/ssl/certs:ro \
            --build-arg BASE="$BASE" -t "localhost/$image" . >"$work/build.log" 2>&1
    fi || { tail -20 "$work/build.log" >&2; fail "the image is not built"; }
}

run() { # INPUTS OUTPUTS [FOLDER COMMAND]: as the organisers run it, and without a network
    local inputs outputs folder="${3:-/workspace}" command="${4:-sh predict.sh}"
    inputs="$(realpath "$1")" outputs="$(realpath "$2")"
    if [ "$engine" = docker ]; then
        docker container run --rm -m 8G --network none --read-only --tmpfs /tmp -w "$folder" \
            -v "$inputs:/workspace/inputs/" -v "$outputs:/workspace/outputs/" \
            "$image" /bin/bash -c "$command"
    else
        unshare --net buildah run --user 1000 --workingdir "$folder" \
            -v "$inputs:/workspace/inputs:ro" -v "$outputs:/workspace/outputs" \
            "$container" -- /bin/bash -c "$command"
    fi
}

segment() { # NAME CASE...: run cases in a container, with seconds and exit status
    local name="$1" status=0 begin
    shift
    rm -rf "${work:?}/$name"
    mkdir -p "$work/$name/in" "$work/$name/out"
    cp "$@" "$work/$name/in" || fail "no cases to copy for $name"
    chmod 777 "$work/$name/out"
    begin="$(seconds)"
    run "$work/$name/in" "$work/$name/out" 2>"$work/$name/errors" || status=$?
    say "$name: $(since "$begin"), exit status $status"
    return "$status"
}

mkdir -p "$work"
begin="$(seconds)"
build
say "Built in $(since "$begin")"
if [ "$engine" = docker ]; then
    docker image inspect -f 'Size: {{.Size}} bytes, layers: {{len .RootFS.Layers}}' "$image"
    docker history "$image"
    docker save "$image" | gzip >"$work/qmedsam.tar.gz" # as organisers get it
    docker load -i "$work/qmedsam.tar.gz"
else
    buildah images --format '{{.Size}} {{.Name}}' "localhost/$image"
    buildah images --format '{{.Size}} of them the base' "$BASE"
    say "$(buildah inspect --type image --format '{{len .OCIv1.RootFS.DiffIDs}}' "localhost/$image") layers"
    container="$(buildah from "localhost/$image")"
    trap 'buildah rm "$container" >/dev/null' EXIT
fi

segment image examples/cases/2DBox_Fundus_retina.npz || fail "$(cat "$work/image/errors")"
segment volume examples/cases/3D*.npz || fail "$(cat "$work/volume/errors")"
segment all examples/cases/*.npz || fail "$(cat "$work/all/errors")"

rm -rf "$work/elsewhere"
mkdir "$work/elsewhere"
chmod 777 "$work/elsewhere"
run examples/cases "$work/elsewhere" / "sh /workspace/predict.sh"
diff -r "$work/elsewhere" "$work/all/out" || fail "label maps differ when predict.sh is called from /"

python3 - "$work/bad.npz" <<'PYTHON'
import sys, zipfile

header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (30, 40), }\n"
with zipfile.ZipFile(sys.argv[1], "w") as archive:  # no NumPy is needed for it
    archive.writestr("imgs.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(4800))
PYTHON
status=0
segment bad "$work/bad.npz" examples/cases/2DBox_Fundus_retina.npz || status=$?
[ "$status" = 1 ] || fail "a bad case must give exit status 1, got $status"
grep -q "bad.npz: File must have a member 'boxes'" "$work/bad/errors" || fail "no message of the bad case"
[ -f "$work/bad/out/bad.npz" ] || fail "no empty label map of the bad case"
[ -f "$work/bad/out/2DBox_Fundus_retina.npz" ] || fail "the good case beside a bad one is lost"

for path in "$work"/all/out/*; do
    owner="$(stat -c %u "$path")"
    [ "$owner" = 1000 ] || fail "$path must be of user 1000, got $owner"
done
rm -rf "$work/direct"
PATH="$PWD/.venv/bin:$PATH" INPUT_DIR=examples/cases OUTPUT_DIR="$work/direct" sh predict.sh
diff -r "$work/direct" "$work/all/out" || fail "label maps differ from those of the same checkout outside"
say "Label maps equal those of a direct run, byte by byte."
if [ "$engine" = docker ]; then say "PASSED"
else say "PASSED (without a memory limit and a read-only root, which buildah's chroot has not)"; fi
