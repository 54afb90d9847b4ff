# Source me (bash): makes the environment .venv at the repository's root when it is missing, and activates it.
#   PYTHON=python3.12 chooses the interpreter; pip's environment variables (PIP_INDEX_URL, PIP_FIND_LINKS, ...) are honoured.

gan_denoise_environment() {
    local root venv lock stamp
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." >/dev/null && pwd) || return 1
    venv=$root/.venv lock=$root/requirements.lock
    stamp=$venv/installed-$(cksum <"$lock" | tr ' ' '-') || return 1
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$venv" ]; then
        # the lock outlives the python that takes it: fd 9 is the shell's
        mkdir -p "$venv" && (
            gan_denoise_alone && gan_denoise_mended "$venv" "$root" && { [ -f "$stamp" ] || gan_denoise_made "$venv" "$root" "$lock" "$stamp"; }
        ) 9>"$venv/making" || return 1
    fi
    # shellcheck disable=SC1091
    . "$venv/bin/activate"
    export VIRTUAL_ENV=$venv # a name with quotes is not whole in there
    case $PATH in "$venv/bin:"*) ;; *) PATH=$venv/bin:$PATH ;; esac
}

# Of two first commands the second waits for the first, where the file system knows locks; fails when interrupted
gan_denoise_alone() {
    "${PYTHON:-python3}" - 2>/dev/null <<'EOF' || [ $? -lt 128 ]
import fcntl, os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    os.write(8, b"Waiting for another command, which is making the environment.\n")
    fcntl.flock(9, fcntl.LOCK_EX)
EOF
} 8>&2

# VENV ROOT: what was made at another place, whatever it holds, is at home here
gan_denoise_mended() {
    local old made_at
    for old in "$1"/installed-*; do
        if [ -f "$old" ] && made_at=$(cat "$old") && [ "$made_at" != "$1" ]; then
            echo "The environment $1 was made ${made_at:+as $made_at }by an earlier path.sh: mending its paths." >&2
            if ! gan_denoise_moved "$1" "$2"; then
                echo "error: $1 cannot be mended: remove it, and start again" >&2; return 1
            fi
            printf '%s\n' "$1" >"$old"
        fi
    done
}

# VENV ROOT LOCK STAMP: installs what LOCK names
gan_denoise_made() {
    local python=${PYTHON:-python3} pip=("$1/bin/python" -m pip install --disable-pip-version-check)
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "error: $python is not Python 3.11 or newer: install it, or name one: PYTHON=python3.12" >&2; return 1
    fi
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "error: $python cannot make environments: install its venv package (Debian: python3-venv)" >&2; return 1
    fi
    if ! "$python" - 2>/dev/null <<'EOF'
import os, subprocess, sys, sysconfig, tempfile
with tempfile.TemporaryDirectory() as folder:  # what the package pesq will need: a compiler and Python's headers
    source = os.path.join(folder, "probe.c")
    open(source, "w").write("#include <Python.h>\nint probe(void) { return 0; }\n")
    compiler = os.environ.get("CC", "cc").split()
    command = [*compiler, "-I" + sysconfig.get_paths()["include"], "-c", source, "-o", source + ".o"]
    sys.exit(subprocess.run(command).returncode)
EOF
    then
        echo "error: no C compiler with Python's headers, which the package pesq needs: install them (Debian: gcc python3-dev)" >&2
        return 1
    fi
    echo "Making the environment $1 with the versions of requirements.lock." >&2
    echo "  pip will fetch about 0.5 GB with a CPU build of torch; on Linux pip's default is a CUDA build, about 3.5 GB." >&2
    echo "  For a CPU build, set PIP_EXTRA_INDEX_URL to the CPU index that pytorch.org/get-started names, and start again." >&2
    "$python" -m venv "$1" || return 1
    if [ ! -t 2 ]; then pip+=(--quiet); echo "  A few minutes without a word follow." >&2; fi
    if ! "${pip[@]}" -r "$3" || ! "${pip[@]}" --no-deps --no-build-isolation -e "$2"; then
        echo "error: pip could not install requirements.lock (its message is above): is there a network, or a PIP_INDEX_URL?" >&2
        return 1
    fi
    rm -f "$1"/installed-*
    printf '%s\n' "$1" >"$1/made" && mv "$1/made" "$4"
}

# VENV ROOT: activate, the installed programs and the package's own place get the new paths, without a network
gan_denoise_moved() {
    local python
    python=$("$1/bin/python" -c 'import sys; print(sys._base_executable)') &&
        "$python" -m venv --without-pip "$1" && "$1/bin/python" - "$1" <<'EOF' &&
import importlib.metadata, pathlib, sys
from pip._vendor.distlib.scripts import ScriptMaker  # what pip writes programs with
venv = pathlib.Path(sys.argv[1])
maker = ScriptMaker(None, str(venv / "bin"))
maker.executable, maker.clobber, maker.variants = str(venv / "bin/python"), True, {""}
for distribution in importlib.metadata.distributions(path=[path for path in sys.path if path.startswith(str(venv))]):
    for entry in distribution.entry_points:
        if entry.group == "console_scripts" and (venv / "bin" / entry.name).exists():
            maker.make(f"{entry.name} = {entry.value}")
EOF
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e "$2"
}

gan_denoise_environment || return 1 2>/dev/null || exit 1
export LC_ALL=C.UTF-8
