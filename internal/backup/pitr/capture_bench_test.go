package pitr

import "testing"

// BenchmarkCapture measures what storing an entry costs, from the server's reply to the pack.
func BenchmarkCapture(b *testing.B) {
	ctx, e := b.Context(), newEnv(b)
	e.Say = nil
	coll := e.Client.Database("d").Collection("c")
	must(e.Full(ctx, FullOptions{}))(b)
	const n = 50_000
	total := 0
	for b.Loop() {
		b.StopTimer()
		must(coll.InsertMany(ctx, docs(n, total)))(b)
		total += n
		b.StartTimer()
		must(e.Incr(ctx, IncrOptions{}))(b)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(total), "ns/entry")
}
