# The scheduler, with the command line beside it.
#
#   docker build -f dockerfiles/scheduler.Dockerfile -t framewake/scheduler:0.1.0 .
#
# It writes /data, and nothing else. NATS is a program of its own (docs/operations.md).
ARG BUILT=source
ARG RUST=rust:1.95-bookworm
ARG DEBIAN=debian:bookworm-slim

FROM ${RUST} AS source
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p framewake-scheduler --bins \
 && mkdir /out \
 && cp target/release/framewake-scheduler target/release/framewake /out/

FROM scratch AS prebuilt
ARG TARGETARCH
COPY dist/${TARGETARCH}/framewake-scheduler dist/${TARGETARCH}/framewake /out/

FROM ${BUILT} AS built

FROM ${DEBIAN}
LABEL org.opencontainers.image.title="framewake-scheduler" \
      org.opencontainers.image.description="The scheduler of Framewake, a render farm" \
      org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008 # Debian keeps one version of each in a release.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir --mode=0770 /data \
 && chown 65532:0 /data
COPY --from=built /out/ /usr/local/bin/
ENV FRAMEWAKE_DATA=/data \
    FRAMEWAKE_LISTEN=0.0.0.0:7700
VOLUME /data
EXPOSE 7700
# Any other of group 0 does as well.
USER 65532:0
# It finishes what was asked, and leaves the database as one file.
STOPSIGNAL SIGTERM
ENTRYPOINT ["framewake-scheduler"]
