# A renderer of your own: copy this file and change what stands between the lines. The contract:
#   1. The renderer's program is on PATH, and works without a terminal, a display and a name in /etc/passwd.
#   2. It reads anything, and writes only HOME, TMPDIR, {scratch} and {output}: the root may be read-only.
#   3. framewake-worker (and framewake-gpu, for GPUs) come from the image framewake/worker, last, as a small layer.
#   4. framewake-worker is the entrypoint; it gets SIGTERM first, and ends the renderer itself.
#   5. No USER is relied upon: the farm may run the image as any number.
ARG WORKER=framewake/worker:0.1.0
ARG DEBIAN=debian:bookworm-slim

FROM ${WORKER} AS watchdog

FROM ${DEBIAN}
# ---------------------------------------------------------------------------------------------------------------------
# hadolint ignore=DL3008 # Debian keeps one version of each in a release.
RUN apt-get update \
 && apt-get install -y --no-install-recommends tachyon-bin-nox \
 && rm -rf /var/lib/apt/lists/*
# ---------------------------------------------------------------------------------------------------------------------
COPY --from=watchdog /framewake-worker /framewake-gpu /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["framewake-worker"]
