package command

import (
	"os"
	"runtime"
	"sort"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var diagCommands = []Command{
	{Name: "ping", Flags: V1 | Quiet, Run: func(*Ctx) error { return nil }, Help: "Answers."},
	{Name: "buildInfo", Aliases: []string{"buildinfo"}, Run: runBuildInfo, Help: "Shows versions and build options."},
	{Name: "hostInfo", Flags: AdminOnly, Run: runHostInfo, Help: "Describes the machine."},
	{Name: "getCmdLineOpts", Flags: AdminOnly, Run: runGetCmdLineOpts, Help: "Shows how the server was started."},
	{Name: "getLog", Flags: AdminOnly, Run: runGetLog, Help: "Shows the newest log lines; {getLog: '*'} lists the logs."},
	{Name: "connectionStatus", Flags: V1, Run: runConnectionStatus, Args: []Arg{{"showPrivileges", TBoolLike, false}}, Help: "Shows who is authenticated on this connection."},
	{Name: "logout", Run: func(*Ctx) error { return nil }, Help: "Ends the authentication of a connection; there is none to end."},
	{Name: "whatsmyuri", Run: func(c *Ctx) error { c.Reply.Str("you", c.Client.RemoteAddr()); return nil }, Help: "Shows the client's address."},
	{Name: "listCommands", Run: runListCommands, Help: "Lists all commands."},
	{Name: "features", Run: runFeatures, Args: []Arg{{"oidReset", TBoolLike, false}}, Help: "Shows features of the server's scripting."},
	{Name: "serverStatus", Flags: AnyArgs, Run: runServerStatus, Help: "Shows figures of all parts; a section is left out with {section: 0}."},
	{Name: "top", Flags: AdminOnly, Run: runTop, Help: "Shows time and operations by collection."},
	{Name: "isdbgrid", Flags: Unbuilt, Note: "this server is not a router", Help: "Tells a router from a server."},
}

func runBuildInfo(c *Ctx) error {
	n := c.Node.Build
	b := c.Reply
	b.Str("version", n.MongoVersion).Str("gitVersion", n.GitVersion).Array("modules").End()
	b.Str("allocator", "go").Str("javascriptEngine", "none").Str("sysInfo", "deprecated")
	b.Array("versionArray")
	for _, part := range versionArray(n.MongoVersion) {
		b.Int32("", part)
	}
	b.End()
	b.Doc("openssl").Str("running", "Go crypto/tls").Str("compiled", "Go crypto/tls").End()
	b.Doc("buildEnvironment").Str("distmod", "").Str("distarch", runtime.GOARCH).Str("cc", n.GoVersion).Str("target_arch", runtime.GOARCH).Str("target_os", runtime.GOOS).End()
	b.Int32("bits", 64).Bool("debug", false).Int32("maxBsonObjectSize", MaxBSONObjectSize)
	b.Any("storageEngines", []string{"cairn"})
	b.Doc("cairn").Str("version", n.Version).Str("goVersion", n.GoVersion).End()
	return nil
}

func versionArray(v string) []int32 {
	out := make([]int32, 0, 4)
	for _, p := range strings.SplitN(v, ".", 3) {
		n := int32(0)
		for _, r := range p {
			if r < '0' || r > '9' {
				break
			}
			n = n*10 + r - '0'
		}
		out = append(out, n)
	}
	return append(out, 0)
}

func runHostInfo(c *Ctx) error {
	b := c.Reply
	b.Doc("system").Date("currentTime", bson.NewDateTime(c.Node.Clock())).Str("hostname", c.Node.Host.Hostname).Int32("cpuAddrSize", 64)
	mem := totalMemoryMB()
	b.IntOrLong("memSizeMB", mem).IntOrLong("memLimitMB", mem).Int32("numCores", int32(runtime.NumCPU())).
		Int32("numCoresAvailableToProcess", int32(runtime.GOMAXPROCS(0))).Str("cpuArch", cpuArch()).Bool("numaEnabled", false).End()
	b.Doc("os").Str("type", osType()).Str("name", osName()).Str("version", "Kernel "+kernelVersion()).End()
	b.Doc("extra").Str("versionString", kernelVersion()).IntOrLong("pageSize", int64(os.Getpagesize())).End()
	return nil
}

func cpuArch() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

func osType() string {
	if runtime.GOOS == "linux" {
		return "Linux"
	}
	return runtime.GOOS
}

// procLine returns the value behind prefix in a file of /proc or /etc, "" elsewhere.
func procLine(file, prefix string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for _, l := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(l, prefix); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func totalMemoryMB() int64 { return leadingInt(procLine("/proc/meminfo", "MemTotal:")) >> 10 }

func leadingInt(s string) (n int64) {
	for _, r := range s {
		if r < '0' || r > '9' {
			break
		}
		n = n*10 + int64(r-'0')
	}
	return n
}

func osName() string { return strings.Trim(procLine("/etc/os-release", "PRETTY_NAME="), `"`) }

func kernelVersion() string {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

func runGetCmdLineOpts(c *Ctx) error {
	c.Reply.Any("argv", c.Node.CmdLine.Argv)
	parsed := c.Node.CmdLine.Parsed
	if parsed == nil {
		parsed = bson.Empty
	}
	c.Reply.AppendDoc("parsed", parsed)
	return nil
}

func runGetLog(c *Ctx) error {
	_, v := c.first()
	if v.Type != bson.TypeString {
		return mongoerr.New(mongoerr.TypeMismatch, "Argument to getLog must be of type String; found %s", v.Type)
	}
	switch v.Str() {
	case "*":
		c.Reply.Any("names", []string{"global", "startupWarnings"})
	case "global":
		lines, total := c.Node.LogRing.Lines()
		c.Reply.IntOrLong("totalLinesWritten", total).Any("log", lines)
	case "startupWarnings":
		return c.startupWarnings()
	default:
		return mongoerr.New(mongoerr.OperationFailed, "No log named '%s'", v.Str())
	}
	return nil
}

// startupWarnings writes the warnings of this start as lines of MongoDB's log, which the
// shell takes apart.
func (c *Ctx) startupWarnings() error {
	c.Reply.IntOrLong("totalLinesWritten", int64(len(c.Node.Warnings))).Array("log")
	at := bson.D("$date", c.Node.Host.Started.Format("2006-01-02T15:04:05.000-07:00"))
	for _, w := range c.Node.Warnings {
		line, err := extjson.Marshal(bson.D("t", at, "s", "W", "c", "CONTROL", "id", w.ID, "ctx", "initandlisten", "msg", w.Message, "tags", []string{"startupWarnings"}), extjson.Relaxed)
		if err != nil {
			return err
		}
		c.Reply.Str("", string(line))
	}
	c.Reply.End()
	return nil
}

func runConnectionStatus(c *Ctx) error {
	b := c.Reply.Doc("authInfo").Array("authenticatedUsers").End().Array("authenticatedUserRoles").End()
	if c.ArgBool("showPrivileges", false) {
		b.Array("authenticatedUserPrivileges").End()
	}
	b.End()
	return nil
}

func runListCommands(c *Ctx) error {
	b := c.Reply.Doc("commands")
	for _, cmd := range c.Node.Table.Rows() {
		if cmd.Has(Unbuilt) || (cmd.Has(TestOnly) && !c.Node.Params.TestCommands()) {
			continue
		}
		b.Doc(cmd.Name).Str("help", cmd.Help).Bool("requiresAuth", !cmd.Has(Hello)).Bool("secondaryOk", !cmd.Has(Write)).
			Bool("adminOnly", cmd.Has(AdminOnly)).Any("apiVersions", apiVersions(cmd)).Any("deprecatedApiVersions", []string{}).End()
	}
	b.End()
	return nil
}

func apiVersions(cmd *Command) []string {
	if cmd.Has(V1) {
		return []string{"1"}
	}
	return []string{}
}

func runFeatures(c *Ctx) error {
	c.Reply.Doc("js").Bool("utf8", true).End().Int32("oidMachine", 0)
	return nil
}

// coreSections are the sections of serverStatus that command owns.
func (n *Node) coreSections() []StatusSection {
	return []StatusSection{
		{Name: "asserts", Build: func(b *bson.Builder) {
			a := &n.Counters.Asserts
			b.IntOrLong("regular", a.Regular.Load()).IntOrLong("warning", a.Warning.Load()).IntOrLong("msg", a.Msg.Load()).
				IntOrLong("user", a.User.Load()).IntOrLong("rollovers", a.Rollovers.Load())
		}},
		{Name: "opcounters", Build: func(b *bson.Builder) {
			c := &n.Counters
			b.Int64("insert", c.Insert.Load()).Int64("query", c.Query.Load()).Int64("update", c.Update.Load()).
				Int64("delete", c.Delete.Load()).Int64("getmore", c.GetMore.Load()).Int64("command", c.Command.Load())
		}},
		{Name: "opLatencies", Build: func(b *bson.Builder) {
			for _, l := range []struct {
				name string
				l    *Latency
			}{{"reads", &n.Counters.ReadLatency}, {"writes", &n.Counters.WriteLatency}, {"commands", &n.Counters.CommandLatency}} {
				b.Doc(l.name).Int64("latency", l.l.Micros.Load()).Int64("ops", l.l.Ops.Load()).End()
			}
		}},
		{Name: "mem", Build: func(b *bson.Builder) {
			b.Int32("bits", 64).IntOrLong("resident", leadingInt(procLine("/proc/self/status", "VmRSS:"))>>10).
				IntOrLong("virtual", leadingInt(procLine("/proc/self/status", "VmSize:"))>>10).Bool("supported", true)
		}},
		{Name: "globalLock", Build: func(b *bson.Builder) {
			b.Int64("totalTime", n.Clock().Sub(n.Host.Started).Microseconds())
			b.Doc("currentQueue").Int32("total", 0).Int32("readers", 0).Int32("writers", 0).End()
			b.Doc("activeClients").IntOrLong("total", int64(n.Ops.Count())).Int32("readers", 0).Int32("writers", 0).End()
		}},
		{Name: "extra_info", Build: func(b *bson.Builder) {
			var ms runtime.MemStats
			runtime.ReadMemStats(&ms)
			b.Str("note", "fields vary by platform").Int64("heap_usage_bytes", int64(ms.HeapAlloc)).IntOrLong("goroutines", int64(runtime.NumGoroutine()))
		}},
	}
}

func runServerStatus(c *Ctx) error {
	n, b := c.Node, c.Reply
	now := n.Clock()
	up := now.Sub(n.Host.Started)
	b.Str("host", n.Host.Hostname).Str("version", n.Build.MongoVersion).Str("process", "mongod").Any("service", []string{"shard"})
	b.Int64("pid", int64(n.Host.PID)).Double("uptime", float64(int64(up.Seconds()))).Int64("uptimeMillis", up.Milliseconds()).
		Int64("uptimeEstimate", int64(up.Seconds())).Date("localTime", bson.NewDateTime(now))
	b.Doc("cairn").Str("version", n.Build.Version).End()
	sections := append(n.coreSections(), n.Status...)
	sort.SliceStable(sections, func(i, j int) bool { return sections[i].Name < sections[j].Name })
	for _, s := range sections {
		asked := c.Arg(s.Name)
		if s.Absent || (s.OnRequest && !asked.Truthy()) || (!asked.IsMissing() && !asked.Truthy()) {
			continue
		}
		b.Doc(s.Name)
		s.Build(b)
		b.End()
	}
	if v := c.Arg("metrics"); v.IsMissing() || v.Truthy() {
		n.commandMetrics(b)
	}
	return nil
}

// commandMetrics writes metrics.commands; other rooms' metrics have sections of their own.
func (n *Node) commandMetrics(b *bson.Builder) {
	b.Doc("metrics").Doc("commands")
	var names []string
	n.Counters.PerCommand.m.Range(func(k, _ any) bool { names = append(names, k.(string)); return true })
	sort.Strings(names)
	for _, name := range names {
		p := n.Counters.PerCommand.get(name)
		if name == "<UNKNOWN>" {
			b.Int64(name, p.total.Load())
			continue
		}
		b.Doc(name).Int64("failed", p.failed.Load()).Int64("total", p.total.Load()).End()
	}
	b.End()
	n.Counters.Docs.write(b)
	if n.Metrics != nil {
		n.Metrics(b)
	}
	b.End()
}
