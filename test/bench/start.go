package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	// startTimeout is how long a server may take from its start to its first answer.
	startTimeout = time.Minute
	// startRounds is how often the start is measured; the last server stays for the other rows.
	startRounds = 5
)

// server is a process that this program started on a temporary directory.
type server struct {
	cmd    *exec.Cmd
	exited chan struct{}
	dir    string
	uri    string
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop ends the server politely, then not, and removes its directory.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	_ = os.RemoveAll(s.dir)
}

// startRow measures the time from the start of the process on an empty directory to the first
// answered ping, several times, and returns the last server running.
func startRow(ctx context.Context, command string, p *progress) (*server, *result, error) {
	var times []time.Duration
	var srv *server
	for i := range startRounds {
		p.show("start %d …", i+1)
		if srv != nil {
			srv.stop()
		}
		var took time.Duration
		var err error
		if srv, took, err = launch(ctx, command); err != nil {
			return nil, &result{Name: "start", Err: err.Error()}, err
		}
		times = append(times, took)
	}
	p.clear()
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	res := &result{Name: "start", Unit: "operations", Ops: startRounds, Units: startRounds, Elapsed: times[startRounds/2],
		P50: times[startRounds/2], P99: times[startRounds-1], Max: times[startRounds-1], Note: "start of the process to first ping, empty directory"}
	res.Rate = 1 / times[startRounds/2].Seconds()
	res.CPU, _ = cpuTime(srv.pid())
	res.RSS, res.PeakRSS = memory(srv.pid())
	return srv, res, nil
}

func launch(ctx context.Context, command string) (*server, time.Duration, error) {
	port, err := freePort()
	if err != nil {
		return nil, 0, err
	}
	dir, err := os.MkdirTemp("", "cairn-bench-")
	if err != nil {
		return nil, 0, err
	}
	argv := strings.Fields(strings.NewReplacer("{port}", strconv.Itoa(port), "{dir}", dir).Replace(command))
	log, err := os.Create(filepath.Join(dir, "bench-server.log"))
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	s := &server{cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{}), dir: dir,
		uri: fmt.Sprintf("mongodb://127.0.0.1:%d/", port)}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, 0, err
	}
	go func() { _ = s.cmd.Wait(); close(s.exited) }()
	if err := s.awaitPing(ctx, port); err != nil {
		out, _ := os.ReadFile(log.Name())
		s.stop()
		return nil, 0, fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return s, time.Since(begin), nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// awaitPing tries every millisecond, without a driver, whose own start would be measured too.
func (s *server) awaitPing(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := pingOnce(port)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer in %s: %w", startTimeout, err)
		case <-s.exited:
			return fmt.Errorf("it ended by itself: %v", s.cmd.ProcessState)
		case <-tick.C:
		}
	}
}

// pingOnce sends {ping: 1} as one OP_MSG and reads the reply's header.
func pingOnce(port int) error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	doc, err := bson.Marshal(bson.D{{Key: "ping", Value: int32(1)}, {Key: "$db", Value: "admin"}})
	if err != nil {
		return err
	}
	const opMsg = 2013
	msg := make([]byte, 21, 21+len(doc))
	binary.LittleEndian.PutUint32(msg[0:], uint32(21+len(doc)))
	binary.LittleEndian.PutUint32(msg[4:], 1)
	binary.LittleEndian.PutUint32(msg[12:], opMsg)
	if _, err := conn.Write(append(msg, doc...)); err != nil {
		return err
	}
	var head [16]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if op := binary.LittleEndian.Uint32(head[12:]); op != opMsg {
		return fmt.Errorf("the answer to ping is of kind %d", op)
	}
	return nil
}
