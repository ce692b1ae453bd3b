package match

import "github.com/cairndb/cairn/internal/eval/collate"

// setCollation makes the comparisons below n compare under c. A comparison with a string
// whose order c cannot tell is refused.
func setCollation(n Node, c *collate.Collator) error {
	switch n := n.(type) {
	case *And:
		return setCollations(n.Kids, c)
	case *Or:
		return setCollations(n.Kids, c)
	case *Nor:
		return setCollations(n.Kids, c)
	case *Not:
		return setCollation(n.Kid, c)
	case *ElemMatchObject:
		return setCollation(n.Kid, c)
	case *ElemMatchValue:
		return setCollations(n.Kids, c)
	case *Comparison:
		if c.Err() != nil && collate.HasString(n.Value) {
			return c.Err()
		}
		n.Collation = c
	case *In:
		for _, v := range n.Values {
			if c.Err() != nil && collate.HasString(v) {
				return c.Err()
			}
		}
		n.Collation, n.keys = c, nil
		n.prepare()
	}
	return nil
}

func setCollations(list []Node, c *collate.Collator) error {
	for _, n := range list {
		if err := setCollation(n, c); err != nil {
			return err
		}
	}
	return nil
}
