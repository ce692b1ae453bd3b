package s3

import (
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/fsouza/fake-gcs-server/fakestorage"

	"github.com/cairndb/cairn/internal/backup/repo/repotest"
)

// The suite on Google's API, as an emulator of it speaks it over HTTP.
func TestRepositoryOnGCS(t *testing.T) {
	address := freeAddress(t) // the emulator puts its own address into replies
	_, port, _ := net.SplitHostPort(address)
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := fakestorage.NewServerWithOptions(fakestorage.Options{Scheme: "http", Host: "127.0.0.1", Port: uint16(number), PublicHost: address, ExternalURL: "http://" + address})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Stop()
	srv.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	t.Setenv("STORAGE_EMULATOR_HOST", address)
	var n atomic.Int64
	repotest.Run(t, func(*testing.T) string { return fmt.Sprintf("gs://%s/suite/%d", bucket, n.Add(1)) })
}
