package storage

import "time"

// busyMeter tells whether the machine's processors have anything left. It is no use to merge
// tables early for readers if what it costs is taken from them.
type busyMeter struct {
	at          time.Time
	idle, total uint64
	busy        bool
	// times reads how much time the processors had in sum, and how much of it nobody used, in
	// any unit; it is processorTimes but in tests.
	times func() (idle, total uint64, ok bool)
}

const (
	// busyEvery is the time that is looked back on, at least: the system counts in steps of 10 ms.
	busyEvery = 200 * time.Millisecond
	// busyIdle is the part of it (one in so many) that nobody used, below which they are busy.
	// Clients that wait for each answer leave gaps: an eighth where nothing more can be done.
	busyIdle = 4
)

// look returns what was true of the time before now. Where the system does not say, they are idle.
func (m *busyMeter) look(now time.Time) bool {
	if now.Sub(m.at) < busyEvery {
		return m.busy
	}
	idle, total, ok := m.times()
	if !ok {
		return false
	}
	unused := max(idle, m.idle) - m.idle // iowait, which counts as idle, may go back
	m.busy = m.total != 0 && total > m.total && unused*busyIdle < total-m.total
	m.at, m.idle, m.total = now, idle, total
	return m.busy
}
