package storage

import "bytes"

// mergedCursor lays a write set over a base cursor. The write set may change
// under it: the cursor keeps its place by key and finds it again.
type mergedCursor struct {
	base         Cursor
	ws           *WriteSet
	lower, upper []byte

	x     *wsIndex
	gen   uint64
	place wsPlace // next candidate of the write set in the direction of travel
	// baseOK: the base stands on its next candidate. At the current key both
	// candidates may stand on it.
	baseOK  bool
	forward bool
	onWS    bool // the current pair is the write set's
	valid   bool
	key     []byte
	value   []byte
	err     error
}

func newMergedCursor(base Cursor, ws *WriteSet, lower, upper []byte) *mergedCursor {
	return &mergedCursor{base: base, ws: ws, lower: bytes.Clone(lower), upper: bytes.Clone(upper)}
}

func (c *mergedCursor) First() bool {
	if !c.refresh() {
		return false
	}
	c.forward = true
	c.baseOK = c.base.First()
	c.place = c.x.seekGE(c.lower)
	return c.settle()
}

func (c *mergedCursor) SeekGE(key []byte) bool {
	if c.lower != nil && bytes.Compare(key, c.lower) < 0 {
		return c.First()
	}
	if !c.refresh() {
		return false
	}
	c.forward = true
	c.baseOK = c.base.SeekGE(key)
	c.place = c.x.seekGE(key)
	return c.settle()
}

func (c *mergedCursor) Last() bool {
	if !c.refresh() {
		return false
	}
	c.forward = false
	c.baseOK = c.base.Last()
	if c.upper == nil {
		c.place = c.x.prev(wsPlace{len(c.x.blocks), 0})
	} else {
		c.place = c.x.prev(c.x.seekGE(c.upper))
	}
	return c.settle()
}

func (c *mergedCursor) SeekLT(key []byte) bool {
	if c.upper != nil && bytes.Compare(key, c.upper) > 0 {
		return c.Last()
	}
	if !c.refresh() {
		return false
	}
	c.forward = false
	c.baseOK = c.base.SeekLT(key)
	c.place = c.x.prev(c.x.seekGE(key))
	return c.settle()
}

func (c *mergedCursor) Next() bool {
	if !c.valid {
		return false
	}
	gen := c.gen
	if !c.refresh() {
		return false
	}
	switch {
	case !c.forward:
		// The base may be anywhere at or before the current key.
		c.forward = true
		c.hold()
		c.baseOK = c.base.SeekGE(c.key)
		c.place = c.x.seekGE(c.key)
	case gen != c.gen:
		c.place = c.x.seekGE(c.key)
	}
	c.leave()
	return c.settle()
}

func (c *mergedCursor) Prev() bool {
	if !c.valid {
		return false
	}
	gen := c.gen
	if !c.refresh() {
		return false
	}
	switch {
	case c.forward:
		c.forward = false
		c.hold()
		c.baseOK = c.base.SeekLT(c.key)
		c.place = c.x.prev(c.x.seekGE(c.key))
		return c.settle()
	case gen != c.gen:
		c.place = c.x.prev(c.x.seekGE(c.key))
		if c.baseOK && bytes.Equal(c.base.Key(), c.key) {
			c.baseOK = c.base.Prev()
		}
		return c.settle()
	}
	c.leave()
	return c.settle()
}

// hold copies the current key so that it outlives a move of the base.
func (c *mergedCursor) hold() {
	if !c.onWS {
		c.key = bytes.Clone(c.key)
	}
}

// leave moves every candidate off the current key.
func (c *mergedCursor) leave() {
	atWS := c.x.valid(c.place) && bytes.Equal(c.x.at(c.place).key, c.key)
	atBase := c.baseOK && bytes.Equal(c.base.Key(), c.key)
	if atWS {
		c.stepWS()
	}
	if atBase {
		c.stepBase()
	}
}

func (c *mergedCursor) stepWS() {
	if c.forward {
		c.place = c.x.next(c.place)
	} else {
		c.place = c.x.prev(c.place)
	}
}

func (c *mergedCursor) stepBase() {
	if c.forward {
		c.baseOK = c.base.Next()
	} else {
		c.baseOK = c.base.Prev()
	}
}

// wsOK reports whether the write set's candidate is inside the bounds.
func (c *mergedCursor) wsOK() bool {
	if !c.x.valid(c.place) {
		return false
	}
	k := c.x.at(c.place).key
	if c.forward {
		return c.upper == nil || bytes.Compare(k, c.upper) < 0
	}
	return c.lower == nil || bytes.Compare(k, c.lower) >= 0
}

// settle makes the nearer candidate the current pair, passing over what the
// write set deleted.
func (c *mergedCursor) settle() bool {
	for {
		wsOK := c.wsOK()
		if !c.baseOK && (!wsOK || c.base.Err() != nil) {
			return c.end()
		}
		cmp := -1 // the write set's candidate is first
		if !wsOK {
			cmp = 1
		} else if c.baseOK {
			cmp = bytes.Compare(c.x.at(c.place).key, c.base.Key())
			if !c.forward {
				cmp = -cmp
			}
		}
		if cmp > 0 {
			if len(c.x.ranges) > 0 && c.x.hides(c.base.Key()) {
				c.stepBase()
				continue
			}
			c.valid, c.onWS, c.key, c.value = true, false, c.base.Key(), nil
			return true
		}
		e := c.x.at(c.place)
		if e.deleted {
			c.stepWS()
			if cmp == 0 {
				c.stepBase()
			}
			continue
		}
		c.valid, c.onWS, c.key, c.value = true, true, e.key, e.value
		return true
	}
}

func (c *mergedCursor) end() bool {
	c.valid, c.key, c.value = false, nil, nil
	if c.err == nil {
		c.err = c.base.Err()
	}
	return false
}

// refresh brings the write set's index up to date.
func (c *mergedCursor) refresh() bool {
	if c.err != nil {
		c.valid = false
		return false
	}
	x, err := c.ws.index()
	if err != nil {
		c.err = err
		c.valid = false
		return false
	}
	c.x, c.gen = x, c.ws.gen
	return true
}

func (c *mergedCursor) Key() []byte { return c.key }

func (c *mergedCursor) Value() []byte {
	if c.valid && !c.onWS {
		return c.base.Value()
	}
	return c.value
}

func (c *mergedCursor) Err() error {
	if c.err != nil {
		return c.err
	}
	return c.base.Err()
}

func (c *mergedCursor) Close() error { return c.base.Close() }
