#!/bin/sh
# Puts secrets that are files into the environment of the command: NAME_FILE=PATH becomes NAME=content.
set -eu
for name in PREFECT_SERVER_DATABASE_PASSWORD PREFECT_SERVER_API_AUTH_STRING PREFECT_API_AUTH_STRING \
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
  eval "file=\${${name}_FILE:-}"
  [ -n "$file" ] || continue
  if ! [ -r "$file" ]; then
    echo "${name}_FILE names $file, which cannot be read by user $(id -u)" >&2
    exit 2
  fi
  export "$name=$(cat "$file")"
  unset "${name}_FILE"
done
exec "$@"
