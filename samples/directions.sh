#!/usr/bin/env bash
# The direction of dependencies: the rules know no I/O, the worker no database and no web server.
set -euo pipefail
cd "$(dirname "$0")/.."
check() { # package, crates it must not reach
  tree=$(cargo tree -p "$1" -e normal,no-proc-macro --prefix none --locked | cut -d' ' -f1 | sort -u)
  for banned in $2; do
    if grep -qx "$banned" <<<"$tree"; then
      echo "$1 must not depend on $banned" >&2
      exit 1
    fi
  done
}
check framewake-core "tokio sqlx async-nats reqwest axum prost utoipa object_store fastrand rand"
check framewake-simulate "tokio sqlx async-nats reqwest axum prost utoipa object_store proptest"
check framewake-proto "tokio sqlx async-nats axum object_store"
check framewake-gpu "tokio sqlx async-nats reqwest axum object_store"
check framewake-reading "tokio sqlx async-nats reqwest axum object_store"
check framewake-worker "sqlx aws-sdk-s3 axum kube framewake-core framewake-scheduler"
echo "dependencies point the right way"
