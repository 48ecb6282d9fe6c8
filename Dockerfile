# The same files as `deploy/image/build archive` packs without a daemon.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake libcap2-bin
WORKDIR /source
COPY . .
RUN deploy/image/build root /image

FROM scratch
COPY --from=build /image /
USER 65532:65532
EXPOSE 80 443 10254
ENTRYPOINT ["/gateway"]
CMD ["run"]
