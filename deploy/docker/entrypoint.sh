#!/bin/sh
# Starts one part of Ratchet by its name; anything else is run as it stands.
set -eu
role=${1:-api}
printf '%s' "$role" > "${RATCHET_ROLE_FILE:-/tmp/ratchet-role}"
case $role in
  api)
    exec python -P -m ratchet.service.api ;;
  controller)
    exec python -P -m ratchet.service.control ;;
  router)
    shift
    exec ratchet serve --all --host 0.0.0.0 --port 8000 "$@" ;;
  ray-head)
    shift
    exec ray start --head --block --port 6379 --dashboard-host 0.0.0.0 --dashboard-port 8265 \
      --metrics-export-port 8090 --disable-usage-stats "$@" ;;
  ray-worker)
    shift
    exec ray start --block --address "${RAY_HEAD:?the address of the head, as ray-head:6379}" \
      --metrics-export-port 8090 --disable-usage-stats "$@" ;;
  *)
    exec "$@" ;;
esac
