// Command server is an S3-compatible server on a directory, for the tests of test/s3: the Versity
// S3 gateway with its posix backend, on a loopback port of the system's choice. Buckets are
// directories below the one given.
//
// It prints nothing but the gateway's own messages, ends on SIGTERM, and knows nothing of Cairn.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: server DIR SIDECARS ADDRESS ACCESSKEY (the secret is in S3_SECRET)")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Getenv("S3_SECRET")); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve keeps attributes of objects in files of their own: not every file system of a test machine
// has extended attributes.
func serve(ctx context.Context, dir, sidecars, address, access, secret string) error {
	attrs, err := meta.NewSideCar(sidecars)
	if err != nil {
		return err
	}
	b, err := posix.New(dir, attrs, posix.PosixOpts{SideCarDir: sidecars, NewDirPerm: 0o700})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(ctx, b, &embedgw.Config{
		RootUserAccess: access, RootUserSecret: secret, Region: "us-east-1", Ports: []string{address},
		MaxConnections: 256, MaxRequests: 256, MultipartMaxParts: 10000, Quiet: true, HealthPath: "/health",
	})
}
