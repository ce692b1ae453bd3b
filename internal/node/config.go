package node

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/command"
	"github.com/cairndb/cairn/internal/storage"
)

// Config is everything that a node can be told. The zero value is a standalone on
// ./data that listens on 127.0.0.1:27017.
type Config struct {
	// DBPath is the directory of the store; default "data".
	DBPath string
	// InMemory keeps the store in memory only; DBPath is then unused.
	InMemory bool
	// FS is the file system of the store; default the operating system's, or a new
	// an in-memory one with InMemory. Tests hand in crashable ones.
	FS storage.FS
	// BindIP lists the addresses to listen on; default 127.0.0.1. Names and IPv6 are allowed.
	BindIP []string
	// Port is the TCP port; default 27017. With AnyPort the system chooses one.
	Port    int
	AnyPort bool
	// NoTCP listens nowhere: the node is used through Run only.
	NoTCP bool
	// UnixSocketPrefix is the directory of the Unix socket; default /tmp. NoUnixSocket leaves it out.
	UnixSocketPrefix string
	NoUnixSocket     bool
	// MaxConns is the number of connections served at once; default 65536.
	MaxConns int
	// ReplSet names the replica set; default "" is a standalone.
	ReplSet string
	// ReplSetAutoInitiate initiates the set by itself at the first start.
	ReplSetAutoInitiate bool
	// OplogBytes bounds local.oplog.rs; default 5 % of the free disk between 990 MB
	// and 50 GB, 64 MB in memory or embedded.
	OplogBytes int64
	// OplogMinRetention keeps entries at least that long; default 0.
	OplogMinRetention time.Duration
	// CacheBytes bounds the engine's block cache and memtables; default half of the
	// memory that the process may use less 1 GB, at least 256 MB or a quarter of the limit.
	CacheBytes int64
	// Embedded chooses small defaults.
	Embedded bool
	// Parameters are --setParameter name=value pairs, in order.
	Parameters []string
	// Log receives all log lines; default text on standard error.
	Log *slog.Logger
	// LogSink holds the newest log lines, for getLog; see NewLogRing.
	LogSink *command.LogRing
	// LogLevel is what the parameter logLevel changes; nil: there is no such parameter.
	LogLevel *slog.LevelVar
	// RotateLog is what logRotate calls; nil means there is no log file.
	RotateLog func() error
	// Version, Commit stamp the binary.
	Version, Commit string
	// Argv and Parsed are what getCmdLineOpts shows.
	Argv []string
	// Clock is the wall clock; default time.Now. Tests step it.
	Clock func() time.Time
	// Backup, if set, runs beside the server and is shown in serverStatus.
	Backup Backup
	// OnShutdown is called once when the shutdown command was received; the owner then calls Close.
	OnShutdown func(force bool)
}

// Backup is a backup that runs in the server's process as a client of it. cmd hands it
// in, so that programs that embed a server link no object store's libraries.
type Backup interface {
	// Start begins to back up the server at a connection string; it returns at once.
	Start(uri string)
	// Status appends the fields of serverStatus's section "backup".
	Status(b *bson.Builder)
	// Close ends it: what was captured is stored. The server still answers meanwhile.
	Close() error
}

// Default sizes.
const (
	DefaultPort         = 27017
	defaultMaxConns     = 65536
	minOplog, maxOplog  = 990 << 20, 50 << 30
	smallOplog          = 64 << 20
	minCache            = 256 << 20
	embeddedCache       = 64 << 20
	fallbackTotalMemory = 4 << 30
)

