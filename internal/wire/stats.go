package wire

import "sync/atomic"

// CompressionStats counts the bytes that went through one compressor.
type CompressionStats struct {
	compressIn, compressOut, decompressIn, decompressOut atomic.Int64
}

// Compressed counts one compressed message: its bytes before and after.
func (s *CompressionStats) Compressed(in, out int) {
	s.compressIn.Add(int64(in))
	s.compressOut.Add(int64(out))
}

// Decompressed counts one decompressed message: its bytes before and after.
func (s *CompressionStats) Decompressed(in, out int) {
	s.decompressIn.Add(int64(in))
	s.decompressOut.Add(int64(out))
}

// Load returns the sums: bytes into and out of the compressor and the decompressor.
func (s *CompressionStats) Load() (compressIn, compressOut, decompressIn, decompressOut int64) {
	return s.compressIn.Load(), s.compressOut.Load(), s.decompressIn.Load(), s.decompressOut.Load()
}
