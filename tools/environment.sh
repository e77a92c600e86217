# Sourced by run_all.sh and run_tests.sh: leaves a `python` on PATH that has the locked packages and mula_lib.
# An active virtual or conda environment is used; otherwise .venv is made here. A second call finds the stamp of the
# first and returns at once; two calls at once wait for each other.

_mula_fail() { echo "$(basename "$0"): $*" >&2; exit 2; }

_mula_find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    _mula_fail "no Python 3.10 or newer found; install one (python.org, your distribution, or conda) and run again"
}

# mula_hold PYTHON FILE WORDS: from here on no other script holds FILE, which guards what WORDS say; waits for it, and
# says so. Kept by file descriptor 9 until that is closed or the script (or what it becomes) ends, however it ends.
mula_hold() {
    mkdir -p "$(dirname "$2")" && exec 9>>"$2" || _mula_fail "$2 cannot be written; make its folder writable for you"
    "$1" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(f"another process is at work on {sys.argv[1]}; waiting for it to end", file=sys.stderr, flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    print(f"{sys.argv[1]}: the file system has no locks; start nothing twice there", file=sys.stderr)
' "$3" || exit 130
}

_mula_stamp() {
    echo "$(python -c 'import sys; print(sys.prefix)')/.mula-$(cat requirements.lock pyproject.toml | cksum | tr ' ' -)"
}

_mula_ready() {
    local stamp
    if [ -n "$1" ] && [ ! -x .venv/bin/python ]; then return 1; fi
    stamp="$(_mula_stamp)" && [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$PWD" ]
}

mula_environment() {
    local own="" python lock path="$PATH"
    # Results are written by the kernel of this very environment, whatever kernels the user has registered.
    export JUPYTER_PREFER_ENV_PATH=1
    if [ -z "${VIRTUAL_ENV:-}" ] && { [ -z "${CONDA_PREFIX:-}" ] || [ "${CONDA_DEFAULT_ENV:-}" = base ]; }; then
        own=yes
        export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
        unset PYTHONHOME
    fi
    if _mula_ready "$own"; then return; fi
    if [ -n "$own" ]; then
        python=$(PATH="$path"; _mula_find_python) || exit 2
        lock=.venv.lock
    else
        python=$(command -v python) || _mula_fail "no python in the active environment; deactivate it and run again"
        lock="$(python -c 'import sys; print(sys.prefix)')/.mula.lock"
    fi
    mula_hold "$python" "$lock" "the environment"
    if ! _mula_ready "$own"; then
        if [ -n "$own" ] && { [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
            echo "making a virtual environment in .venv with $("$python" --version) (once)"
            rm -rf .venv
            "$python" -m venv .venv || _mula_fail "cannot make .venv; on Debian or Ubuntu: apt install python3-venv"
        fi
        echo "installing the packages of requirements.lock (once; a few minutes)"
        python -m pip install --quiet --disable-pip-version-check -r requirements.lock ||
            _mula_fail "installation failed; see pip's message above, mend it and run again: it goes on"
        python -m pip install --quiet --disable-pip-version-check --no-deps --editable . ||
            _mula_fail "installing mula_lib failed; see pip's message above"
        echo "$PWD" >"$(_mula_stamp)"
    fi
    exec 9>&-
}
