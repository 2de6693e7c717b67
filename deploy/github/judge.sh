#!/usr/bin/env bash
# Makes the check pass or fail. In: STATUS, the exit status of perfprof (empty: it never ran), and INCONCLUSIVE, `warn` or
# `fail`. Exit status: 0, or perfprof's.
set -u

case "${STATUS:-}" in
  0) ;;
  1)
    echo "::error title=perfprof::A hot path regressed"
    exit 1
    ;;
  5)
    if [ "$INCONCLUSIVE" = fail ]; then
      echo "::error title=perfprof::Inconclusive: too little was recorded to tell"
      exit 5
    fi
    echo "::warning title=perfprof::Inconclusive: too little was recorded to tell"
    ;;
  *)
    echo "::error title=perfprof::There was no comparison; perfprof ended with status '${STATUS:-}'"
    exit "${STATUS:-1}"
    ;;
esac
