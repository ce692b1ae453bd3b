package tool

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Server is what a tool needs to know about the server it is connected to.
type Server struct {
	Version        [3]int // zero if it could not be told
	VersionString  string // "unknown" if it could not be told
	SetName        string
	Hosts          bool // hello lists hosts: a replica set member
	Primary        bool
	Mongos         bool
	Atlas          bool   // the proxy of a free or shared Atlas cluster
	Cairn          string // Cairn's own version, "" on another server
	MaxWireVersion int
	MaxBSONSize    int
}

// AtLeast compares the server's version.
func (s Server) AtLeast(major, minor, patch int) bool {
	for i, w := range [3]int{major, minor, patch} {
		if s.Version[i] != w {
			return s.Version[i] > w
		}
	}
	return true
}

// RawData says that time-series collections have no buckets collection of their own.
func (s Server) RawData() bool { return s.AtLeast(8, 3, 0) }

// Facts asks the server for its version and its place.
func Facts(ctx context.Context, c *mongo.Client) (Server, error) {
	admin := c.Database("admin")
	s := Server{VersionString: "unknown"}
	var hello struct {
		SetName  string   `bson:"setName"`
		Hosts    []string `bson:"hosts"`
		Msg      string   `bson:"msg"`
		Primary  bool     `bson:"ismaster"`
		Wire     int      `bson:"maxWireVersion"`
		MaxBSON  int      `bson:"maxBsonObjectSize"`
		Writable bool     `bson:"isWritablePrimary"`
	}
	if err := admin.RunCommand(ctx, bson.D{{Key: "isMaster", Value: 1}}).Decode(&hello); err != nil {
		return s, fmt.Errorf("asking the server for its place: %w", err)
	}
	s.SetName, s.Mongos, s.Primary = hello.SetName, hello.Msg == "isdbgrid", hello.Primary || hello.Writable
	s.Hosts, s.MaxWireVersion, s.MaxBSONSize = len(hello.Hosts) > 0, hello.Wire, hello.MaxBSON
	var info struct {
		Version string `bson:"version"`
		Cairn   struct {
			Version string `bson:"version"`
		} `bson:"cairn"`
	}
	if err := admin.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info); err == nil {
		s.VersionString, s.Cairn = info.Version, info.Cairn.Version
		s.Version, _ = ParseVersion(info.Version)
	} else if !isServerError(err) {
		return s, fmt.Errorf("asking the server for its version: %w", err)
	}
	// Only the proxy answers this one.
	err := admin.RunCommand(ctx, bson.D{{Key: "atlasVersion", Value: 1}}).Err()
	if err != nil && !isServerError(err) {
		return s, fmt.Errorf("asking the server for its place: %w", err)
	}
	s.Atlas = err == nil
	return s, nil
}

// isServerError says that the server answered, with an error.
func isServerError(err error) bool {
	var ce mongo.CommandError
	return errors.As(err, &ce) && ce.Code != 0
}

// ParseVersion reads "8.0.1" and "8.0.1-rc0".
func ParseVersion(s string) (v [3]int, err error) {
	s, _, _ = strings.Cut(s, "-")
	s, _, _ = strings.Cut(s, "+")
	parts := strings.SplitN(s, ".", 3)
	if len(parts) != 3 {
		return v, errors.New("invalid version string")
	}
	for i, p := range parts {
		if v[i], err = strconv.Atoi(p); err != nil {
			return [3]int{}, fmt.Errorf("failed to parse version number part %#q", p)
		}
	}
	return v, nil
}
