//go:build deps

// Package deps keeps go.mod complete while the rooms are being built.
package deps

import (
	_ "github.com/cockroachdb/apd/v3"
	_ "github.com/cockroachdb/datadriven"
	_ "github.com/cockroachdb/pebble/v2"
	_ "github.com/cockroachdb/pebble/v2/bloom"
	_ "github.com/cockroachdb/pebble/v2/sstable"
	_ "github.com/cockroachdb/pebble/v2/vfs"
	_ "github.com/cockroachdb/pebble/v2/vfs/errorfs"
	_ "github.com/dlclark/regexp2"
	_ "github.com/golang/snappy"
	_ "github.com/google/uuid"
	_ "github.com/klauspost/compress/snappy"
	_ "github.com/klauspost/compress/zlib"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "go.mongodb.org/mongo-driver/v2/bson"
	_ "go.mongodb.org/mongo-driver/v2/mongo"
	_ "go.mongodb.org/mongo-driver/v2/mongo/options"
	_ "go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	_ "go.mongodb.org/mongo-driver/v2/mongo/readpref"
	_ "go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	_ "go.yaml.in/yaml/v3"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/text/collate"
	_ "golang.org/x/text/unicode/norm"
	_ "pgregory.net/rapid"
)