// EnsureDefaults fills what is not set.
func (c *Config) EnsureDefaults() {
	if c.DBPath == "" {
		c.DBPath = "data"
	}
	if c.FS == nil {
		c.FS = storage.DiskFS()
		if c.InMemory {
			c.FS = storage.NewMemFS()
		}
	}
	if c.InMemory {
		c.DBPath = "/cairn" // a name inside the memory file system
	}
	if len(c.BindIP) == 0 {
		c.BindIP = []string{"127.0.0.1"}
	}
	if c.Port == 0 && !c.AnyPort {
		c.Port = DefaultPort
	}
	if c.UnixSocketPrefix == "" {
		c.UnixSocketPrefix = "/tmp"
	}
	if c.MaxConns == 0 {
		c.MaxConns = defaultMaxConns
	}
	if c.OplogBytes == 0 {
		c.OplogBytes = c.defaultOplog()
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = defaultCache(MemoryLimit())
		if c.Embedded {
			c.CacheBytes = min(c.CacheBytes, embeddedCache)
		}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if c.Version == "" {
		c.Version = "dev"
	}
}

func (c *Config) defaultOplog() int64 {
	if c.InMemory || c.Embedded {
		return smallOplog
	}
	dir := c.DBPath
	for {
		if u, err := c.FS.GetDiskUsage(dir); err == nil {
			return min(max(int64(u.AvailBytes/20), minOplog), maxOplog)
		}
		up := filepath.Dir(dir)
		if up == dir {
			return minOplog
		}
		dir = up
	}
}

// Validate refuses values that cannot work.
func (c *Config) Validate() error {
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("port %d is not between 0 and 65535", c.Port)
	}
	if c.ReplSetAutoInitiate && c.ReplSet == "" {
		return errors.New("--replSetAutoInitiate needs --replSet NAME")
	}
	if strings.ContainsAny(c.ReplSet, "/ ") {
		return fmt.Errorf("replica set name %q: no spaces, no hosts behind a slash", c.ReplSet)
	}
	if c.MaxConns < 1 {
		return fmt.Errorf("maxConns %d is below 1", c.MaxConns)
	}
	if c.CacheBytes < 8<<20 {
		return fmt.Errorf("a cache of %d bytes is too small: at least 8 MB", c.CacheBytes)
	}
	return nil
}

// hostPort is how the members of the set name this node.
func (c *Config) hostPort(port int) string {
	host := "localhost"
	if ip := c.BindIP[0]; ip != "127.0.0.1" && ip != "localhost" && ip != "::1" {
		host = ip
		if ip == "0.0.0.0" || ip == "::" || ip == "*" {
			if h, err := os.Hostname(); err == nil {
				host = h
			}
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// MemoryLimit is the memory that this process may use: the tightest cgroup limit
// above it, or the machine's memory.
func MemoryLimit() int64 {
	limit := int64(fallbackTotalMemory)
	if kb := fieldOf("/proc/meminfo", "MemTotal:"); kb > 0 {
		limit = kb << 10
	}
	for _, f := range cgroupLimitFiles() {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 {
			limit = min(limit, n)
		}
	}
	return limit
}

// cgroupLimitFiles names the limit files from this process's group up to the root.
func cgroupLimitFiles() (files []string) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for _, line := range strings.Split(string(data), "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		root, name := "/sys/fs/cgroup", "memory.max"
		if parts[0] != "0" {
			if !strings.Contains(","+parts[1]+",", ",memory,") {
				continue
			}
			root, name = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for dir := parts[2]; ; dir = filepath.Dir(dir) {
			files = append(files, filepath.Join(root, dir, name))
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return files
}

func fieldOf(file, prefix string) int64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for _, l := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(l, prefix); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// defaultCache follows MongoDB's rule, and leaves room for everything else where
// the limit is small.
func defaultCache(limit int64) int64 {
	cache := max((limit-1<<30)/2, minCache)
	return min(cache, limit/4+(limit/4)*b2i(limit > 4<<30))
}

// hoursOf is h hours, or the longest duration that there is.
func hoursOf(h float64) time.Duration {
	if h >= float64(math.MaxInt64/int64(time.Hour)) {
		return math.MaxInt64
	}
	return time.Duration(h * float64(time.Hour))
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
