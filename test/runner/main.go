// Command runner is `make test`: it runs the checks of the source (gofmt, vet, test/lint), every
// Go test, then the end-to-end suites against bin/cairn, prints go test's own lines as they
// come, the whole output of what failed, and closes with one line "N passed, N failed".
//
// It counts a Go test as one; in the end-to-end suites each named check counts. It knows
// nothing of the server and of what the tests mean.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	race := flag.Bool("race", false, "run the Go tests with the race detector")
	tags := flag.String("tags", "", "build tags for the Go tests")
	e2e := flag.Bool("e2e", true, "run the end-to-end suites (needs bin/cairn)")
	unit := flag.Bool("unit", true, "run the checks of the source and the Go tests")
	s3 := flag.Bool("s3", true, "run the backup repository's suite against an S3 server (module test/s3)")
	flag.Parse()
	r := &runner{out: os.Stdout, start: time.Now()}
	if *unit {
		r.gofmt()
		r.command("vet", "go", "vet", "./...")
		r.command("vet e2e", "go", "vet", "-tags", "e2e", "./test/e2e/")
		args := []string{"-timeout", "15m"}
		if *race {
			args = append(args, "-race")
		}
		if *tags != "" {
			args = append(args, "-tags", *tags)
		}
		r.goTest(append(args, "./...")...)
	}
	if *unit && *s3 && !*race {
		// -mod=mod: the module follows the versions of the main one.
		r.dir = "test/s3"
		r.goTest("-mod=mod", "-count=1", "-timeout", "20m", "./...")
		r.dir = ""
	}
	if *e2e {
		r.verbose = true
		r.goTest("-tags", "e2e", "-count=1", "-timeout", "30m", "./test/e2e/")
	}
	os.Exit(r.close())
}

// runner counts what ran.
type runner struct {
	out            io.Writer
	start          time.Time
	verbose        bool   // show the output of passing tests, count subtests
	dir            string // where go test runs: the directory of another module, "" is here
	passed, failed int
	failures       []string
}

func (r *runner) fail(what string) {
	r.failed++
	r.failures = append(r.failures, what)
}

func (r *runner) gofmt() {
	out, err := exec.Command("gofmt", "-l", ".").CombinedOutput()
	var bad []string
	for _, l := range strings.Fields(string(out)) {
		if !strings.Contains(l, "node_modules") && !strings.HasPrefix(l, "data/") {
			bad = append(bad, l)
		}
	}
	switch {
	case err != nil:
		fmt.Fprintf(r.out, "gofmt: %v\n%s", err, out)
		r.fail("gofmt")
	case len(bad) > 0:
		fmt.Fprintf(r.out, "FAIL\tgofmt: run `gofmt -w %s`\n", strings.Join(bad, " "))
		r.fail("gofmt")
	default:
		fmt.Fprintln(r.out, "ok  \tgofmt")
		r.passed++
	}
}

func (r *runner) command(name string, argv ...string) {
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		fmt.Fprintf(r.out, "%sFAIL\t%s: %v\n", out, name, err)
		r.fail(name)
		return
	}
	fmt.Fprintf(r.out, "ok  \t%s\n", name)
	r.passed++
}

// event is one line of `go test -json`.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// goTest streams one `go test` run. A package that fails without a failed test (it does not
// build, it panics, it runs out of time) counts as one failure.
func (r *runner) goTest(args ...string) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir, cmd.Stderr = r.dir, r.out
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintf(r.out, "go test: %v\n", err)
		r.fail("go test")
		return
	}
	s := &stream{r: r, output: map[string][]string{}, failedIn: map[string]int{}}
	before := r.failed
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(r.out, lines.Text())
			continue
		}
		s.event(e)
	}
	if err := cmd.Wait(); err != nil && r.failed == before {
		fmt.Fprintf(r.out, "go test: %v\n", err)
		r.fail("go test " + strings.Join(args, " "))
	}
}

// stream turns events into lines and counts.
type stream struct {
	r        *runner
	output   map[string][]string // by package and test, kept until its verdict
	failedIn map[string]int
}

func (s *stream) event(e event) {
	key := e.Package + " " + e.Test
	top := !strings.Contains(e.Test, "/")
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.r.out, e.Output)
	case "output":
		s.print(key, e)
	case "pass":
		if e.Test != "" && (top || s.r.verbose) {
			s.r.passed++
		}
		delete(s.output, key)
	case "fail":
		if e.Test == "" {
			s.packageFailed(e.Package)
			return
		}
		s.failedIn[e.Package]++
		if top || s.r.verbose {
			s.r.fail(e.Package + " " + e.Test)
		}
		fmt.Fprint(s.r.out, strings.Join(s.output[key], ""))
		delete(s.output, key)
	case "skip":
		delete(s.output, key)
	}
}

// print shows the package's own lines and, in the end-to-end suites, all; a subtest's output
// waits for the verdict.
func (s *stream) print(key string, e event) {
	line := strings.TrimSpace(e.Output)
	switch {
	case strings.HasPrefix(line, "=== "):
	case s.r.verbose:
		if !strings.HasPrefix(line, "--- PASS") {
			fmt.Fprint(s.r.out, e.Output)
		}
	case e.Test == "" && (line == "PASS" || strings.Contains(e.Output, "[no test files]")):
	case e.Test == "":
		fmt.Fprint(s.r.out, e.Output)
	default:
		s.output[key] = append(s.output[key], e.Output)
	}
}

// packageFailed also shows what unfinished tests said: a panic or a time-out leaves its trace there.
func (s *stream) packageFailed(pkg string) {
	for key, out := range s.output {
		if strings.HasPrefix(key, pkg+" ") {
			fmt.Fprint(s.r.out, strings.Join(out, ""))
			delete(s.output, key)
		}
	}
	if s.failedIn[pkg] == 0 {
		s.r.fail(pkg)
	}
}

// close prints the verdict and returns the exit code.
func (r *runner) close() int {
	fmt.Fprintf(r.out, "\nin %s\n", time.Since(r.start).Round(time.Second))
	for _, f := range r.failures {
		fmt.Fprintln(r.out, "failed:", f)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed\n", r.passed, r.failed)
	if r.failed > 0 || r.passed == 0 {
		return 1
	}
	return 0
}
