# A static binary on an empty base image: docker build -t cairn . && docker run -p 27017:27017 -v cairn:/data/db cairn
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build && mkdir -p /out/data/db /out/tmp && cp bin/cairn /out/cairn

FROM scratch
COPY --from=build --chown=999:999 /out /
USER 999:999
VOLUME /data/db
EXPOSE 27017
# There is no authentication yet: publish the port to trusted networks only.
ENTRYPOINT ["/cairn", "serve", "--dbpath", "/data/db", "--bind_ip", "0.0.0.0"]
