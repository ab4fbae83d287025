#!/bin/sh
# The start of the query service's container: files from variables, then the command.
#
#   TOKENS_JSON        the content of tokens.json, where a secret can only be a variable
#   SAIL_TOKEN_FILE    gets a token that may read all tables, for a Sail server, if it is not there; not with TOKENS_JSON
#   SELF_SIGNED_TLS=1  a certificate of its own, for a load balancer that encrypts and does not verify
set -eu
umask 077
own=$HOME/run
mkdir -p "$TMPDIR" "$own"
if [ -n "${TOKENS_JSON:-}" ]; then
  printf '%s' "$TOKENS_JSON" >"$own/tokens.json"
  export DAGFUSION_TOKENS="$own/tokens.json"
elif [ -n "${SAIL_TOKEN_FILE:-}" ] && ! [ -s "$SAIL_TOKEN_FILE" ]; then
  dagfusion token revoke sail >/dev/null 2>&1 || true # of a start that was interrupted
  dagfusion token create sail --grant '*' --expires never >"$SAIL_TOKEN_FILE"
fi
unset TOKENS_JSON
if [ "${SELF_SIGNED_TLS:-}" = 1 ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=dagfusion \
    -keyout "$own/tls.key" -out "$own/tls.pem" 2>/dev/null
  export DAGFUSION_TLS_CERTIFICATE="$own/tls.pem" DAGFUSION_TLS_KEY="$own/tls.key"
fi
exec "$@"
