#!/bin/sh
# The start of a Sail container: the Iceberg catalog of the query service from variables, then the command.
#
#   CATALOG_URL              the catalog, such as https://dagfusion:8080/iceberg; if it is not set, SAIL_CATALOG__LIST names it
#   CATALOG_TOKEN(_FILE)     the access token that reads it, or a file with the token
set -eu
if [ -n "${CATALOG_URL:-}" ]; then
  token=${CATALOG_TOKEN:-$(cat "$CATALOG_TOKEN_FILE")}
  export SAIL_CATALOG__LIST="[{type=\"iceberg-rest\", name=\"lake\", uri=\"$CATALOG_URL\", bearer_access_token=\"$token\"}]"
fi
unset CATALOG_TOKEN
exec "$@"
