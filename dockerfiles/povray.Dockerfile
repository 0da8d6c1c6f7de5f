# POV-Ray with the render watchdog. For the function samples/functions/povray.yaml.
#
#   docker build -f dockerfiles/povray.Dockerfile -t framewake/povray:3.7 .
ARG WORKER=framewake/worker:0.1.0
ARG DEBIAN=debian:bookworm-slim

FROM ${WORKER} AS watchdog

FROM ${DEBIAN}
LABEL org.opencontainers.image.title="framewake-povray" \
      org.opencontainers.image.description="POV-Ray 3.7 for a Framewake farm"
# hadolint ignore=DL3008 # Debian keeps one version of each in a release.
RUN apt-get update \
 && apt-get install -y --no-install-recommends povray povray-includes \
 && rm -rf /var/lib/apt/lists/*
COPY --from=watchdog /framewake-worker /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["framewake-worker"]
