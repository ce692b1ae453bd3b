package session

import (
	"testing"
	"time"
)

func TestSessionsExpire(t *testing.T) {
	s := NewSessions()
	t0 := time.Unix(1000, 0)
	a, b := s.Start(t0), s.Start(t0)
	s.Touch(b, t0.Add(20*time.Minute))
	if got := s.Expire(t0.Add(29 * time.Minute)); len(got) != 0 {
		t.Fatalf("too early: %v", got)
	}
	if got := s.Expire(t0.Add(30 * time.Minute)); len(got) != 1 || got[0] != a {
		t.Fatalf("want only the unused one: %v", got)
	}
	if !s.Active(b) || s.Active(a) {
		t.Fatal("the used one stays")
	}
}
