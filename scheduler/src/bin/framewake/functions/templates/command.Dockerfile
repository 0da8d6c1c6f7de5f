# The image of the function NAME: framewake functions build NAME
#
# Change what stands between the lines. The renderer's program is on PATH; it may read anything and writes only HOME,
# TMPDIR, {scratch} and {output}; framewake-worker is the entrypoint; the farm may run it as any user, with a read-only root.
ARG WORKER=framewake/worker:0.1.0
ARG DEBIAN=debian:bookworm-slim

FROM ${WORKER} AS watchdog

FROM ${DEBIAN}
# ---------------------------------------------------------------------------------------------------------------------
# hadolint ignore=DL3008 # Debian keeps one version of each in a release.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
# ---------------------------------------------------------------------------------------------------------------------
COPY --from=watchdog /framewake-worker /framewake-gpu /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["framewake-worker"]
