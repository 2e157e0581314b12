# Makes .venv beside the checkout. Sourced by scripts/penstock and scripts/test, which set $root.
# shellcheck shell=sh
venv=${root:?is set by the script that sources this}/.venv

# ensure_venv serve|dev: returns when .venv has exactly what requirements/NAME.txt pins. Prints to stderr only.
ensure_venv() {
  if is_ready "$1"; then return; fi
  find_python
  # The lock is on the open file, so that it is free as soon as this shell and pip have ended, however that came.
  exec 9<"$root/scripts/lib/setup.sh"
  "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
  if ! is_ready "$1"; then make_venv "$1"; fi
  exec 9<&-
}

# Every start comes through here: no more than a cat and a cmp.
is_ready() {
  [ -x "$venv/bin/python" ] || return 1
  if [ -e "$venv/stamp.dev" ] && stamp dev | cmp -s - "$venv/stamp.dev"; then return 0; fi
  [ "$1" = serve ] && [ -e "$venv/stamp.serve" ] && stamp serve | cmp -s - "$venv/stamp.serve"
}

# What .venv was made from. The path is part of it: a virtual environment cannot be moved.
stamp() {
  echo "$root"
  cat "$root/pyproject.toml" "$root/requirements/$1.txt"
}

find_python() {
  without_venv=
  for python in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    without_venv=$python
  done
  if [ -n "$without_venv" ]; then
    fail "$without_venv cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"
  fi
  fail "Python 3.11 or newer was not found. On Debian and Ubuntu: apt install python3 python3-venv. Elsewhere: set PYTHON to its path"
}

make_venv() {
  if was_finished_here; then
    say "the pinned packages changed: updating .venv"
  else
    say "setting up .venv, once: this takes about a minute"
    rm -f "$venv/stamp.serve" "$venv/stamp.dev"
    "$python" -m venv --clear "$venv" >&2
  fi
  # No stamp stands while pip is at work: what was interrupted is made again from nothing.
  rm -f "$venv/stamp.serve" "$venv/stamp.dev"
  pip_install --require-hashes -r "$root/requirements/$1.txt"
  pip_install --no-deps --no-build-isolation -e "$root"
  stamp "$1" >"$venv/stamp.$1"
}

was_finished_here() {
  [ -x "$venv/bin/python" ] || return 1
  for made in "$venv/stamp.serve" "$venv/stamp.dev"; do
    if [ -e "$made" ] && [ "$(head -n 1 "$made")" = "$root" ]; then return; fi
  done
  return 1
}

pip_install() {
  "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check "$@" >&2 ||
    fail "pip failed, its words stand above. When that is mended, run the same command again"
}

say() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
}

fail() {
  say "$*"
  exit 1
}
