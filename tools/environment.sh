# Sourced by run_all.sh and run_tests.sh: leaves a `python` on PATH that has the locked packages and this library.
# An active virtual or conda environment is used; otherwise .venv is made here. Later calls find the stamp of the first.

_fail() { echo "$(basename "$0"): $*" >&2; exit 2; }

_find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    _fail "no Python 3.10 or newer found; install one (python.org, your distribution, or conda) and run again"
}

_stamp() {
    echo "$(python -c 'import sys; print(sys.prefix)')/.mula-$(cat requirements.lock pyproject.toml | cksum | tr ' ' -)"
}

_installed() { [ "$(cat "$(_stamp)" 2>/dev/null)" = "$PWD" ]; }

mula_environment() {
    local own="" found pip="python -m pip install --quiet --disable-pip-version-check"
    export JUPYTER_PREFER_ENV_PATH=1  # this environment's kernel, whatever kernels the user has registered
    if [ -z "${VIRTUAL_ENV:-}" ] && { [ -z "${CONDA_PREFIX:-}" ] || [ "${CONDA_DEFAULT_ENV:-}" = base ]; }; then
        own=yes found=$(_find_python) || exit 2
        export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
        unset PYTHONHOME
    fi
    if _installed 2>/dev/null; then return; fi
    exec 9>.venv.lock || _fail "$PWD cannot be written; make it writable for you"
    if command -v flock >/dev/null; then flock 9; fi  # of two first calls, the second waits for the first
    if [ -n "$own" ] && ! _installed 2>/dev/null && ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        echo "making a virtual environment in .venv with $("$found" --version) (once)"
        rm -rf .venv
        "$found" -m venv .venv || _fail "cannot make .venv; on Debian or Ubuntu: apt install python3-venv"
    fi
    command -v python >/dev/null || _fail "no python in the active environment; deactivate it and run again"
    if ! _installed; then
        echo "installing the packages of requirements.lock (once; a few minutes)"
        $pip -r requirements.lock || _fail "installation failed; see pip's message above and run again: it resumes"
        $pip --no-deps --editable . || _fail "installing this library failed; see pip's message above"
        echo "$PWD" >"$(_stamp)"
    fi
    exec 9>&-
}
