package repl

import (
	"net"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func badConfig(format string, args ...any) error {
	return mongoerr.New(mongoerr.InvalidReplicaSetConfig, format, args...)
}

var configFields = []string{"_id", "version", "term", "protocolVersion", "members", "settings", "configsvr", "writeConcernMajorityJournalDefault"}

var memberFields = []string{"_id", "host", "arbiterOnly", "buildIndexes", "hidden", "priority", "tags", "secondaryDelaySecs", "slaveDelay", "votes", "horizons"}

var settingFields = []string{"chainingAllowed", "heartbeatIntervalMillis", "heartbeatTimeoutSecs", "electionTimeoutMillis", "catchUpTimeoutMillis", "catchUpTakeoverDelayMillis", "getLastErrorModes", "getLastErrorDefaults", "replicaSetId"}

func knownFields(what string, doc bson.Raw, names []string) error {
	for k := range doc.Elems() {
		known := false
		for _, n := range names {
			known = known || n == k
		}
		if !known {
			return mongoerr.New(mongoerr.UnknownField, "BSON field '%s.%s' is an unknown field.", what, k)
		}
	}
	return nil
}

// normalise checks a configuration and writes it out with every default, as
// replSetGetConfig shows it.
func (s *Set) normalise(cfg bson.Raw, setID bson.ObjectID, version int64) (bson.Raw, error) {
	if err := knownFields("ReplSetConfig", cfg, configFields); err != nil {
		return nil, err
	}
	if id := cfg.Get("_id"); id.Str() != s.name {
		return nil, badConfig("Attempting to initiate a replica set with name %s, but command line reports %s; rejecting", id.Str(), s.name)
	}
	if v := cfg.Get("protocolVersion"); !v.IsMissing() {
		if n, _ := v.AsInt64(); n != 1 {
			return nil, badConfig("Support for replication protocol version %d was removed in MongoDB 4.0", n)
		}
	}
	if cfg.Get("configsvr").Truthy() {
		return nil, badConfig("Nodes being used for config servers must be started with the --configsvr flag")
	}
	members := cfg.Get("members").Doc()
	if n := members.Len(); n != 1 {
		if n == 0 {
			return nil, badConfig("Replica set configuration must contain at least 1 member(s)")
		}
		return nil, badConfig("this version of Cairn supports replica sets of one member; the configuration has %d", n)
	}
	_, first := members.First()
	b := bson.NewBuilder(nil)
	b.Str("_id", s.name).IntOrLong("version", version).IntOrLong("term", s.term).Array("members")
	if err := s.member(b, first.Doc()); err != nil {
		return nil, err
	}
	b.End().Int64("protocolVersion", 1)
	b.Bool("writeConcernMajorityJournalDefault", cfg.Get("writeConcernMajorityJournalDefault").IsMissing() || cfg.Get("writeConcernMajorityJournalDefault").Truthy())
	if err := settings(b, cfg.Get("settings").Doc(), setID); err != nil {
		return nil, err
	}
	return b.Finish(), nil
}

// member writes the one member.
func (s *Set) member(b *bson.Builder, m bson.Raw) error {
	if err := knownFields("MemberConfig", m, memberFields); err != nil {
		return err
	}
	host := m.Get("host").Str()
	if !strings.Contains(host, ":") {
		host += ":27017"
	}
	if h, port, err := net.SplitHostPort(host); err != nil || h == "" {
		return badConfig("invalid member host %q", host)
	} else if _, mine, err := net.SplitHostPort(s.Me()); err == nil && port != mine {
		return mongoerr.New(mongoerr.NodeNotFound, "No host described in new configuration with {version: 1, term: 0} for replica set %s maps to this node", s.name)
	}
	for _, bad := range []string{"arbiterOnly", "hidden"} {
		if m.Get(bad).Truthy() {
			return badConfig("the only member of a replica set cannot be %s", bad)
		}
	}
	priority, votes := 1.0, int64(1)
	if p, ok := m.Get("priority").AsFloat64(); ok {
		priority = p
	}
	if v, ok := m.Get("votes").AsInt64(); ok {
		votes = v
	}
	if priority <= 0 || votes != 1 {
		return badConfig("Replica set configuration must contain at least one non-arbiter member with priority > 0")
	}
	tags := m.Get("tags").Doc()
	if tags == nil {
		tags = bson.Empty
	}
	id, _ := m.Get("_id").AsInt64()
	b.Doc("").IntOrLong("_id", id).Str("host", host).Bool("arbiterOnly", false).Bool("buildIndexes", true).Bool("hidden", false).
		Double("priority", priority).AppendDoc("tags", tags).Int64("secondaryDelaySecs", 0).Int32("votes", 1).End()
	return nil
}

// settings writes the settings, MongoDB's defaults where the configuration has none.
func settings(b *bson.Builder, in bson.Raw, setID bson.ObjectID) error {
	if err := knownFields("ReplSetConfigSettings", in, settingFields); err != nil {
		return err
	}
	b.Doc("settings")
	for _, d := range []struct {
		name string
		def  any
	}{{"chainingAllowed", true}, {"heartbeatIntervalMillis", 2000}, {"heartbeatTimeoutSecs", 10}, {"electionTimeoutMillis", 10000},
		{"catchUpTimeoutMillis", -1}, {"catchUpTakeoverDelayMillis", 30000}, {"getLastErrorModes", bson.Empty},
		{"getLastErrorDefaults", bson.D("w", 1, "wtimeout", 0)}} {
		if v := in.Get(d.name); !v.IsMissing() {
			b.Append(d.name, v)
		} else {
			b.Any(d.name, d.def)
		}
	}
	b.ObjectID("replicaSetId", setID).End()
	return nil
}
