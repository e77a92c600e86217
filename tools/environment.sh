# Sourced by run_all.sh and run_tests.sh: leaves a `python` on PATH that has the locked packages and mula_lib.
# An active virtual or conda environment is used; otherwise .venv is made here. A second call finds the stamp of the
# first and returns at once.

_mula_fail() { echo "$(basename "$0"): $*" >&2; exit 2; }

_mula_find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    _mula_fail "no Python 3.10 or newer found; install one (python.org, your distribution, or conda) and run again"
}

mula_environment() {
    local python stamp
    if [ -z "${VIRTUAL_ENV:-}" ] && { [ -z "${CONDA_PREFIX:-}" ] || [ "${CONDA_DEFAULT_ENV:-}" = base ]; }; then
        if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
            python=$(_mula_find_python) || exit 2
            echo "making a virtual environment in .venv with $("$python" --version) (once)"
            rm -rf .venv
            "$python" -m venv .venv || _mula_fail "cannot make .venv; on Debian or Ubuntu: apt install python3-venv"
        fi
        export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
        unset PYTHONHOME
    fi
    stamp="$(python -c 'import sys; print(sys.prefix)')/.mula-$(cat requirements.lock pyproject.toml | cksum | tr ' ' -)"
    if [ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$PWD" ]; then
        echo "installing the packages of requirements.lock (once; a few minutes)"
        python -m pip install --quiet --disable-pip-version-check -r requirements.lock ||
            _mula_fail "installation failed; see pip's message above, mend it and run again: it goes on"
        python -m pip install --quiet --disable-pip-version-check --no-deps --editable . ||
            _mula_fail "installing mula_lib failed; see pip's message above"
        echo "$PWD" >"$stamp"
    fi
    # Results are written by the kernel of this very environment, whatever kernels the user has registered.
    export JUPYTER_PREFER_ENV_PATH=1
}
