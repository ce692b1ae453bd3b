package entry

import (
	"fmt"
	"sort"

	"github.com/cairndb/cairn/internal/bson"
)

// Unit is what takes effect at once: one entry, or the operations of one transaction.
type Unit struct {
	// OpTime is when: the entry's, or the transaction's commit.
	OpTime OpTime
	// First is the place of the first entry of a transaction; else OpTime.
	First OpTime
	Wall  bson.DateTime
	// Txn tells that Entries are the operations of a transaction, each with OpTime.
	Txn     bool
	Entries []Entry
}

// Bytes is how much the unit's entries have.
func (u *Unit) Bytes() (n int) {
	for i := range u.Entries {
		n += len(u.Entries[i].Raw)
	}
	return n
}

// Assembler joins the entries of transactions. The zero value is ready; it is used by
// one goroutine. It holds the entries of transactions that are not finished, copied.
type Assembler struct {
	open map[txnKey]*chain
	// Aborted counts the transactions that were aborted after entries of them were seen.
	Aborted int64
}

type txnKey struct {
	lsid   string
	number int64
}

// chain is a transaction that is not finished.
type chain struct {
	first, last OpTime
	prepared    bool
	ops         []Entry
}

// OpenTxn is a transaction that is not finished.
type OpenTxn struct {
	First, Last OpTime
	Prepared    bool // waits for its commitTransaction or abortTransaction
	Ops         int
}

func (o OpenTxn) String() string {
	state := "unfinished"
	if o.Prepared {
		state = "prepared"
	}
	return fmt.Sprintf("%s transaction of %d operations since %d:%d", state, o.Ops, o.First.TS.Seconds(), o.First.TS.Increment())
}

// Add takes the next entry and returns what takes effect with it: at most one unit,
// none while a transaction is not complete or after it was aborted. What it returns
// aliases e.
func (a *Assembler) Add(e Entry) ([]Unit, error) {
	if !e.Kind.IsTxn() {
		return []Unit{{OpTime: e.OpTime, First: e.OpTime, Wall: e.Wall, Entries: []Entry{e}}}, nil
	}
	key := txnKey{string(e.LSID), e.TxnNumber}
	c := a.open[key]
	if err := a.check(&e, c); err != nil {
		return nil, err
	}
	switch e.Kind {
	case TxnAbort:
		if c != nil {
			a.Aborted++
			delete(a.open, key)
		}
		return nil, nil
	case TxnCommit:
		delete(a.open, key)
		return unit(&e, c.first, c.ops), nil
	}
	ops, err := e.Ops()
	if err != nil {
		return nil, err
	}
	if e.Kind == TxnWhole {
		if c == nil {
			return unit(&e, e.OpTime, ops), nil
		}
		delete(a.open, key)
		return unit(&e, c.first, append(c.ops, ops...)), nil
	}
	a.hold(key, &e, c)
	return nil, nil
}

// hold keeps a part whose end is to come.
func (a *Assembler) hold(key txnKey, e *Entry, c *chain) {
	if c == nil {
		c = &chain{first: e.OpTime}
		if a.open == nil {
			a.open = map[txnKey]*chain{}
		}
		a.open[key] = c
	}
	own := *e
	own.O = e.O.Clone()
	ops, err := own.Ops()
	if err != nil {
		panic("entry: operations that were read once cannot be read again: " + err.Error())
	}
	c.ops = append(c.ops, ops...)
	c.last = e.OpTime
	c.prepared = e.Kind == TxnPrepare
}

// check sees that e continues the chain.
func (a *Assembler) check(e *Entry, c *chain) error {
	fail := func(why string) error { return &ChainError{OpTime: e.OpTime, Prev: e.PrevOpTime, Why: why} }
	begins := !e.HasPrev || e.PrevOpTime.IsNull()
	switch {
	case c == nil && e.Kind == TxnAbort:
		return nil // nothing of it was seen, nothing of it counts
	case c == nil && e.Kind == TxnCommit:
		return fail("commits what was prepared before the first entry here")
	case c == nil && !begins:
		return fail("continues entries that are not here")
	case c == nil:
		return nil
	case e.Kind == TxnCommit && !c.prepared:
		return fail("commits a transaction that was not prepared")
	case c.prepared && e.Kind != TxnCommit && e.Kind != TxnAbort:
		return fail("continues a transaction that was prepared already")
	case begins && e.Kind != TxnAbort && e.Kind != TxnCommit:
		return fail("begins again a transaction that is not finished")
	case e.HasPrev && !begins && e.PrevOpTime != c.last:
		return fail(fmt.Sprintf("does not continue the one seen last, %d:%d", c.last.TS.Seconds(), c.last.TS.Increment()))
	}
	return nil
}

func unit(e *Entry, first OpTime, ops []Entry) []Unit {
	for i := range ops {
		ops[i].OpTime, ops[i].Wall = e.OpTime, e.Wall
	}
	return []Unit{{OpTime: e.OpTime, First: first, Wall: e.Wall, Txn: true, Entries: ops}}
}

// Open is the place of the oldest entry that is held: who wants to go on later begins there.
func (a *Assembler) Open() (oldest OpTime, ok bool) {
	for _, c := range a.open {
		if !ok || c.first.Compare(oldest) < 0 {
			oldest, ok = c.first, true
		}
	}
	return oldest, ok
}

// Unfinished lists the transactions that have no end yet, oldest first: at the end of a
// slice their operations have no effect.
func (a *Assembler) Unfinished() []OpenTxn {
	var all []OpenTxn
	for _, c := range a.open {
		all = append(all, OpenTxn{c.first, c.last, c.prepared, len(c.ops)})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].First.Compare(all[j].First) < 0 })
	return all
}
